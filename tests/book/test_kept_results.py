"""Results outlive the folders of their runs, until these are there again."""

import importlib
import json
import shutil
from pathlib import Path

import pytest
from toys import finish, toy, verdict

from lpml import commands
from lpml.book.describing import describe
from lpml.book.making import make
from lpml.book.writing import BEGIN, END, write
from lpml.build import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def kept(tmp_path):
    """Pages of one experiment whose runs are gone since."""
    runs, docs = tmp_path / "runs", tmp_path / "docs"
    finish(
        runs / "one", verdict("fails", "a | claim"), pictures=("figure", "more"), seconds=(3, 4)
    )
    described = [describe("one", toy("one")), describe("two", toy("two"))]
    write(described, runs, docs)
    shutil.rmtree(runs)
    return runs, docs, described


def pages(docs):
    return [(docs / name).read_bytes() for name in ("REPRODUCTION.md", "reproduction.html")]


def test_pages_are_the_same_without_the_runs(kept):
    runs, docs, described = kept
    before = pages(docs)
    written = write(described, runs, docs)
    assert written.shown == ["one"]
    assert written.missing == ["two"]
    assert pages(docs) == before
    assert b"7 s" in before[0]


def test_runs_that_are_there_again_take_their_place(kept):
    runs, docs, described = kept
    finish(runs / "one", verdict("holds", "a | claim"))
    write(described, runs, docs)
    record = json.loads((docs / "results" / "one.json").read_text())
    assert [v["verdict"] for v in record["verdicts"]] == ["holds"]
    assert record["pictures"] == {"figure": "one.png"}


def spoilt(**fields):
    """A kept result with other fields, or its verdict with them."""
    record = {
        "size": "default",
        "verdicts": [verdict()],
        "pictures": {"figure": "one.png"},
        "seconds": 7.0,
        "machines": ["1 cpu"],
    }
    of = record if fields.keys() <= record.keys() else record["verdicts"][0]
    of.update(fields)
    return json.dumps(record)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"size": "default", "verdicts": []}',
        spoilt(size="huge"),
        spoilt(seconds=float("nan")),
        spoilt(seconds=-5),
        spoilt(seconds="7"),
        spoilt(machines="1 cpu"),
        spoilt(seeds=5),
        spoilt(seeds=["a"]),
        spoilt(claim=None),
        spoilt(measured=3),
        spoilt(verdict="perhaps"),
    ],
)
def test_a_damaged_one_is_named_and_costs_only_itself(kept, text):
    runs, docs, described = kept
    (docs / "results" / "one.json").write_text(text)
    finish(runs / "two")
    written = write(described, runs, docs)
    assert written.shown == ["two"]
    assert "one.json cannot be read" in written.broken["one"]


def test_a_missing_picture_is_named(kept):
    runs, docs, described = kept
    (docs / "pictures" / "one-more.png").unlink()
    finish(runs / "two")
    said = write(described, runs, docs).broken["one"]
    assert "one.json cannot be read" in said
    assert "one-more.png is missing" in said


def finished_elsewhere(docs):
    """Runs with another result than that of the pages."""
    runs = docs.parent / "elsewhere"
    finish(runs / "two")
    return runs


def test_the_readme_beside_the_pages_gets_the_table(kept):
    runs, docs, described = kept
    readme = docs.parent / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write(described, runs, docs)
    text = readme.read_text()
    assert text.startswith(f"before\n{BEGIN}\n\n| paper | holds")
    assert "[A Paper](docs/REPRODUCTION.md#a-paper) | 0 | 1 | 0 | 1 |" in text
    assert text.endswith(f"{END}\nafter\n")
    write(described, runs, docs)
    assert readme.read_text() == text
    write(described[1:], finished_elsewhere(docs), docs.parent / "other")
    assert readme.read_text() == text  # it links to docs
    readme.write_text("no marks")
    write(described, runs, docs)
    assert readme.read_text() == "no marks"


def test_the_project_s_pages_are_those_of_its_results(tmp_path):
    docs = ROOT / "docs"
    shutil.copytree(docs, tmp_path / "docs")
    shutil.copyfile(ROOT / "README.md", tmp_path / "README.md")
    described = [
        describe(name, importlib.import_module(f"experiments.{name}"))
        for name in sorted(commands.experiments())
    ]
    write(described, tmp_path / "runs", tmp_path / "docs")
    for name in ("README.md", "docs/REPRODUCTION.md", "docs/reproduction.html"):
        made = (tmp_path / name).read_text(encoding="utf-8")
        assert made == (ROOT / name).read_text(encoding="utf-8"), f"{name}: run --book"


def test_tiny_runs_do_not_get_into_the_project_s_pages():
    with pytest.raises(ConfigError, match="not the project's own"):
        make(
            {}, ROOT / "runs", ROOT / "docs", size="tiny", minutes=0,
            engine=None, should_stop=lambda: False,
        )  # fmt: skip
