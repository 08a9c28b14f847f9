"""The command that makes the book: runs, writes, and says what is missing and what failed."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

from lpml.book.describing import describe
from lpml.book.missing import has_result, run_missing
from lpml.book.writing import write
from lpml.build import ConfigError
from lpml.sweep import Engine
from lpml.training.endings import RunFailed

# In half an hour two CPU cores make about half of the figures, and nobody who tries the
# command waits for hours that he did not ask for.
DEFAULT_MINUTES = 30.0
DOCS = Path(__file__).parents[2] / "docs"


def make(
    modules: Mapping[str, ModuleType],
    runs: Path,
    docs: Path | None = None,
    *,
    size: str,
    minutes: float,
    engine: Engine,
    should_stop: Callable[[], bool],
    sentence: Callable[[Exception], str] = str,
) -> int:
    """Runs the experiments that have no result, and writes the pages of all that have.

    Args:
      modules: the experiments by name, in the order to show.
      runs: folder of the experiments' folders.
      docs: folder of the pages; default: docs beside the launcher.
      size: what is missing at this one is run.
      minutes: how long to run; 0 only writes.
      engine: what runs the points of the experiments.
      should_stop: asked about twice a second; True writes the pages at once.
      sentence: an error in words.

    Returns:
      0.

    Raises:
      ConfigError: what cannot be asked for, or nothing to be written though nothing may run.
      RunFailed: experiments failed or cannot be read; the pages are written all the same.
    """
    if not minutes >= 0:
        raise ConfigError(f"--minutes={minutes} must be a number of minutes, 0 or more")
    if size == "tiny" and (docs is None or docs.resolve() == DOCS):
        raise ConfigError(
            "tiny runs only show that things work; add --docs=FOLDER, not the project's own, "
            "for their pages"
        )
    described = [describe(name, module) for name, module in modules.items()]
    pages = docs or DOCS
    progress = run_missing(
        described,
        runs,
        pages,
        size=size,
        minutes=minutes,
        engine=engine,
        should_stop=should_stop,
        sentence=sentence,
    )
    for name, words in progress.without_data.items():
        print(f"without its data: {name}: {words}")
    failed = dict(progress.failed)
    anything = any(has_result(name, runs, pages, size=size) for name in modules)
    if anything or not minutes:
        written = write(described, runs, pages, size=size, reasons=progress.reasons)
        failed |= written.broken
        missing = ", ".join(written.missing) or "none"
        print(f"{len(written.shown)} experiments shown; missing at the size {size}: {missing}")
        print(f"pages {pages / 'REPRODUCTION.md'} and {pages / 'reproduction.html'}")
    else:
        print("no experiment is finished, so no page is written; the same command goes on")
    for name, words in failed.items():
        print(f"failed: {name}: {words}")
    if failed:
        again = "the same command tries" if minutes else "--minutes=30 runs"
        raise RunFailed(
            f"{len(failed)} of {len(modules)} experiments failed: {', '.join(failed)}; "
            f"{again} them again"
        )
    return 0
