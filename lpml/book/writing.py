"""Writing the pages and their pictures."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lpml.book import markdown, webpage
from lpml.book.contents import collect, picture_name
from lpml.book.describing import Description
from lpml.book.keeping import KEPT, keep
from lpml.build import ConfigError

# Between these marks of the README is the table of verdicts.
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


class Written(NamedTuple):
    """What the pages hold.

    Attributes:
      shown: names of the folders shown.
      missing: names of the experiments without a result at the size asked for.
      broken: experiments whose folders cannot be read, with the reason.
    """

    shown: list[str]
    missing: list[str]
    broken: dict[str, str]


def write(
    descriptions: Sequence[Description],
    runs: Path,
    docs: Path,
    *,
    size: str = "default",
    reasons: Mapping[str, str] | None = None,
) -> Written:
    """Writes `REPRODUCTION.md`, `reproduction.html` and the pictures beside them.

    The README beside the pages gets the table of verdicts where their folder is `docs`, which
    is where it links to; pages in any other folder leave it alone. The same results give the
    same bytes. Each result is kept beside the pages too, and shown again while the runs have
    none.

    Args:
      descriptions: all experiments, in the order to show.
      runs: folder of experiment folders (each with `verdict.json`).
      docs: folder of the pages; pictures go to `pictures` in it.
      size: what counts as missing where there is none; tiny results are shown by themselves.
      reasons: why experiments are missing, by name, where that is known.

    Raises:
      ConfigError: there is no finished experiment; nothing is written.
    """
    book = collect(descriptions, runs, docs, size=size, reasons=reasons or {})
    results = [result for chapter in book.chapters for result in chapter.results]
    if not results:
        broken = "".join(f"; {words}" for words in book.broken.values())
        raise ConfigError(
            f"{runs} holds no finished experiment, nor {docs / KEPT} a result{broken}; run "
            "`python launch.py "
            "--experiment=NAME`, or give --book more --minutes"
        )
    pictures = docs / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for result in results:
        files = {each.name: picture_name(result, each.name) for each in result.pictures}
        for picture in result.pictures:
            target = pictures / files[picture.name]
            if picture.path != target:
                shutil.copyfile(picture.path, target)
        keep(result, docs, files)
    (docs / "REPRODUCTION.md").write_text(markdown.page(book), encoding="utf-8")
    if size != "tiny" and docs.resolve().name == "docs":
        table = markdown.summary(book, page="docs/REPRODUCTION.md")
        _put_into(docs.parent / "README.md", table)
    (docs / "reproduction.html").write_text(webpage.page(book), encoding="utf-8")
    missing = [entry.description.name for entry in book.missing]
    return Written([result.folder.name for result in results], missing, book.broken)


def _put_into(readme: Path, table: str) -> None:
    """Renews the table between the two marks of a README, where there is one with marks."""
    if not readme.exists():
        return
    before, mark, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if mark and end:
        text = f"{before}{mark}\n\n{table}\n\n{end}{after}"
        readme.write_text(text, encoding="utf-8")
