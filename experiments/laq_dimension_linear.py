"""The larger a linear model, the more binary weights cost, and the more gradients of two bits.

Figure 2 (left) of Hou, Zhang and Kwok, Analysis of quantized models, ICLR 2019: least squares
with weights of one bit (LAB) and gradients in few bits, by the number of weights d.

    python launch.py --experiment=laq_dimension_linear

The theory: an error floor linear in d for quantised weights, none for float ones, and a
slow-down by stochastic gradients that grows with d and that clipping bounds; the floor stays.
Losses are means of squared errors, twice the paper's: noise alone is 0.04. An independent
computation in float64 ended at 0.19, 0.69 and 2.57 for d = 64, 256 and 1024, as this does. Of
64 weights the gap closes within a few lines of the log, so that slow-downs there are coarse.
"""

import itertools
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import papers
from experiments.curves import in_words
from experiments.laq_gradients import CLIPPED, FOUR, TWO, WHOLE, Sent
from experiments.style import log_axes
from lpml.runs import Point, Run, Verdict, judge, judge_mean

PAPER = papers.QUANTIZED_MODELS
MINUTES = 6  # of two CPU cores, default size

CONFIG = "configs/laq_linear.py"
DIMENSIONS = {"tiny": (32, 256), "default": (64, 256, 1024), "paper": (64, 256, 1024, 2048)}
SEEDS = {"tiny": (1, 2, 3), "default": (1, 2, 3, 4, 5), "paper": (1, 2, 3, 4, 5)}
GRADIENTS = (WHOLE, FOUR, CLIPPED, TWO)
LAB, FLOAT = "quantised", "float"
NAMES = {LAB: "binary weights (LAB)", FLOAT: "float weights"}
NOISE = 0.2**2  # variance of the labels about the true model
EVERY = 5  # steps between lines of the log: of 64 weights the gap closes within 15
CLOSED = 0.9  # share of the initial gap
TIMES = " times"


class Setting(NamedTuple):
    """What a curve belongs to: LAB or FLOAT, d, and what is sent."""

    weights: str
    dimension: int
    sent: Sent


Curves = dict[Setting, dict[int, np.ndarray]]
"""Losses by setting and seed: at the start, then means over every EVERY steps."""


def runs(size: str) -> list[Point]:
    """Both kinds of weights, all gradients and dimensions; every seed a problem of its own."""
    return [
        Point(
            f"{weights}-d{dimension}-{sent.slug}-seed{seed}",
            f"{CONFIG}:{weights},{size}",
            {
                "data.features": dimension,
                "data.seed": seed,
                "workers.bits": sent.bits,
                "workers.clip": sent.clip,
                "train.log_every": EVERY,
                "seed": seed,
            },
        )
        for weights in (LAB, FLOAT)
        for dimension in DIMENSIONS[size]
        for sent in GRADIENTS
        for seed in SEEDS[size]
    ]


def load(finished: dict[str, Run]) -> Curves:
    """Losses over the steps."""
    by_slug = {sent.slug: sent for sent in GRADIENTS}
    found: Curves = {}
    for name, run in finished.items():
        weights, _, slug, _ = name.split("-")
        setting = Setting(weights, run.config["data"]["features"], by_slug[slug])
        found.setdefault(setting, {})[run.config["seed"]] = run.series("loss")[1]
    return found


