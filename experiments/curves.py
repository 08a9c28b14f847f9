"""Convergence curves of several methods: the points to run, reading them back, the picture."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.style import METHOD_STYLES, log_axes
from lpml.runs import Point, Run


class Curve(NamedTuple):
    """One method of a comparison: its label, optimizer name and bits (None: full precision)."""

    label: str
    method: str
    bits: int | None = None


Series = dict[tuple[str, int | None], dict[int, np.ndarray]]
"""Values over the epochs 0, 1, ..., by (method, bits) and seed."""


def points(
    config: str, curves: Sequence[Curve], seeds: Sequence[int], size: str
) -> list[Point]:
    """Every curve with every seed, from a config whose variants are the methods."""
    return [
        Point(
            f"{curve.method}{curve.bits or ''}-seed{seed}",
            f"{config}:{curve.method},{size}",
            {"seed": seed} | ({"optim.bits": curve.bits} if curve.bits else {}),
        )
        for curve in curves
        for seed in seeds
    ]


def series(finished: Iterable[Run], metric: str) -> Series:
    """A metric at every line of the log, by method and seed."""
    found: Series = {}
    for run in finished:
        optim = run.config["optim"]
        by_seed = found.setdefault((optim["name"], optim.get("bits")), {})
        by_seed[run.config["seed"]] = run.series(metric)[1]
    return found


def draw(
    curves: Sequence[Curve], values: Series, *, title: str, ylabel: str, xlabel: str
) -> Figure:
    """Geometric mean and range over the seeds, on a logarithmic axis."""
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    axes = figure.add_subplot()
    for curve in curves:
        by_seed = np.stack(list(values[curve.method, curve.bits].values()))
        epochs = np.arange(by_seed.shape[1])
        style = METHOD_STYLES[curve.method, curve.bits]
        axes.semilogy(epochs, np.exp(np.log(by_seed).mean(0)), label=curve.label, **style)
        low, high = by_seed.min(0), by_seed.max(0)
        axes.fill_between(epochs, low, high, color=style["color"], alpha=0.15, linewidth=0)
    log_axes(axes)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    seeds = len(next(iter(values.values())))
    axes.set_title(f"{title}\n(lines: geometric mean over {seeds} seeds; bands: their range)")
    figure.legend(loc="outside right center")
    return figure


def floors(values: Series) -> dict[tuple[str, int | None], dict[int, float]]:
    """The median of the last ten epochs of every curve, by seed."""
    return {
        key: {seed: float(np.median(v[-10:])) for seed, v in by_seed.items()}
        for key, by_seed in values.items()
    }


def in_words(values: Iterable[float]) -> str:
    """`smallest to largest`, three digits."""
    numbers = list(values)
    return f"{min(numbers):.3g} to {max(numbers):.3g}"
