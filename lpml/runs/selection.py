"""Which columns of the rows to show, and in which order the rows."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from lpml.build import ConfigError, suggestion
from lpml.runs.cells import rank, token
from lpml.runs.reading import ENDS, Row, settings

# Settings that do not change what a run computes.
INCIDENTAL = ("data.dir",)
_ABSENT = "<absent>"


def columns(
    rows: Sequence[Row],
    wanted: Sequence[str] | None = None,
    *,
    known: Sequence[str] | None = None,
) -> list[str]:
    """Names of columns to show.

    Args:
      rows: from `rows` or `group`.
      wanted: names, or patterns such as `final.*`, in the order to show; None takes the
        settings that differ between the rows and the main final metrics.
      known: what may be named; None stands for the columns of `rows`.

    Raises:
      ConfigError: a name that is not known, or a pattern that fits none.
    """
    if wanted is None:
        return _telling(rows)
    known = names(rows) if known is None else known
    chosen: list[str] = []
    for name in wanted:
        if name not in known and any(mark in name for mark in "*?["):
            fitting = [key for key in known if fnmatchcase(key, name)]
            if not fitting:
                raise ConfigError(f"no run has a column that fits {name!r}")
            chosen += fitting
        else:
            check_known(known, name)
            chosen.append(name)
    return list(dict.fromkeys(chosen))


def sort(rows: Sequence[Row], column: str) -> list[Row]:
    """The rows by a column: numbers, then words, and last those without a value.

    Args:
      rows: from `rows` or `group`.
      column: a name; `-` before it sorts downwards.

    Raises:
      ConfigError: no row has the column.
    """
    name = column.removeprefix("-")
    check_known(names(rows), name)
    ranked = [(rank(row.get(name)), row) for row in rows]
    valued = [(key, row) for key, row in ranked if key is not None]
    valued.sort(key=lambda pair: pair[0], reverse=column.startswith("-"))
    return [row for _, row in valued] + [row for key, row in ranked if key is None]


def names(rows: Sequence[Row]) -> list[str]:
    """Every column of any row, in the order in which they come up."""
    return list(dict.fromkeys(key for row in rows for key in row))


def check_known(known: Sequence[str], name: str) -> None:
    """Raises ConfigError, with the nearest right one, unless the column is known."""
    if name not in known:
        # `bits` is spelled right and only lacks its section
        ends = [key for key in known if name and key.endswith(f".{name}")]
        near = f"; did you mean {ends[0]!r}?" if ends else suggestion(name, known)
        raise ConfigError(f"no run has the column {name!r}{near}")


def varies(rows: Sequence[Row], name: str) -> bool:
    """Whether the rows disagree on a column; one that only some have counts as such."""
    return len({token(row.get(name, _ABSENT)) for row in rows}) > 1


def _telling(rows: Sequence[Row]) -> list[str]:
    """What differs, and what came of it."""
    known = names(rows)
    # a row whose config cannot be read differs from all others in everything
    with_config = [row for row in rows if settings(row)]
    differing = [
        key
        for key in dict.fromkeys(key for row in with_config for key in settings(row))
        if key not in INCIDENTAL and varies(with_config, key)
    ]
    lead = [key for key in ("run", "status") if key in known]
    counts = [key for key in ("n", *ENDS) if key in known]
    always = ("n", "unfinished")
    counts = [key for key in counts if key in always or any(row.get(key) for row in rows)]
    metrics = [key for key in known if key.startswith("final.") and _tells(rows, key, known)]
    last = ["problem"] if "problem" in known else []
    return [*lead, *differing, *counts, *metrics, *last]


def _tells(rows: Sequence[Row], key: str, known: Sequence[str]) -> bool:
    """Whether a final metric is worth a column unasked."""
    metric = key.split(".")[1]
    if metric == "step":
        logged = [row for row in rows if row.get(key) is not None]
        return key == "final.step" and varies(logged, key)
    # an optimizer's own metrics have a stroke; a batch's loss is a noisier copy of the loss
    whole = f"final.{metric.removeprefix('batch_')}"
    minor = "/" in metric or metric == "steps_per_second"
    if minor or (metric.startswith("batch_") and whole in known):
        return False
    if key.endswith(".n"):  # how many runs a mean is of
        return any(row.get(key) != row["n"] for row in rows)
    return not key.endswith((".min", ".max"))