def ends(by_seed: dict[int, np.ndarray]) -> dict[int, float]:
    """Means over the last sixth of the steps."""
    return {seed: float(np.mean(v[-(len(v) // 6) :])) for seed, v in by_seed.items()}


def steps_to_close(curves: Curves, setting: Setting) -> dict[int, float]:
    """Steps until CLOSED of the gap is closed between the first loss and the floor.

    The floor is the last loss with whole gradients, so that it is the same for all that is
    sent. A curve is read as its mean over the last quarter of the steps so far: its noise
    falls with the steps, and what is measured stays a multiple of the true number. A run that
    never gets there counts with all of its steps, which is too few.
    """
    floors = ends(curves[setting._replace(sent=WHOLE)])
    found = {}
    for seed, values in curves[setting].items():
        target = floors[seed] + (1 - CLOSED) * (values[0] - floors[seed])
        sums = np.cumsum(values)
        k = np.arange(1, len(values))
        since = 3 * k // 4
        below = (sums[k] - sums[since]) / (k - since) <= target
        found[seed] = float(EVERY * (k[np.argmax(below)] if below.any() else k[-1]))
    return found


def slow_down(curves: Curves, weights: str, dimension: int, sent: Sent) -> dict[int, float]:
    """Steps to close the gap, over those with whole gradients."""
    whole = steps_to_close(curves, Setting(weights, dimension, WHOLE))
    own = steps_to_close(curves, Setting(weights, dimension, sent))
    return {seed: own[seed] / whole[seed] for seed in own}


def draw(curves: Curves) -> dict[str, Figure]:
    """Left: losses over the steps, binary weights. Then ends and slow-downs over d."""
    dimensions = _dimensions(curves)
    figure = Figure(figsize=(13.5, 5), layout="constrained")
    over_steps, over_d, slowness = figure.subplots(1, 3)
    for dimension in dimensions:
        for sent in (WHOLE, CLIPPED, TWO):
            mean = np.mean(list(curves[Setting(LAB, dimension, sent)].values()), axis=0)
            label = sent.label if dimension == dimensions[0] else None
            steps, shown = _thinned(mean)
            over_steps.plot(steps, shown, color=sent.color, linestyle=sent.line, label=label)
        over_steps.annotate(
            f"d = {dimension}", (steps[0], shown[0]), xytext=(0, 4), textcoords="offset points"
        )
    over_steps.margins(y=0.12)
    over_steps.legend()
    over_steps.set(xlabel="step", title="binary weights", ylabel="mean of squared errors")
    for weights, marker, color in ((LAB, "o", "#D55E00"), (FLOAT, "s", "#0072B2")):
        last = [ends(curves[Setting(weights, d, WHOLE)]) for d in dimensions]
        _over(over_d, dimensions, last, color=color, marker=marker, label=NAMES[weights])
    lab = np.mean(list(ends(curves[Setting(LAB, dimensions[0], WHOLE)]).values()))
    slope = (lab - NOISE) / dimensions[0]
    over_d.plot(dimensions, [NOISE + slope * d for d in dimensions], color="0.5", linestyle=":",
                label=f"noise + {slope:.2g} d")  # fmt: skip
    over_d.axhline(NOISE, color="black", linewidth=1, label="noise of the labels")
    over_d.set(title="at the end, whole gradients", ylabel="mean of squared errors")
    over_d.legend()
    for sent in (TWO, CLIPPED, FOUR):
        slower = [slow_down(curves, LAB, d, sent) for d in dimensions]
        style = dict(color=sent.color, linestyle=sent.line, marker=sent.marker)
        _over(slowness, dimensions, slower, label=sent.label, **style)
    slowness.axhline(1, color="black", linewidth=1)
    slowness.set(
        title="binary weights", ylabel=f"steps until {CLOSED:.0%} of the gap is closed\n"
        "/ those with whole gradients",
    )  # fmt: skip
    slowness.legend(loc="upper left")
    slowness.set_ylim(top=1.25 * slowness.get_ylim()[1])
    slowness.grid(True, color="0.88")
    for axes in (over_steps, over_d):
        axes.set_xscale("log")
        axes.set_yscale("log")
        log_axes(axes)
    for axes in (over_d, slowness):
        axes.set_xscale("log", base=2)
        axes.set_xticks(dimensions, [str(d) for d in dimensions])
        axes.set_xlabel("number of weights d")
    seeds = len(next(iter(curves.values())))
    figure.suptitle(f"Least squares, quantised (means and range over {seeds} seeds)")
    return {"figure": figure}


def _over(axes, dimensions, by_dimension, **style):
    means = np.array([np.mean(list(v.values())) for v in by_dimension])
    low = means - [min(v.values()) for v in by_dimension]
    high = [max(v.values()) for v in by_dimension] - means
    axes.errorbar(dimensions, means, (low, high), capsize=3, **style)


def _thinned(values):
    """Means over stretches that are alike on a logarithmic axis of steps; (steps, values)."""
    edges = np.unique(np.geomspace(1, len(values), 60).astype(int))
    parts = list(itertools.pairwise(edges))
    middle = [EVERY * np.sqrt(low * max(high - 1, low)) for low, high in parts]
    return middle, [np.mean(values[low:high]) for low, high in parts]


def _dimensions(curves):
    return sorted({setting.dimension for setting in curves})


def check(curves: Curves, size: str) -> list[Verdict]:
    """Floors by d and by weights, then what gradients of few bits cost in steps and in loss."""
    del size  # the claims are the same at every size
    dimensions = _dimensions(curves)
    return [
        *_floors(curves, dimensions),
        *_slowness(curves, dimensions),
        _not_higher(curves, dimensions),
    ]


def _floors(curves, dimensions):
    lab = {d: ends(curves[Setting(LAB, d, WHOLE)]) for d in dimensions}
    full = {d: ends(curves[Setting(FLOAT, d, WHOLE)]) for d in dimensions}
    slopes = {
        seed: [(lab[d][seed] - NOISE) / d for d in dimensions] for seed in lab[dimensions[0]]
    }
    yield judge(
        "with binary weights the excess over the noise is linear in d within 20 %",
        {seed: max(v) / min(v) < 1.2 for seed, v in slopes.items()},
        measured="; ".join(f"d = {d}: loss {in_words(lab[d].values())}" for d in dimensions)
        + f"; excess / d {in_words(x for v in slopes.values() for x in v)}",
        expected="largest excess / d below 1.2 times the smallest",
    )
    yield judge(
        "with float weights the loss ends at the noise whatever d",
        {
            seed: all(abs(full[d][seed] / NOISE - 1) < 0.1 for d in dimensions)
            for seed in slopes
        },
        measured="; ".join(f"d = {d}: {in_words(full[d].values())}" for d in dimensions),
        expected=f"{NOISE:.2f} within 10 %",
    )


def _slowness(curves, dimensions):
    smallest, largest = dimensions[0], dimensions[-1]
    for weights in (LAB, FLOAT):
        at = {sent: slow_down(curves, weights, largest, sent) for sent in GRADIENTS}
        narrow, name = slow_down(curves, weights, smallest, TWO), NAMES[weights]
        yield judge_mean(
            f"{name}, d = {largest}: gradients of 2 bits need more steps", at[TWO],
            above=1, unit=TIMES,
        )  # fmt: skip
        yield judge_mean(
            f"{name}: that slow-down is larger than at d = {smallest}",
            {s: x / narrow[s] for s, x in at[TWO].items()}, above=1, unit=TIMES,
            paper="the larger d, the slower and the more so with 2 bits",
        )  # fmt: skip
        yield judge_mean(
            f"{name}, d = {largest}: clipping takes back a part of it",
            {s: x / at[CLIPPED][s] for s, x in at[TWO].items()}, above=1, unit=TIMES,
        )  # fmt: skip
        yield judge_mean(
            f"{name}, d = {largest}: clipped, they still need more steps than whole ones",
            at[CLIPPED], above=1, unit=TIMES,
        )  # fmt: skip
        yield judge_mean(
            f"{name}, d = {largest}: gradients of 4 bits cost at most a fifth more steps",
            at[FOUR], below=1.2, unit=TIMES,
        )  # fmt: skip


def _not_higher(curves, dimensions):
    ratios = {
        d: {
            s: ends(curves[Setting(LAB, d, TWO)])[s] / whole
            for s, whole in ends(curves[Setting(LAB, d, WHOLE)]).items()
        }
        for d in dimensions
    }
    return judge(
        "binary weights: gradients of 2 bits end no higher (the floor is the weights')",
        {s: all(ratios[d][s] <= 1.05 for d in dimensions) for s in ratios[dimensions[0]]},
        measured="; ".join(
            f"d = {d}: {in_words(ratios[d].values())} of whole gradients'" for d in dimensions
        ),
        expected="at most 1.05",
    )
