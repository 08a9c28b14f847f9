"""The book as one web page without scripts: it needs its pictures and nothing else."""

import re
from collections.abc import Sequence

from lpml.book.contents import (
    NOT_STATED,
    ORIGIN,
    TITLE,
    Book,
    Chapter,
    Entry,
    duration,
    picture_name,
)
from lpml.book.elements import Element, as_html, link, prose, tag
from lpml.book.results import NOT_RECORDED, VERDICTS, Result, counts
from lpml.book.style import CSS
from lpml.runs import Paper, Verdict

LACK = "figures missing"
SIGNS = {"holds": "✓", "fails": "✗", "undecided": "?"}


def page(book: Book) -> str:
    """The whole page; pictures are expected in `pictures/`."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{TITLE}: lpml"),
        tag("style", CSS),
    )
    reading = [tag("p", *prose(text, emphasis=True)) for text in book.reading]
    main = tag(
        "main",
        _summary(book),
        _failing(book),
        _contents(book),
        *_missing(book),
        tag("section", tag("h2", "How to read it"), *reading, id="reading"),
        *(_chapter(chapter) for chapter in book.chapters),
    )
    body = tag("body", tag("header", tag("h1", TITLE), tag("p", *prose(ORIGIN))), main)
    return as_html(tag("html", head, body, lang="en"))


def _summary(book: Book) -> Element:
    rows = []
    for chapter in book.chapters:
        missing = sum(entry.missing is not None for entry in chapter.entries)
        title = link(f"#{_anchor(chapter.paper)}", chapter.paper.title)
        rows.append(_row(title, chapter.results, {LACK: str(missing)}))
    whole = [result for chapter in book.chapters for result in chapter.results]
    rows.append(_row("All", whole, {LACK: str(len(book.missing))}, class_="sum"))
    table = _table("Paper", rows, last=LACK)
    return tag("section", tag("h2", "Summary"), table, id="summary")


def _failing(book: Book) -> Element:
    parts = []
    for entry, result, verdicts in book.failing():
        parts += [
            tag("h3", link(f"#{result.folder.name}", result.folder.name)),
            _claims(verdicts),
        ]
        if entry.description.failing:
            parts.append(tag("p", *prose(entry.description.failing)))
    if not parts:
        parts.append(tag("p", "None."))
    return tag("section", tag("h2", "Claims that fail"), *parts, id="failing")


def _contents(book: Book) -> Element:
    rows = [
        _row(
            link(f"#{result.folder.name}", result.folder.name),
            [result],
            {"time": duration(result.seconds)},
        )
        for entry in book.entries
        for result in entry.results
    ]
    table = _table("Figure", rows, last="time")
    return tag("nav", tag("h2", "Contents"), table, id="contents")


def _missing(book: Book) -> list[Element]:
    if not book.missing:
        return []
    items = [
        tag(
            "li",
            tag("strong", entry.description.name),
            f" ({entry.missing}): ",
            tag("code", entry.description.command(book.size)),
        )
        for entry in book.missing
    ]
    title = f"Missing at the size {book.size}"
    return [tag("section", tag("h2", title), tag("ul", *items), id="missing")]


def _chapter(chapter: Chapter) -> Element:
    paper = chapter.paper
    reference: list[Element | str] = [f"{paper.authors}. {paper.venue}"]
    if paper.arxiv:
        address = f"https://arxiv.org/abs/{paper.arxiv}"
        reference += [", ", link(address, f"arXiv {paper.arxiv}")]
    parts = [tag("h2", paper.title)]
    if paper.authors:
        parts.append(tag("p", *reference, ".", class_="reference"))
    for entry in chapter.entries:
        parts += [_figure(entry, result) for result in entry.results]
        if entry.missing is not None:
            parts.append(tag("p", f"{entry.description.name} is missing: {entry.missing}."))
    return tag("section", *parts, id=_anchor(paper))


def _figure(entry: Entry, result: Result) -> Element:
    description, name = entry.description, result.folder.name
    pictures = [
        tag(
            "figure",
            tag(
                "img",
                src=f"pictures/{picture_name(result, picture.name)}",
                alt=f"{name}, {picture.name}: {description.claim}",
                width=picture.width,
                height=picture.height,
            ),
        )
        for picture in result.pictures
    ]
    facts = {
        "Size": result.size,
        "Time": duration(result.seconds),
        "Machine": "; and ".join(result.machines) or NOT_RECORDED,
    }
    return tag(
        "article",
        tag("h3", name),
        tag("p", *prose(description.claim), class_="claim"),
        *(tag("p", *prose(text)) for text in description.about),
        *pictures,
        _claims(result.verdicts),
        tag("dl", *map(_fact, facts, facts.values()), class_="facts"),
        tag("pre", tag("code", description.command(result.size))),
        id=name,
    )


def _claims(verdicts: Sequence[Verdict]) -> Element:
    rows = [
        tag(
            "tr",
            tag("td", _verdict(v.verdict)),
            tag("td", v.claim),
            tag("td", v.paper or NOT_STATED, data_label="The paper"),
            tag("td", v.expected, data_label="Expected"),
            tag("td", v.measured, data_label="Measured"),
            tag("td", ", ".join(map(str, v.seeds)), data_label="Seeds"),
        )
        for v in verdicts
    ]
    heads = ["Verdict", "Claim", "The paper", "Expected", "Measured", "Seeds"]
    head = tag("tr", *(tag("th", word, scope="col") for word in heads))
    return tag("table", tag("thead", head), tag("tbody", *rows), class_="claims")


def _verdict(word: str) -> Element:
    sign = tag("span", SIGNS[word], aria_hidden="true")
    return tag("span", sign, f" {word}", class_=f"verdict {word}")


def _fact(name: str, value: str) -> Element:
    return tag("div", tag("dt", name), tag("dd", value))


def _table(first: str, rows: list[Element], *, last: str) -> Element:
    """Rows of a title, the counts of verdicts, and one thing more."""
    numbers: list[Element | str] = [*map(_verdict, VERDICTS), last]
    cells = [tag("th", word, scope="col", class_="number") for word in numbers]
    head = tag("tr", tag("th", first, scope="col"), *cells)
    return tag("table", tag("thead", head), tag("tbody", *rows), class_="counts")


def _row(
    title: Element | str, results: list[Result], last: dict[str, str], **attributes: str
) -> Element:
    found = counts(results)
    cells = {f"{SIGNS[word]} {word}": str(found[word]) for word in VERDICTS} | last
    return tag(
        "tr",
        tag("th", title, scope="row"),
        *(tag("td", n, class_="number", data_label=name) for name, n in cells.items()),
        **attributes,
    )


def _anchor(paper: Paper) -> str:
    """The number or, without one, the title in letters that a link may hold."""
    return "paper-" + (paper.arxiv or re.sub("[^a-z0-9]+", "-", paper.title.lower()))
