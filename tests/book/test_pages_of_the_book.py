"""The pages: well-formed, complete, escaped, with the right counts, and the same every time."""

import importlib
import json
import re
from html.parser import HTMLParser
from urllib.parse import urlparse

import pytest
from toys import OTHER, finish, toy, verdict

from lpml import commands
from lpml.book.contents import collect, duration
from lpml.book.describing import describe
from lpml.book.results import read_result
from lpml.book.writing import write
from lpml.runs import Paper

VOID = {"meta", "img", "br", "hr", "link", "input"}
NASTY = 'a <b>bold</b> | "claim" & <script>alert(1)</script> of ||w||'


class Reader(HTMLParser):
    """Checks that every element is closed in its turn; keeps elements and texts."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((tuple(self.open) or ("",), data))

    def attributes(self, tag, name):
        return [attrs[name] for each, attrs in self.elements if each == tag and name in attrs]


@pytest.fixture
def written(tmp_path):
    """Three experiments of two papers, one of them at two sizes, and one that is missing."""
    runs = tmp_path / "runs"
    finish(
        runs / "one",
        verdict("holds", "first"),
        verdict("fails", NASTY, measured="1 < 2 & 3"),
        verdict("undecided"),
        pictures=("figure", "more"),
        seconds=(30.0, 40.0),
    )
    finish(runs / "one-paper", verdict(size="paper", paper="3.1 <t>"), seconds=(4000.0, 2000.0))
    finish(runs / "two", verdict("fails", "gone"), seconds=(1.0, None))
    finish(runs / "tiny-tiny", verdict("holds", size="tiny"))
    doc = "A claim <of> *one*.\n\nSee `<code>`.\n\n    a command\n\nWhere it fails: so and so."
    modules = {
        "one": toy("one", doc=doc),
        "three": toy("three"),
        "tiny": toy("tiny", paper=OTHER),
        "two": toy("two", paper=OTHER),
    }
    descriptions = [describe(name, module) for name, module in modules.items()]
    result = write(descriptions, runs, tmp_path / "docs", reasons={"three": "no <time>"})
    return tmp_path / "docs", result, descriptions


def web(docs):
    return Reader((docs / "reproduction.html").read_text(encoding="utf-8"))


def rows(docs, heading):
    """The rows of the table under a heading of the Markdown page, as lists of cells."""
    text = (docs / "REPRODUCTION.md").read_text(encoding="utf-8")
    part = re.split(r"^#+ ", text.partition(f"## {heading}\n")[2], flags=re.MULTILINE)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_what_is_shown_and_what_is_missing(written):
    docs, result, _ = written
    assert result.shown == ["one", "one-paper", "two"]  # tiny results stay apart
    assert result.missing == ["three", "tiny"]
    assert result.broken == {}
    assert [row[:2] for row in rows(docs, "Missing")] == [
        ["three", "no &lt;time>"],
        ["tiny", "not begun"],
    ]
    html = (docs / "reproduction.html").read_text(encoding="utf-8")
    assert "three is missing: no &lt;time&gt;." in html


def test_what_there_is_at_the_papers_size_is_named(written):
    docs, _, _ = written
    line = "At that largest size there are so far: one."
    assert line in (docs / "REPRODUCTION.md").read_text(encoding="utf-8").splitlines()
    assert line in [text for _, text in web(docs).texts]


def test_verdicts_are_counted_by_paper_and_by_figure(written):
    docs, _, _ = written
    assert rows(docs, "Summary") == [
        ["[A Paper](#a-paper)", "2", "1", "1", "1"],
        ["[Another Paper](#another-paper)", "0", "1", "0", "1"],
        ["all", "2", "2", "1", "2"],
    ]
    assert rows(docs, "Contents") == [
        ["[one](#one)", "default", "1", "1", "1", "70 s"],
        ["[one-paper](#one-paper)", "paper", "1", "0", "0", "1.7 h"],
        ["[two](#two)", "default", "0", "1", "0", "not recorded"],
    ]
    html = "".join(text for _, text in web(docs).texts)
    assert html.index("Claims that fail") < html.index("Contents") < html.index("A. Uthor")


def test_the_papers_number_stands_beside_ours_where_it_gives_one(written):
    docs, _, _ = written
    assert [row[2:5] for row in rows(docs, "one-paper")] == [["3.1 &lt;t>", "< 3", "1 to 2"]]
    assert {row[2] for row in rows(docs, "two")} == {"-"}
    assert "3.1 <t>" in [text for _, text in web(docs).texts]


def test_a_claim_that_fails_is_listed_with_the_papers_number(tmp_path):
    finish(tmp_path / "runs" / "one", verdict("fails", paper="3.1"), verdict("fails", "two"))
    write([describe("one", toy("one"))], tmp_path / "runs", tmp_path / "docs")
    text = (tmp_path / "docs" / "REPRODUCTION.md").read_text(encoding="utf-8")
    assert "it fell (the paper: 3.1; expected < 3; measured 1 to 2)" in text
    assert "two (expected < 3; measured 1 to 2)" in text


def test_the_web_page_is_well_formed_and_needs_nothing_from_elsewhere(written):
    docs, _, _ = written
    page = web(docs)
    assert not [tag for tag, _ in page.elements if tag in ("script", "link", "iframe")]
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for target in page.attributes("a", "href"):
        if target.startswith("#"):
            assert target[1:] in ids
        else:
            assert urlparse(target).netloc == "arxiv.org"
    assert ("html", {"lang": "en"}) in page.elements
    assert {"main", "nav", "header", "article", "table"} <= {tag for tag, _ in page.elements}
    styles = [text for path, text in page.texts if path[-1] == "style"]
    assert not re.search(r"url\(|@import", "".join(styles))


def test_pictures_are_beside_the_pages_with_size_and_words(written):
    docs, _, _ = written
    page = web(docs)
    sources = page.attributes("img", "src")
    assert len(sources) == 4
    for source in sources:
        assert (docs / source).read_bytes().startswith(b"\x89PNG")
    assert set(page.attributes("img", "width")) == {"260"}  # two inches
    assert set(page.attributes("img", "height")) == {"130"}
    assert all(len(text) > 10 for text in page.attributes("img", "alt"))
    links = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (docs / "REPRODUCTION.md").read_text())
    assert sorted(links) == sorted(sources)
    assert {path.name for path in (docs / "pictures").iterdir()} == {
        *("one.png", "one-more.png", "one-paper.png", "two.png"),
    }


def test_whatever_a_text_holds_it_stays_text(written):
    docs, _, _ = written
    page = web(docs)
    assert [text for path, text in page.texts if text.strip() == NASTY]
    assert [text for path, text in page.texts if path[-1] == "code" and text == "<code>"]
    markdown = (docs / "REPRODUCTION.md").read_text()
    assert "<script" not in markdown
    assert "<b>" not in markdown
    (line,) = [each for each in markdown.splitlines() if each.startswith("| **fails** | a ")]
    assert len(re.findall(r"(?<!\\)\|", line)) == 7


def test_a_verdict_has_a_sign_and_a_word_besides_its_colour(written):
    docs, _, _ = written
    page = web(docs)
    signs = {text for path, text in page.texts if path[-2:] == ("span", "span")}
    assert signs == {"✓", "✗", "?"}
    words = {text.strip() for path, text in page.texts if path[-1] == "span"} - signs
    assert words - {""} == {"holds", "fails", "undecided"}


def test_a_figure_has_command_size_time_and_machine(written):
    docs, _, _ = written
    texts = "".join(text for _, text in web(docs).texts)
    for wanted in (
        "python launch.py --experiment=one --size=paper",
        "python launch.py --experiment=two",
        "1 cpu, 2 cores; jax 1, Python 3",
        "A. Uthor, B. Uthor. Journal 1, arXiv 1234.56789.",
        "C. Uthor. Journal 2.",
        "Where it fails: so and so.",
    ):
        assert wanted in texts
    assert "a command" not in texts


def test_the_processor_is_said_where_the_runs_say_it(tmp_path):
    finish(tmp_path / "one")
    for path in tmp_path.glob("one/*/environment.json"):
        words = json.loads(path.read_text())
        path.write_text(json.dumps({**words, "processor": "A Model"}))
    result = read_result(tmp_path / "one")
    assert result.machines == ("1 cpu, 2 cores of A Model; jax 1, Python 3",)


def test_the_same_results_give_the_same_bytes(written):
    docs, _, descriptions = written
    before = {path: path.read_bytes() for path in docs.rglob("*.*")}
    write(descriptions, docs.parent / "runs", docs, reasons={"three": "no <time>"})
    assert {path: path.read_bytes() for path in docs.rglob("*.*")} == before


def test_tiny_results_make_a_book_of_their_own(written):
    docs, _, descriptions = written
    book = collect(descriptions, docs.parent / "runs", docs, size="tiny", reasons={})
    shown = [result.folder.name for chapter in book.chapters for result in chapter.results]
    assert shown == ["tiny-tiny"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "not recorded"), (0.4, "0 s"), (89, "89 s"), (90, "2 min"), (7200, "2.0 h")],
)
def test_times_in_words(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize("name", sorted(commands.experiments()))
def test_every_experiment_says_its_paper_and_its_minutes(name):
    description = describe(name, importlib.import_module(f"experiments.{name}"))
    assert isinstance(description.paper, Paper)
    assert re.fullmatch(r"(\d{4}\.\d{5})?", description.paper.arxiv)
    assert 0 < description.minutes < 600
    assert description.claim.endswith(".")
    assert description.about
    assert "python launch.py" not in " ".join(description.about)
