"""8-bit HALP goes on converging where 8-bit SGD and SVRG stall.

The well-known figure of De Sa et al., arXiv 1803.03383 (synthetic linear regression, 100
features, 1000 samples): gradient norm against epochs.

    python launch.py --experiment=halp_regression

Expected (data noise 1, alpha 5e-4, T = 2N, batch 1, 50 outer epochs): LP-SGD and LP-SVRG stall
at 45 and 50 with 8 bits and at 0.6 and 0.2 with 16; SGD at 0.46; SVRG in float64 ends at
2e-12; HALP ends at 2e-14 with 8 bits as with 16.
"""

import numpy as np
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

CONFIG = "configs/halp_regression.py"
SEEDS = (1, 2, 3)
CURVES = (
    Curve("SGD", "sgd"),
    Curve("SVRG", "svrg"),
    Curve("LP-SGD, 8 bits", "lp_sgd", 8),
    Curve("LP-SVRG, 8 bits", "lp_svrg", 8),
    Curve("LP-SGD, 16 bits", "lp_sgd", 16),
    Curve("LP-SVRG, 16 bits", "lp_svrg", 16),
    Curve("HALP, 8 bits", "halp", 8),
    Curve("HALP, 16 bits", "halp", 16),
)
# Where 8-bit LP-SGD and LP-SVRG stay above from epoch 5 on. The problem's own scale of their
# floor is 0.32 tr(H) delta: 44 at the default size, 5 at the tiny one.
STALL = {"tiny": 1.0, "default": 15.0, "paper": 15.0}


def runs(size: str) -> list[Point]:
    """Every curve, three seeds each."""
    return points(CONFIG, CURVES, SEEDS, size)


def load(finished: dict[str, Run]) -> Series:
    """Gradient norms at the end of every outer epoch of 2 N steps."""
    return series(finished.values(), "grad_norm")


def draw(norms: Series) -> dict[str, Figure]:
    """The gradient norm of every method."""
    return {
        "figure": draw_curves(
            CURVES,
            norms,
            title="Linear regression",
            ylabel=r"gradient norm $\|\nabla f(w)\|_2$",
            xlabel="epoch k  (2 N steps of batch 1 and one full gradient)",
        )
    }


def check(norms: Series, size: str) -> list[Verdict]:
    """The claims of the paper's section 5 on this figure."""
    halp8, svrg = norms["halp", 8], norms["svrg", None]
    end = {key: {s: v[-1] for s, v in by_seed.items()} for key, by_seed in norms.items()}
    floor = floors(norms)
    stalls = [
        judge(
            f"{name} with 8 bits stalls",
            {s: v[5:].min() > STALL[size] for s, v in norms[method, 8].items()},
            measured="lowest from epoch 5 on: "
            + in_words(v[5:].min() for v in norms[method, 8].values()),
            expected=f"never below {STALL[size]:g}",
            paper="stops at a level that the bits set",
        )
        for name, method in (("LP-SGD", "lp_sgd"), ("LP-SVRG", "lp_svrg"))
    ]
    rates = {s: _rate(v, 4, 28) for s, v in halp8.items()}
    slopes = {s: _rate(v, 4, 24) for s, v in svrg.items()}
    shares = {s: floor["lp_svrg", 8][s] / floor["lp_svrg", 16][s] for s in halp8}
    return [
        judge(
            "HALP with 8 bits goes below 1e-12",
            {s: v < 1e-12 for s, v in end["halp", 8].items()},
            measured=f"gradient norm at the end: {in_words(end['halp', 8].values())}",
            expected="< 1e-12",
            paper="linear convergence, limited only by floating point",
        ),
        *stalls,
        judge(
            "full-precision SVRG ends higher than 8-bit HALP",
            {s: floor["svrg", None][s] > 10 * floor["halp", 8][s] for s in halp8},
            measured=f"floor of SVRG {in_words(floor['svrg', None].values())}, "
            f"of HALP {in_words(floor['halp', 8].values())}",
            expected="more than 10 times higher",
            paper="HALP ends at a more accurate solution",
        ),
        judge(
            "8-bit HALP converges at SVRG's rate",
            {s: np.log(rates[s]) / np.log(slopes[s]) > 0.9 for s in rates},
            measured=f"factor per epoch: HALP {in_words(rates.values())}, "
            f"SVRG {in_words(slopes.values())}",
            expected="at most 10% lost in the exponent",
            paper="HALP follows SVRG's curve",
        ),
        judge(
            "the floor of LP-SVRG is proportional to the grid spacing",
            {s: 128 < share < 512 for s, share in shares.items()},
            measured=f"floor with 8 bits / with 16 bits: {in_words(shares.values())}",
            expected="2^8 within a factor of 2",
        ),
    ]


def _rate(values, first, last):
    return float((values[last] / values[first]) ** (1 / (last - first)))
