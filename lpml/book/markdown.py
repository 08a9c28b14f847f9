"""The book as Markdown, as code hosts show it."""

import re
from collections.abc import Iterable

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
from lpml.book.results import VERDICTS, Result, counts
from lpml.runs import Paper


def page(book: Book) -> str:
    """The whole page; pictures are expected in `pictures/`."""
    parts = [
        f"# {TITLE}",
        ORIGIN,
        "## Summary",
        summary(book),
        *_failing(book),
        *_contents(book),
    ]
    parts += [*_missing(book), "## How to read it", *book.reading]
    for chapter in book.chapters:
        parts += [f"## {chapter.paper.title}", *_reference(chapter.paper)]
        for entry in chapter.entries:
            for result in entry.results:
                parts += _section(entry, result)
            if entry.missing is not None:
                parts.append(f"{entry.description.name} is missing: {_text(entry.missing)}.")
    return "\n\n".join(parts) + "\n"


def summary(book: Book, *, page: str = "") -> str:
    """The table of papers and verdicts; links lead into `page`, by default this one."""
    papers = [
        [
            _link(chapter.paper.title, page),
            *_numbers(chapter.results),
            str(_missing_of(chapter)),
        ]
        for chapter in book.chapters
    ]
    whole = [result for chapter in book.chapters for result in chapter.results]
    papers.append(["all", *_numbers(whole), str(len(book.missing))])
    return _table(["paper", *VERDICTS, "figures missing"], papers)


def _contents(book: Book) -> list[str]:
    rows = [
        [_link(result.folder.name), result.size, *_numbers([result]), duration(result.seconds)]
        for entry in book.entries
        for result in entry.results
    ]
    return ["## Contents", _table(["figure", "size", *VERDICTS, "time"], rows)]


def _failing(book: Book) -> list[str]:
    parts = ["## Claims that fail"]
    for entry, result, verdicts in book.failing():
        lines = [
            f"- {_text(v.claim)} ({f'the paper: {_text(v.paper)}; ' if v.paper else ''}"
            f"expected {_text(v.expected)}; measured {_text(v.measured)})"
            for v in verdicts
        ]
        parts += [f"{_link(result.folder.name)}:", "\n".join(lines)]
        if entry.description.failing:
            parts.append(_text(entry.description.failing))
    return parts if len(parts) > 1 else [*parts, "None."]


def _missing(book: Book) -> list[str]:
    if not book.missing:
        return []
    rows = [
        [
            entry.description.name,
            str(entry.missing),
            f"`{entry.description.command(book.size)}`",
        ]
        for entry in book.missing
    ]
    return [
        "## Missing",
        f"Not finished at the size {book.size}:",
        _table(["figure", "why", "command"], rows),
    ]


def _section(entry: Entry, result: Result) -> list[str]:
    description, name = entry.description, result.folder.name
    pictures = [
        f"![{name}: {picture.name}](pictures/{picture_name(result, picture.name)})"
        for picture in result.pictures
    ]
    rows = [
        [f"**{v.verdict}**", v.claim, v.paper or NOT_STATED, v.expected, v.measured,
         ", ".join(map(str, v.seeds))]
        for v in result.verdicts
    ]  # fmt: skip
    return [
        f"### {name}",
        _text(description.claim),
        *map(_text, description.about),
        f"    {description.command(result.size)}",
        *pictures,
        _table(["verdict", "claim", "the paper", "expected", "measured", "seeds"], rows),
        f"Size: {result.size}. Time: {duration(result.seconds)}. "
        f"Machine: {'; and '.join(result.machines) or 'not recorded'}.",
    ]


def _reference(paper: Paper) -> list[str]:
    if not paper.authors:
        return []
    arxiv = (
        f", [arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})" if paper.arxiv else ""
    )
    return [f"{paper.authors}. {paper.venue}{arxiv}."]


def _missing_of(chapter: Chapter) -> int:
    return sum(entry.missing is not None for entry in chapter.entries)


def _numbers(results: list[Result]) -> list[str]:
    found = counts(results)
    return [str(found[word]) for word in VERDICTS]


def _link(heading: str, page: str = "") -> str:
    """A link to a heading of a page, by the name that code hosts make of it."""
    anchor = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
    return f"[{heading}]({page}#{anchor})"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return _text(text).replace("|", "\\|").replace("\n", " ")


def _text(text: str) -> str:
    """Text in which nothing is taken for a tag; code is left alone."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
