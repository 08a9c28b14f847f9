"""Rows that differ only in some settings, joined into means and spreads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lpml.build import ConfigError
from lpml.runs.cells import is_number, rank, token
from lpml.runs.reading import ENDS, Row, settings
from lpml.runs.selection import INCIDENTAL, columns

STATISTICS = ("std", "min", "max", "n")


def group(rows: Sequence[Row], *, over: Sequence[str]) -> list[Row]:
    """Joins the runs whose configs are equal in everything but `over` (and data.dir).

    A joined row has
      the settings that are equal, and for each key of `over` the list of its values;
      `runs`: their names; `n`: how many of them are done, and how many are `unfinished`,
      `pruned`, `failed` and `damaged`;
      `final.<metric>`: its mean over the done runs, with `.std` (of a sample, ddof 1; None for
      fewer than two), `.min`, `.max`, and `.n`: how many of the done runs have a finite value,
      for only those are in the other four.

    Args:
      rows: from `rows`.
      over: settings such as `"seed"`, or patterns such as `"*seed"`.

    Raises:
      ConfigError: a key that no run has, or one that is no setting.
    """
    keys = columns(rows, over)
    known = {key for row in rows for key in settings(row)}
    for key in keys:
        if key not in known:
            raise ConfigError(f"{key!r} is no setting, and only settings can be grouped over")
    apart = (*keys, *INCIDENTAL)
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        same = frozenset((k, token(row[k])) for k in settings(row) if k not in apart)
        groups.setdefault(same, []).append(row)
    metrics = list(dict.fromkeys(k for row in rows for k in row if k.startswith("final.")))
    return [_joined(members, keys, metrics) for members in groups.values()]


def _joined(members: Sequence[Row], keys: Sequence[str], metrics: Sequence[str]) -> Row:
    joined: Row = {}
    for key in settings(members[0]):
        if key not in (*keys, *INCIDENTAL):
            joined[key] = members[0][key]
    for key in keys:
        distinct = {token(row[key]): row[key] for row in members if key in row}
        if distinct:
            joined[key] = sorted(distinct.values(), key=lambda value: rank(value) or ())
    done = [row for row in members if row["status"] == "done"]
    joined["runs"] = [row["run"] for row in members]
    joined["n"] = len(done)
    for status in ENDS:
        joined[status] = sum(row["status"] == status for row in members)
    for metric in metrics:
        summary = _summary([_number(row.get(metric)) for row in done])
        joined[metric] = summary.pop("mean")
        joined.update({f"{metric}.{name}": value for name, value in summary.items()})
    problems = [f"{row['run']}: {row['problem']}" for row in members if "problem" in row]
    if problems:
        joined["problem"] = "; ".join(problems)
    return joined


def _number(value: Any) -> float:
    """A metric as a float, truth values too; NaN for what is none."""
    try:
        return float(value) if is_number(value) or isinstance(value, bool) else math.nan
    except OverflowError:  # an int beyond all floats
        return math.nan


def _summary(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and spread of the finite values."""
    finite = [value for value in values if math.isfinite(value)]
    n = len(finite)
    if not n:
        return {"mean": None, "std": None, "min": None, "max": None, "n": 0}
    low, high = min(finite), max(finite)
    if low == high:  # exactly, where rounding of the mean would give a spread of 1e-17
        return {"mean": low, "std": 0.0 if n > 1 else None, "min": low, "max": high, "n": n}
    # scaled by a power of two, which is exact, so that squares of huge values do not overflow
    exponent = math.frexp(max(-low, high))[1]
    scaled = [math.ldexp(value, -exponent) for value in finite]
    mean = math.fsum(scaled) / n
    variance = math.fsum((value - mean) ** 2 for value in scaled) / (n - 1)
    std = _unscaled(math.sqrt(variance), exponent)
    # rounding must not put a mean outside of its values
    middle = min(max(_unscaled(mean, exponent), low), high)
    return {"mean": middle, "std": std, "min": low, "max": high, "n": n}


def _unscaled(value: float, exponent: int) -> float:
    try:
        return math.ldexp(value, exponent)
    except OverflowError:  # a spread may be larger than every float
        return math.inf
