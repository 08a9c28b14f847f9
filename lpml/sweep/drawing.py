"""The picture of a sweep: its metric against bits, a rate, or setting by setting."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from lpml.runs.cells import is_number, rank, token
from lpml.sweep.metrics import Metric
from lpml.sweep.space import VARIANT, word

Row = Mapping[str, Any]

# Colours of Okabe and Ito, which colour-blind readers can tell apart; the markers help in grey.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = "os^Dv<>Pphd"
DASHES = ("--", ":", "-.", (0, (1, 3)))
MOST_LINES = 10
MOST_DOTS = 40
MOST_TICKS = 14
MOST_NAMED = 3  # of the settings without a value


def draw(
    settings: Sequence[Row], keys: Sequence[str], metric: Metric, *, title: str, base: str
) -> Figure:
    """The mean of the metric for every setting, with its range over the seeds.

    Against the key that ends with `bits`, else the numeric key of most values; settings without
    it are horizontal lines. Without a numeric key: a row of the picture for each setting.

    Args:
      settings: rows of `Summary.settings`, best first; one at least has a finite value.
      keys: the swept keys, seed apart.
      metric: what to draw.
      title: what the sweep is of.
      base: what a setting is called that none of the keys tells apart.
    """
    name = f"final.{metric.name}"
    drawn = [row for row in settings if row["n"]]
    x = x_key(drawn, keys)
    rest = [key for key in keys if key != x]
    height = 5.4 if x else 1.8 + 0.3 * min(max(len(drawn), 3), MOST_DOTS)
    figure = Figure(figsize=(9, height), layout="constrained")
    axes = figure.add_subplot()
    if x:
        _draw_lines(figure, axes, drawn, x, rest, name, base)
        axes.set(xlabel=x, ylabel=metric.name)
    else:
        _draw_dots(axes, drawn, rest, name, base)
        axes.set(xlabel=metric.name)
    if _spans_decades([value for row in drawn for value in _range(row, name)]):
        axes.set(**{"yscale" if x else "xscale": "log"})
    axes.grid(True, which="major", color="0.88", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(f"{title}: {metric}\n{_caption(settings, drawn, keys, base)}", fontsize=10.5)
    return figure


def x_key(settings: Sequence[Row], keys: Sequence[str]) -> str | None:
    """The key to draw against: of at least two numbers, `bits` before others."""
    counts = {key: len(_numbers(settings, key)) for key in keys}
    best = max(keys, key=lambda key: (key.endswith("bits"), counts[key]), default=None)
    if best is not None and counts[best] < 2:
        best = max(keys, key=lambda key: counts[key])
    return best if best is not None and counts[best] > 1 else None


def label_of(row: Row, keys: Sequence[str], base: str, *, digits: int = 6) -> str:
    """A setting in words: `svrg, learning_rate=0.1`."""
    words = []
    for key in keys:
        if key not in row:
            continue
        value = row[key]
        last = key.rpartition(".")[2]
        unique = sum(other.rpartition(".")[2] == last for other in keys) == 1
        said = f"{value:.{digits}g}" if isinstance(value, float) else word(value)
        said = "none" if value is None else said
        plain = key == VARIANT or isinstance(value, dict)
        words.append(said if plain else f"{last if unique else key}={said}")
    return ", ".join(words) or base


def _draw_lines(figure, axes, drawn, x, keys, name, base):
    """A line per combination of the other keys, and the settings without `x` across."""
    on_line = [row for row in drawn if is_number(row.get(x))]
    telling = [key for key in keys if _tells(on_line, x, key)]
    numeric = [key for key in telling if _numbers(on_line, key)]
    lines = _lines(on_line, telling, base, by_value=telling == numeric)
    if len(lines) > MOST_LINES and telling == numeric and len(telling) == 1:
        _by_colour(figure, axes, lines, x, telling[0], name)
    else:
        for i, (label, rows) in enumerate(lines.items()):
            if i < MOST_LINES:
                colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
                _line(axes, rows, x, name, color=colour, marker=marker, label=label, zorder=3)
            else:
                others = f"{len(lines) - MOST_LINES} others" if i == MOST_LINES else None
                _line(axes, rows, x, name, color="0.75", linewidth=0.8, label=others)
    _references(axes, [row for row in drawn if not is_number(row.get(x))], keys, name, base)
    _x_axis(axes, sorted(_numbers(on_line, x)))
    if len(axes.get_legend_handles_labels()[1]) > 1:
        figure.legend(loc="outside right upper")


def _references(axes, rows, keys, name, base):
    """Settings that have no place on the x axis, across: the mean and a band of the range."""
    for i, row in enumerate(rows):
        mean, low, high = _range(row, name)
        if i < len(DASHES):
            style = dict(color="0.25", linestyle=DASHES[i], label=label_of(row, keys, base))
            axes.axhspan(low, high, color="0.25", alpha=0.13, linewidth=0)
        else:
            others = f"{len(rows) - i} others" if i == len(DASHES) else None
            style = dict(color="0.75", linewidth=0.8, label=others)
        axes.axhline(mean, zorder=2, **style)


def _lines(rows, telling, base, *, by_value):
    """Rows by the label of their line: by ascending numbers, else the best line first."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(token(row.get(key)) for key in telling), []).append(row)
    lines = list(found.values())
    if by_value and len(lines) <= MOST_LINES:
        lines.sort(key=lambda line: [rank(line[0].get(key)) or () for key in telling])
    for digits in (3, 6, 17):
        labels = [label_of(line[0], telling, base, digits=digits) for line in lines]
        if len(set(labels)) == len(lines):
            break
    merged: dict[str, list[Row]] = {}
    for label, line in zip(labels, lines):
        # the usual optimizer may also have been asked for by its variant
        merged.setdefault(label, []).extend(line)
    return merged


