"""Reads runs back as a table.

  python -m lpml.runs                                        every run in runs/
  python -m lpml.runs runs/bits --sort final.loss --limit 10
  python -m lpml.runs runs --where 'optim.name=halp' --columns optim.bits,seed,final.loss \\
      --group seed
  python -m lpml.runs runs --output runs.csv

Several --where must all hold; their operators are = != < <= > >=. `!=` also keeps runs without
the setting. Under --group a metric is the mean over the finished runs, `n` of them, with its
standard deviation; its smallest and largest value are in final.loss.min and final.loss.max.
Exit codes: 0 done, 1 nothing matches (or a failure), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from lpml.build import ConfigError
from lpml.runs.conditions import where
from lpml.runs.folders import find
from lpml.runs.grouping import STATISTICS, group
from lpml.runs.reading import Row, rows
from lpml.runs.rendering import FORMATS, render
from lpml.runs.selection import check_known, columns, names, sort

ENDINGS = {".csv": "csv", ".md": "markdown", ".json": "json", ".txt": "table"}


class NothingMatches(Exception):
    """The conditions leave no run."""


class _Parser(argparse.ArgumentParser):
    """Wrong usage becomes a sentence without argparse's usage lines."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise ConfigError(f"{message}; --help lists the options")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses, prints the table, and turns errors into one sentence and an exit code."""
    arguments = _joined(sys.argv[1:] if argv is None else argv)
    try:
        options = _parser().parse_args(arguments)
        _write(_text(options), options.output)
        return 0
    except BrokenPipeError:  # the reader of our output, `| head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 1
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        print(" ".join(_sentence(error).split()), file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1


def _parser() -> argparse.ArgumentParser:
    what, _, further = (__doc__ or "").partition("\n\n")
    parser = _Parser(
        prog="python -m lpml.runs",
        description=what,
        epilog=further,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("folders", nargs="*", default=["runs"], help="where the runs are (default: runs)")
    add("--where", action="append", default=[], metavar="CONDITION", help="optim.bits<=8")
    add("--columns", metavar="NAMES", help="what to show: names and patterns like final.*")
    add("--group", metavar="KEYS", help="join runs that differ only in these settings")
    add("--sort", metavar="COLUMN", help="by this column; -COLUMN sorts downwards")
    add("--limit", type=_positive, metavar="N", help="the first N rows")
    add("--format", choices=sorted(FORMATS), help="default: table, or the ending of FILE")
    add("--output", metavar="FILE", help="write there (.csv, .md, .json)")
    add("--debug", action="store_true", help="show tracebacks")
    return parser


def _joined(arguments: Sequence[str]) -> list[str]:
    """`--sort -COLUMN` as one word: argparse would take -COLUMN for an option."""
    words: list[str] = []
    for word in arguments:
        if words and words[-1] == "--sort":
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return number


def _text(options: argparse.Namespace) -> str:
    """The table that the options ask for."""
    found = _read(options.folders)
    kept = where(found, options.where)
    if not kept:
        raise NothingMatches(
            f"none of the {len(found)} runs matches {' and '.join(options.where)}"
        )
    known = names(found)  # of all runs: --columns may name what the matching ones lack
    table = kept
    if options.group is not None:
        over = columns(found, _list(options.group))
        table = group(kept, over=[key for key in over if key in names(kept)])
        known = [*names(table), *known]
    if options.sort is not None:
        check_known(known, options.sort.removeprefix("-"))
        if options.sort.removeprefix("-") in names(table):
            table = sort(table, options.sort)
    wanted = None if options.columns is None else _list(options.columns)
    if wanted is not None and options.group is not None:
        wanted = _with_spread(table, wanted)
    chosen = columns(table, wanted, known=known)
    ending = os.path.splitext(options.output or "")[1].lower()
    if options.output and options.format is None and ending not in ENDINGS:
        raise ConfigError(
            f"--output={options.output} has no ending that names a format; choose from "
            f"{', '.join(ENDINGS)} or add --format"
        )
    form = options.format or ENDINGS.get(ending, "table")
    return render(table[: options.limit], form, columns=chosen)


def _read(folders: Sequence[str]) -> list[Row]:
    found = (
        rows(folders[0]) if len(folders) == 1 else rows([p for f in folders for p in find(f)])
    )
    if not found:
        raise ConfigError(
            f"there are no runs in {', '.join(folders)}; name a folder that `python launch.py` "
            "has written to"
        )
    return found


def _with_spread(table: Sequence[Row], wanted: Sequence[str]) -> list[str]:
    """The columns of a grouped table: no mean comes without its spread and its number of runs.

    A metric whose statistics are named, `final.loss.std`, is shown as named.
    """
    known = names(table)
    chosen = []
    for name in wanted:
        chosen.append(name)
        named = any(f"{name}.{statistic}" in wanted for statistic in STATISTICS)
        if f"{name}.std" in known and not named:
            chosen.append(f"{name}.std")
    return [*chosen, "n", "unfinished"]


def _list(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise ConfigError(f"{text!r} names no column; write names with commas, seed,optim.bits")
    return words


def _write(text: str, file: str | None) -> None:
    if file is not None:
        with open(file, "w", encoding="utf-8", errors="backslashreplace", newline="") as out:
            out.write(text)
        return
    if hasattr(sys.stdout, "reconfigure"):  # a name may hold what the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.stdout.write(text)
    sys.stdout.flush()


def _sentence(error: Exception) -> str:
    if isinstance(error, (ConfigError, NothingMatches)):
        return str(error)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} cannot be written or read: {error.strerror}"
    first = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {first} (run again with --debug for the traceback)"


if __name__ == "__main__":
    sys.exit(main())
