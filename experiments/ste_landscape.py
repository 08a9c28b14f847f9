"""Along the coarse gradient a sample's loss is ragged but falls; large samples make it smooth.

Figure 1 of Yin et al., Understanding straight-through estimator in training activation
quantized neural nets, ICLR 2019, arXiv 1903.05662: the loss of a two-layer model with step
activations after one step along the negative coarse gradient, by step and sample size.

    python launch.py --experiment=ste_landscape

The paper does not say its sample sizes; here they are 10 to 20 000 inputs of 8 x 16 numbers;
the estimator is ReLU. Expected: the sum of all rises before the least loss is about 36 % of the
fall with 10 inputs, 1 % with 1000 and below 0.1 % with 20 000.
"""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import papers
from experiments.curves import in_words
from lpml.runs import Point, Run, Verdict, judge

PAPER = papers.STRAIGHT_THROUGH
MINUTES = 0.5  # of two CPU cores, default size

CONFIG = "configs/ste_landscape.py"
SEEDS = (1, 2, 3)
SAMPLES = {"tiny": (10, 100, 1000), "default": (10, 50, 1000, 20_000)}
COLORS = ("#0072B2", "#E69F00", "#CC79A7")
LINES = ("-", "--", "-.")
RAGGEDNESS = (
    ("climb", "rises / fall", {"color": "#D55E00", "marker": "o"}),
    ("rising_share", "steps that rise", {"color": "0.4", "marker": "s", "linestyle": ":"}),
)
# Largest sum of rises, over the fall, that counts as smooth; 1000 samples are not 20 000.
SMOOTH = {"tiny": 0.1, "default": 0.005}
RAGGED = 0.1


class Line(NamedTuple):
    """A run: losses by step size of its first problem, and means over its problems."""

    rates: np.ndarray
    sampled: np.ndarray
    population: np.ndarray
    climb: float
    rising_share: float
    fall: float


Results = dict[int, dict[int, Line]]
"""By sample size and seed."""


def runs(size: str) -> list[Point]:
    """All sample sizes with three seeds."""
    return [
        Point(
            f"samples{samples}-seed{seed}",
            f"{CONFIG}:{size}",
            {"measurement.samples": samples, "seed": seed},
        )
        for samples in SAMPLES.get(size, SAMPLES["default"])
        for seed in SEEDS
    ]


def load(finished: dict[str, Run]) -> Results:
    """The curves, and the numbers at their ends."""
    found: Results = {}
    for run in finished.values():
        assert run.final is not None
        by_seed = found.setdefault(run.config["measurement"]["samples"], {})
        by_seed[run.config["seed"]] = Line(
            run.series("rate")[1],
            run.series("sample_loss")[1],
            run.series("population_loss")[1],
            climb=run.final["climb"],
            rising_share=run.final["rising_share"],
            fall=run.final["fall"],
        )
    return found


def draw(results: Results) -> dict[str, Figure]:
    """A panel for each sample size, and the raggedness by sample size."""
    figure = Figure(figsize=(3.6 * (len(results) + 1), 4.6), layout="constrained")
    *panels, last = figure.subplots(1, len(results) + 1)
    for axes, (samples, by_seed) in zip(panels, sorted(results.items()), strict=True):
        for (seed, line), color, dashes in zip(sorted(by_seed.items()), COLORS, LINES):
            axes.plot(line.rates, line.population, color="0.75", linewidth=3)
            axes.plot(
                line.rates, line.sampled, color=color, linestyle=dashes, linewidth=1.2,
                label=f"problem {seed}",
            )  # fmt: skip
        axes.set(title=f"{samples} inputs", xlabel="step size", ylim=(0, None))
        axes.grid(True, color="0.92")
    panels[0].plot([], [], color="0.75", linewidth=3, label="expected loss, same path")
    panels[0].set_ylabel("loss / expected loss at the start")
    sizes = sorted(results)
    for name, label, style in RAGGEDNESS:
        means = [np.mean([getattr(line, name) for line in results[n].values()]) for n in sizes]
        last.plot(sizes, means, label=label, **style)
    last.set(xscale="log", xlabel="inputs", title="before the least loss", ylim=(0, None))
    last.set_ylabel("share, mean over problems and seeds")
    last.grid(True, color="0.92")
    last.legend()
    figure.suptitle("Loss after one step along the negative coarse gradient (ReLU estimator)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return {"figure": figure}


def check(results: Results, size: str) -> list[Verdict]:
    """Ragged for few inputs, smooth for many, and falling for all."""
    sizes = sorted(results)
    fewest, most = results[sizes[0]], results[sizes[-1]]
    smooth = SMOOTH.get(size, SMOOTH["default"])
    seeds = sorted(most)
    climbs = {seed: [results[n][seed].climb for n in sizes] for seed in seeds}
    means = [float(np.mean([climbs[seed][i] for seed in seeds])) for i in range(len(sizes))]
    return [
        judge(
            "the larger the sample, the less ragged the loss along the coarse gradient",
            {seed: all(np.diff(each) < 0) for seed, each in climbs.items()},
            measured="rises over fall, mean over seeds: "
            + ", ".join(f"{mean:.2g} ({n})" for n, mean in zip(sizes, means)),
            expected="falls with every larger sample",
        ),
        judge(
            f"with {sizes[0]} inputs it is ragged",
            {seed: line.climb > RAGGED for seed, line in fewest.items()},
            measured=f"rises over fall: {in_words(line.climb for line in fewest.values())}",
            expected=f"> {RAGGED}",
        ),
        judge(
            f"with {sizes[-1]} inputs raggedness has vanished",
            {seed: line.climb < smooth for seed, line in most.items()},
            measured=f"rises over fall: {in_words(line.climb for line in most.values())}; "
            f"share of steps: {in_words(line.rising_share for line in most.values())}",
            expected=f"rises over fall < {smooth}",
        ),
        judge(
            "on a coarse scale the loss falls for every sample size",
            {seed: all(results[n][seed].fall > 0.2 for n in sizes) for seed in seeds},
            measured="relative fall: "
            + in_words(line.fall for by_seed in results.values() for line in by_seed.values()),
            expected="> 0.2",
        ),
    ]