def _by_colour(figure, axes, lines, x, key, name):
    """Too many lines for a legend, of one number each: the number is the colour."""
    values = sorted(_numbers([row for rows in lines.values() for row in rows], key))
    norm = (LogNorm if _geometric(values) else Normalize)(values[0], values[-1])
    colours = colormaps["viridis"]
    for rows in lines.values():
        _line(axes, rows, x, name, color=colours(norm(rows[0][key])), marker=".")
    figure.colorbar(ScalarMappable(norm, colours), ax=axes, label=key)


def _line(axes, rows, x, name, **style):
    rows = sorted(rows, key=lambda row: row[x])
    means, lows, highs = zip(*(_range(row, name) for row in rows))
    errors = [
        [mean - low for mean, low in zip(means, lows)],
        [high - mean for mean, high in zip(means, highs)],
    ]
    axes.errorbar(
        [row[x] for row in rows],
        means,
        yerr=errors,
        **{"capsize": 3, "elinewidth": 1, "markersize": 5.5, **style},
    )


def _draw_dots(axes, drawn, keys, name, base):
    """A row of the picture for each setting, the best on top."""
    shown = drawn[:MOST_DOTS]
    means, lows, highs = zip(*(_range(row, name) for row in shown))
    errors = [
        [mean - low for mean, low in zip(means, lows)],
        [high - mean for mean, high in zip(means, highs)],
    ]
    places = range(len(shown))
    axes.errorbar(means, places, xerr=errors, fmt="o", color=COLOURS[1], capsize=3)
    axes.set_yticks(list(places), [label_of(row, keys, base) for row in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    if len(drawn) > MOST_DOTS:
        axes.set_ylabel(f"the best {MOST_DOTS} of {len(drawn)} settings")


def _x_axis(axes, values):
    if _geometric(values):
        axes.set_xscale("log")
    if len(values) <= MOST_TICKS:
        axes.set_xticks(values, [f"{value:.3g}" for value in values])
        axes.xaxis.set_minor_locator(NullLocator())


def _tells(rows, x, key):
    """Whether lines differ in `key`; a number that goes along with `x` is only its shadow."""
    values = {token(row.get(key)) for row in rows}
    if len(values) < 2:
        return False
    if not _numbers(rows, key):
        return True
    return len({(row[x], token(row.get(key))) for row in rows}) > len(_numbers(rows, x))


def _caption(settings, drawn, keys, base):
    counts = sorted({row["n"] for row in drawn})
    seeds = str(counts[-1]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    spread = "one run of each setting"
    if counts[-1] > 1:
        spread = f"mean, smallest and largest of {seeds} runs with different seeds"
    missing = [row for row in settings if not row["n"]]
    if missing:
        some = [f"{label_of(row, keys, base)} ({_why(row)})" for row in missing[:MOST_NAMED]]
        more = len(missing) - MOST_NAMED
        spread += f"\nwithout a value: {'; '.join(some)}"
        spread += f"; and {more} more" if more > 0 else ""
    return spread


def _why(row):
    """What became of the points of a setting without a value."""
    words = {"not_finite": "not finite", "failed": "failed", "unfinished": "unfinished"}
    return ", ".join(word for count, word in words.items() if row[count])


def _numbers(rows, key):
    return {row[key] for row in rows if is_number(row.get(key))}


def _range(row, name):
    return row[name], row[f"{name}.min"], row[f"{name}.max"]


def _spans_decades(values):
    return min(values) > 0 and max(values) / min(values) > 100


def _geometric(values):
    """Whether ascending numbers are better drawn on a log axis."""
    if len(values) < 2 or values[0] <= 0:
        return False
    ratios = [math.log(b / a) for a, b in itertools.pairwise(values)]
    even = len(values) > 2 and max(ratios) < 1.1 * min(ratios)
    return even or values[-1] / values[0] > 30
