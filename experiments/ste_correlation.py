"""Positive correlation does not tell good estimators from bad; bound (12) does.

After Yin et al., Understanding straight-through estimator in training activation quantized
neural nets, ICLR 2019, arXiv 1903.05662, lemmas 5, 8 and 9: inner products of the expected
coarse gradient E g with the true one, and the ratio ||E g||^2 / (||df/dv||^2 + <E g, df/dw>)
that must stay bounded for descent, on straight lines into spurious minima of three teachers.

    python launch.py --experiment=ste_correlation

Expected: all inner products are positive, ReLU's half the identity's. Towards the minimum the
identity's E g does not vanish (though it is small where S*, the sum of the teacher's v*, is),
so that the ratio grows as 1/distance; with ReLU and clipped ReLU it falls as the distance does.
"""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import papers
from experiments.curves import in_words
from experiments.estimators import IDENTITY, LOOKS, RELU, Look
from lpml.runs import Point, Run, Verdict, judge

PAPER = papers.STRAIGHT_THROUGH
MINUTES = 1  # of two CPU cores, default size

CONFIG = "configs/ste_correlation.py"
SEEDS = (1, 2, 3)
SIGMAS = 4.5  # of 117 sampled inner products one is beyond by chance in 1300 launches
GROWTH = 0.1  # how far the factor over the last tenth of the distance may be from 10 or 1/10


class Approach(NamedTuple):
    """A way into a spurious minimum: one value for each distance, all as of the metrics."""

    distance: np.ndarray
    ratio: np.ndarray
    correlation: np.ndarray
    sampled_correlation: np.ndarray
    standard_error: np.ndarray
    coarse_norm: np.ndarray

    def over_a_tenth(self, values: np.ndarray) -> float:
        """The factor by which values change over the last tenth of the distance."""
        tenth = int(np.argmin(np.abs(self.distance - 10 * self.distance[-1])))
        return float(values[-1] / values[tenth])

    def sigmas(self) -> float:
        """The farthest sampled inner product from its closed form, in standard errors."""
        apart = self.sampled_correlation - self.correlation
        return float(np.max(np.abs(apart) / self.standard_error))


Results = dict[Look, dict[int, Approach]]
"""By estimator and seed."""


def runs(size: str) -> list[Point]:
    """Three estimators, three teachers."""
    return [
        Point(
            f"{look.name}-seed{seed}",
            f"{CONFIG}:{size}",
            {"measurement.estimator": look.name, "seed": seed},
        )
        for look in LOOKS
        for seed in SEEDS
    ]


def load(finished: dict[str, Run]) -> Results:
    """The logs' columns."""
    looks = {look.name: look for look in LOOKS}
    found: Results = {}
    for run in finished.values():
        look = looks[run.config["measurement"]["estimator"]]
        columns = [run.series(name)[1] for name in Approach._fields]
        found.setdefault(look, {})[run.config["seed"]] = Approach(*columns)
    return found


def draw(results: Results) -> dict[str, Figure]:
    """Inner products with samples, sizes of the gradients, and the ratio, by distance."""
    figure = Figure(figsize=(14, 4.8), layout="constrained")
    products, sizes, ratios = figure.subplots(1, 3)
    for look in LOOKS:
        style = {"color": look.color, "linestyle": look.line, "linewidth": 1.8}
        for seed, way in sorted(results[look].items()):
            label = look.label if seed == min(results[look]) else None
            products.plot(way.distance, way.correlation, label=label, **style)
            sizes.plot(way.distance, way.coarse_norm, **style)
            ratios.plot(way.distance, way.ratio, marker=look.marker, ms=4, **style)
            seen = way.sampled_correlation > 2 * way.standard_error
            products.errorbar(
                way.distance[seen], way.sampled_correlation[seen], way.standard_error[seen],
                fmt=look.marker, ms=4, color=look.color, capsize=2, linewidth=0.8,
            )  # fmt: skip
    for axes, words in (
        (products, "inner product of coarse and true gradient"),
        (sizes, "norm of the expected coarse gradient"),
        (ratios, "ratio that descent needs bounded"),
    ):
        axes.set(xscale="log", yscale="log", ylabel=words)
        axes.set_xlabel("distance from the spurious minimum")
        axes.invert_xaxis()
        axes.grid(True, color="0.92")
    products.set_title(
        "positive for all (marks: samples, above 2 standard errors)", fontsize=10
    )
    sizes.set_title("the identity's does not vanish", fontsize=10)
    ratios.set_title("bounded for ReLU and clipped ReLU alone", fontsize=10)
    figure.suptitle("On the way into spurious minima of three teachers")
    figure.legend(*products.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return {"figure": figure}


def check(results: Results, size: str) -> list[Verdict]:
    """What all estimators share, and what separates them."""
    del size
    seeds = sorted(results[IDENTITY])
    half = {
        seed: results[RELU][seed].correlation / results[IDENTITY][seed].correlation
        for seed in seeds
    }
    sigmas = {seed: max(results[look][seed].sigmas() for look in LOOKS) for seed in seeds}
    least = {
        seed: min(float(np.min(results[look][seed].correlation)) for look in LOOKS)
        for seed in seeds
    }
    norms = {s: way.over_a_tenth(way.coarse_norm) for s, way in results[IDENTITY].items()}
    return [
        judge(
            "the expected coarse gradients of all three estimators point along the true one",
            {seed: value > 0 for seed, value in least.items()},
            measured=f"least inner product: {in_words(least.values())}",
            expected="> 0",
        ),
        judge(
            "sampled inner products agree with the closed forms",
            {seed: value < SIGMAS for seed, value in sigmas.items()},
            measured=f"largest deviation in standard errors: {in_words(sigmas.values())}",
            expected=f"< {SIGMAS}",
        ),
        judge(
            "ReLU's inner product is half the identity's",
            {seed: bool(np.all(np.abs(each - 0.5) < 1e-9)) for seed, each in half.items()},
            measured=f"ratio: {in_words(float(x) for each in half.values() for x in each)}",
            expected="0.5 within 1e-9",
        ),
        judge(
            "the identity's coarse gradient does not vanish at a spurious minimum",
            {seed: abs(value - 1) < GROWTH for seed, value in norms.items()},
            measured=f"its norm over the last tenth of the way: x {in_words(norms.values())}",
            expected=f"x 1 within {GROWTH}",
        ),
        *(
            _growth(look, results[look], factor=10 if look is IDENTITY else 0.1)
            for look in LOOKS
        ),
    ]


def _growth(look, ways, *, factor):
    found = {seed: way.over_a_tenth(way.ratio) for seed, way in ways.items()}
    word = "grows as 1/distance" if factor > 1 else "falls as the distance does"
    return judge(
        f"{look.label}: towards a spurious minimum the ratio of bound (12) {word}",
        {seed: abs(value / factor - 1) < GROWTH for seed, value in found.items()},
        measured=f"over the last tenth of the distance: x {in_words(found.values())}",
        expected=f"x {factor:g} within {GROWTH:.0%}",
    )
