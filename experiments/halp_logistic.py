"""8-bit HALP reaches the optimum of multinomial logistic regression; LP methods stall.

The convex classification problem of De Sa et al., arXiv 1803.03383: digits by default, MNIST
with --size=paper (its four IDX files in the folder that LPML_DATA names).

    python launch.py --experiment=halp_logistic
    LPML_DATA=DATA python launch.py --experiment=halp_logistic --size=paper

Expected on digits (l2 0.01, alpha 0.4, batch 10, T = 2N / batch): HALP with 8 bits ends at
5e-17 (the claim: below 1e-13), SVRG at 6e-16; LP-SVRG stalls at 4.5e-3 and LP-SGD, like SGD
itself, at 0.2.
"""

from typing import NamedTuple

from matplotlib.figure import Figure

from experiments import papers
from experiments.curves import (
    Curve,
    Series,
    floors,
    in_words,
    points,
    series,
)
from experiments.curves import (
    draw as draw_curves,
)
from lpml.runs import Point, Run, Verdict, judge

PAPER = papers.HALP
MINUTES = 1  # of two CPU cores, default size

CONFIG = "configs/halp_logistic.py"
SEEDS = (1, 2, 3)
CURVES = (
    Curve("SGD", "sgd"),
    Curve("SVRG", "svrg"),
    Curve("LP-SGD, 8 bits", "lp_sgd", 8),
    Curve("LP-SVRG, 8 bits", "lp_svrg", 8),
    Curve("HALP, 8 bits", "halp", 8),
    Curve("HALP, 16 bits", "halp", 16),
)
# The gradient norm 8-bit HALP must get below in 40 epochs (30 at the tiny size).
REACHED = {"tiny": 1e-9, "default": 1e-13, "paper": 1e-12}


def runs(size: str) -> list[Point]:
    """Every curve, three seeds each."""
    return points(CONFIG, CURVES, SEEDS, size)


class Results(NamedTuple):
    """Gradient norms at the end of every outer epoch, and the data set they belong to."""

    norms: Series
    data: str


def load(finished: dict[str, Run]) -> Results:
    """Reads the runs back."""
    data = next(iter(finished.values())).config["data"]["name"]
    return Results(series(finished.values(), "grad_norm"), data)


def draw(results: Results) -> dict[str, Figure]:
    """The gradient norm of every method."""
    return {
        "figure": draw_curves(
            CURVES,
            results.norms,
            title=f"Multinomial logistic regression on {results.data}",
            ylabel=r"gradient norm $\|\nabla f(w)\|_2$",
            xlabel="epoch k  (two passes in mini-batches and one full gradient)",
        )
    }


def check(results: Results, size: str) -> list[Verdict]:
    """The convex claims of the paper on a real classification problem."""
    norms = results.norms
    floor = floors(norms)
    halp8 = {seed: float(v[-1]) for seed, v in norms["halp", 8].items()}
    verdicts = [
        judge(
            f"HALP with 8 bits goes below {REACHED[size]:g}",
            {s: v < REACHED[size] for s, v in halp8.items()},
            measured=f"gradient norm at the end: {in_words(halp8.values())}",
            expected=f"< {REACHED[size]:g}",
            paper="linear convergence, limited only by floating point",
        )
    ]
    sgd = in_words(floor["sgd", None].values())
    for claim, method in (
        ("LP-SGD with 8 bits stalls, where full-precision SGD does too", "lp_sgd"),
        ("LP-SVRG with 8 bits stalls, where full-precision SVRG does not", "lp_svrg"),
    ):
        by_seed = floor[method, 8]
        verdicts.append(
            judge(
                claim,
                {s: v > 1e-3 for s, v in by_seed.items()},
                measured=f"median of the last ten epochs: {in_words(by_seed.values())}"
                + (f"; SGD {sgd}" if method == "lp_sgd" else ""),
                expected="> 1e-3",
                paper="stops at a level that the bits set",
            )
        )
    svrg, halp = floor["svrg", None], floor["halp", 8]
    verdicts.append(
        judge(
            "HALP with 8 bits ends below full-precision SVRG",
            {s: halp[s] < v for s, v in svrg.items()},
            measured=f"median of the last ten epochs: HALP {in_words(halp.values())}, "
            f"SVRG {in_words(svrg.values())}",
            expected="HALP lower",
            paper="HALP ends at a more accurate solution",
        )
    )
    return verdicts
