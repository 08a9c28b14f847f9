"""A small network: no gap between methods at 8 bits; at 4 bits HALP trains deepest.

The non-convex claim of De Sa et al., arXiv 1803.03383, at laptop size: digits, 64-64-10 tanh
units, one grid spacing per layer.

    python launch.py --experiment=halp_mlp

Expected (alpha 0.2, batch 25, 40 epochs): training loss with 4 bits HALP 0.008, LP-SVRG 0.015,
LP-SGD 0.033; with 8 bits all at 0.011. That 4-bit HALP even ends below full-precision SVRG
is no gain in accuracy of the optimizer: its coarse grid drives the weights further out (norm 27
against 19 after 40 epochs), and cross entropy falls with the norm once all samples are right.
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
MINUTES = 1.5  # of two CPU cores, default size

CONFIG = "configs/halp_mlp.py"
SEEDS = (1, 2, 3)
CURVES = (
    Curve("SGD", "sgd"),
    Curve("SVRG", "svrg"),
    Curve("LP-SGD, 8 bits", "lp_sgd", 8),
    Curve("LP-SVRG, 8 bits", "lp_svrg", 8),
    Curve("HALP, 8 bits", "halp", 8),
    Curve("LP-SGD, 4 bits", "lp_sgd", 4),
    Curve("LP-SVRG, 4 bits", "lp_svrg", 4),
    Curve("HALP, 4 bits", "halp", 4),
)


class Training(NamedTuple):
    """Training loss and validation accuracy over the epochs."""

    loss: Series
    accuracy: Series


def runs(size: str) -> list[Point]:
    """Every curve, three seeds each."""
    return points(CONFIG, CURVES, SEEDS, size)


def load(finished: dict[str, Run]) -> Training:
    """Both series of every run."""
    return Training(
        series(finished.values(), "loss"), series(finished.values(), "test_accuracy")
    )


def draw(training: Training) -> dict[str, Figure]:
    """The training loss of every method."""
    return {
        "figure": draw_curves(
            CURVES,
            training.loss,
            title="Digits, 64-64-10 tanh network",
            ylabel="training loss (cross entropy, nats)",
            xlabel="epoch k  (two passes in mini-batches of 25)",
        )
    }


def check(training: Training, size: str) -> list[Verdict]:
    """HALP against the other low-precision methods at each width."""
    del size  # the claims are orderings, the same at every size
    loss, accuracy = floors(training.loss), floors(training.accuracy)
    verdicts = []
    for other, name in (("lp_sgd", "LP-SGD"), ("lp_svrg", "LP-SVRG")):
        verdicts.append(
            judge(
                f"with 4 bits HALP ends at a lower training loss than {name}",
                {s: loss["halp", 4][s] < loss[other, 4][s] for s in SEEDS},
                measured=f"HALP {in_words(loss['halp', 4].values())}, "
                f"{name} {in_words(loss[other, 4].values())}",
                expected="HALP lower",
            )
        )
    verdicts.append(
        judge(
            "with 4 bits HALP validates better than LP-SGD",
            {s: accuracy["halp", 4][s] > accuracy["lp_sgd", 4][s] for s in SEEDS},
            measured=f"accuracy: HALP {in_words(accuracy['halp', 4].values())}, "
            f"LP-SGD {in_words(accuracy['lp_sgd', 4].values())}",
            expected="HALP higher",
            paper="HALP validates better (two networks)",
        )
    )
    full = loss["sgd", None]
    verdicts.append(
        judge(
            "with 8 bits no method falls visibly behind full precision",
            {
                s: all(loss[m, 8][s] < 1.5 * full[s] for m in ("halp", "lp_svrg", "lp_sgd"))
                for s in SEEDS
            },
            measured="training loss at 8 bits: "
            + in_words(loss[m, 8][s] for m in ("halp", "lp_svrg", "lp_sgd") for s in SEEDS)
            + f"; SGD {in_words(full.values())}",
            expected="at most 1.5 times SGD's",
        )
    )
    return verdicts
