"""A quire makes 32-bit posits four orders of magnitude more exact than float32 in products.

Table of Mallasen et al., PERCIVAL, IEEE TETC 10(3), 2022, arXiv 2111.15286: mean squared error
of matrix products against float64, by size and range of the inputs.

    python launch.py --experiment=posit_gemm

The paper's line for 256 x 256 numbers in [-1, 1]: float32 with FMA 2.361e-12, posit32 without a
quire 9.870e-15, with it 1.937e-16. The gain grows with the size, and shrinks with the range:
posits have their digits around 1, and beyond a few hundred fewer than float32 has.
"""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import papers
from experiments.curves import in_words
from experiments.style import log_axes
from lpml.runs import Point, Run, Verdict, judge

PAPER = papers.PERCIVAL
MINUTES = 5  # of two CPU cores, default size

CONFIG = "configs/posit_gemm.py"
SEEDS = (1, 2, 3)
SIZES = {"tiny": (4, 8, 16), "default": (16, 32, 64, 128, 256)}
LIMITS = (0.1, 1.0, 10.0, 100.0, 1000.0)


class Way(NamedTuple):
    """A format with a way of adding up, and how it is drawn."""

    label: str
    format: str
    sum: str
    color: str
    line: str
    marker: str


FMA = Way("float32, FMA", "float32", "fma", "#0072B2", "-", "s")
ROUNDED = Way("posit32, every operation rounded", "posit32", "rounded", "#E69F00", "--", "^")
QUIRE = Way("posit32, quire", "posit32", "quire", "#D55E00", "-", "o")
UNFUSED = Way("float32, products rounded too", "float32", "rounded", "#56B4E9", ":", "x")
WAYS = (UNFUSED, FMA, ROUNDED, QUIRE)
# The paper's numbers for 256 x 256 in [-1, 1], with the share that they may be missed by.
PUBLISHED = {FMA: 2.361e-12, ROUNDED: 9.870e-15, QUIRE: 1.937e-16}
SHARE = 0.05

Errors = dict[tuple[Way, int, float], dict[int, float]]
"""Mean squared errors by way, size and range, and by seed."""


def _cases(size: str) -> list[tuple[int, float]]:
    sizes = SIZES.get(size, SIZES["default"])
    return [*((n, 1.0) for n in sizes), *((sizes[-1], limit) for limit in LIMITS if limit != 1)]


def runs(size: str) -> list[Point]:
    """All sizes with inputs in [-1, 1], all ranges at the largest size; three seeds."""
    return [
        Point(
            f"{way.format}-{way.sum}-{n}-within{limit:g}-seed{seed}",
            f"{CONFIG}:{size}",
            {
                "measurement.format": way.format,
                "measurement.sum": way.sum,
                "measurement.size": n,
                "measurement.limit": limit,
                "seed": 1000 * seed,  # trials of a seed count on from it
            },
        )
        for way in WAYS
        for n, limit in _cases(size)
        for seed in SEEDS
    ]


def load(finished: dict[str, Run]) -> Errors:
    """Mean squared errors at the end."""
    ways = {(way.format, way.sum): way for way in WAYS}
    found: Errors = {}
    for run in finished.values():
        setting = run.config["measurement"]
        way = ways[setting["format"], setting["sum"]]
        by_seed = found.setdefault((way, setting["size"], setting["limit"]), {})
        assert run.final is not None
        by_seed[run.config["seed"] // 1000] = run.final["mse"]
    return found


def draw(errors: Errors) -> dict[str, Figure]:
    """Left: error by size. Right: error by range, in units of the range to the fourth power."""
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    by_size, by_range = figure.subplots(1, 2)
    sizes = sorted({n for _, n, limit in errors if limit == 1})
    for way in WAYS:
        style = {"color": way.color, "linestyle": way.line, "marker": way.marker}
        means = [_mean(errors[way, n, 1.0]) for n in sizes]
        by_size.plot(sizes, means, label=way.label, **style)
        scaled = [_mean(errors[way, sizes[-1], limit]) / limit**4 for limit in LIMITS]
        by_range.plot(LIMITS, scaled, **style)
    for axes in (by_size, by_range):
        axes.set_xscale("log", base=2 if axes is by_size else 10)
        axes.set_yscale("log")
        log_axes(axes)
    by_size.set_xticks(sizes, [str(n) for n in sizes])
    by_size.set(
        xlabel="rows and columns n", ylabel="mean squared error", title="inputs in [-1, 1]"
    )
    by_range.set(
        xlabel="largest input M",
        ylabel="mean squared error / M$^4$",
        title=f"n = {sizes[-1]}, inputs in [-M, M]",
    )
    figure.suptitle(f"Products of matrices against float64 (means over {len(SEEDS)} seeds)")
    figure.legend(loc="outside lower center", ncols=2)
    return {"figure": figure}


def _mean(by_seed: dict[int, float]) -> float:
    return float(np.mean(list(by_seed.values())))


def check(errors: Errors, size: str) -> list[Verdict]:
    """The paper's line, the orders of magnitude, and where they vanish."""
    sizes = sorted({n for _, n, limit in errors if limit == 1})
    most = sizes[-1]
    gain = _ratios(errors[FMA, most, 1.0], errors[QUIRE, most, 1.0])
    smallest = _ratios(errors[FMA, sizes[0], 1.0], errors[QUIRE, sizes[0], 1.0])
    far = _ratios(errors[ROUNDED, most, 1000.0], errors[FMA, most, 1000.0])
    far_quire = _ratios(errors[FMA, most, 1000.0], errors[QUIRE, most, 1000.0])
    orders = 2 if size == "tiny" else 4  # of small matrices there is less to lose
    verdicts = [] if size == "tiny" else _published(errors, most)
    return [
        *verdicts,
        judge(
            f"in [-1, 1] at {most} x {most} the quire gains {orders} orders of magnitude",
            {s: ratio > 10**orders for s, ratio in gain.items()},
            measured=f"error of float32 with FMA / posit32 with quire: "
            f"{in_words(gain.values())}",
            expected=f"> 1e{orders}",
            paper=f"four orders; {PUBLISHED[FMA] / PUBLISHED[QUIRE]:.3g} at 256 x 256",
        ),
        judge(
            "the gain grows with the size",
            {s: gain[s] > smallest[s] for s in gain},
            measured=f"the same at {sizes[0]} x {sizes[0]}: {in_words(smallest.values())}",
            expected=f"below that at {most} x {most}",
        ),
        judge(
            "in [-1000, 1000] posit32 without a quire is worse than float32",
            {s: ratio > 1 for s, ratio in far.items()},
            measured=f"error of posit32 / float32 with FMA: {in_words(far.values())}",
            expected="> 1",
        ),
        judge(
            "in [-1000, 1000] the quire still gains, but no four orders",
            {s: 1 < ratio < 1e4 for s, ratio in far_quire.items()},
            measured=f"error of float32 with FMA / posit32 with quire: "
            f"{in_words(far_quire.values())}",
            expected="1 to 1e4",
        ),
    ]


def _published(errors, most):
    return [
        judge(
            f"{way.label}: the paper's error at 256 x 256 in [-1, 1]",
            {s: abs(e / number - 1) < SHARE for s, e in errors[way, most, 1.0].items()},
            measured=in_words(errors[way, most, 1.0].values()),
            expected=f"{number:.4g} within {SHARE:.0%}",
            paper=f"{number:.4g}",
        )
        for way, number in PUBLISHED.items()
    ]


def _ratios(above: dict[int, float], below: dict[int, float]) -> dict[int, float]:
    return {seed: above[seed] / below[seed] for seed in above}
