"""Gradients of three bits slow CifarNet down, and the more the wider it is.

Figure 2 (right) of Hou, Zhang and Kwok, Analysis of quantized models, ICLR 2019: weights of
three bits (LAQ3) and gradients whole, in 3 bits, and in 3 bits clipped, by the number d of
filters of the two convolutions. The paper's claim is that the slow-down grows with d.

    python launch.py --experiment=laq_dimension_cifarnet
    python launch.py --experiment=laq_dimension_cifarnet --size=paper   (CIFAR-10; a GPU)

The default size has thin networks that learn digits, at one rate for all. There the average
loss of training rises by 16 % at d = 4 and by 25 % at d = 16; clipping takes half of that back.
It takes ten seeds to tell: with three neither the growth nor the gain is decided.
"""

from matplotlib.figure import Figure

from experiments import papers
from experiments.laq_widths import Results, Study, judged, picture, points, results
from lpml.runs import Point, Run, Verdict

PAPER = papers.QUANTIZED_MODELS
MINUTES = 8  # of two CPU cores, default size

WIDTHS = {"tiny": (4, 8), "default": (4, 16), "paper": (16, 32, 64)}
SEEDS = {"tiny": (1, 2), "default": tuple(range(1, 11)), "paper": (1, 2, 3)}
STEPS = 240  # at the default size: 15 epochs, after which the loss is a tenth of the first
PATCH = 5 * 5


def _width(config):
    return config["model"]["width"]


STUDY = Study(
    "CifarNet",
    "cifarnet",
    setting=lambda width: {"model.width": width},
    width=_width,
    tensor="Conv_1/kernel",
    entries=lambda config: PATCH * _width(config) ** 2,
    rates={"tiny": (2e-3,), "default": (2e-3,), "paper": (2e-4,)},
)


def runs(size: str) -> list[Point]:
    """All widths, gradients and seeds."""
    made = points(STUDY, WIDTHS[size], SEEDS[size], size)
    if size != "default":
        return made
    short = {"train.steps": STEPS}
    return [point._replace(overrides={**point.overrides, **short}) for point in made]


def load(finished: dict[str, Run]) -> Results:
    """Losses, accuracies and blow-ups."""
    return results(STUDY, finished)


def draw(found: Results) -> dict[str, Figure]:
    """Losses over the epochs, costs and blow-ups over the width."""
    return {"figure": picture(STUDY, found)}


def check(found: Results, size: str) -> list[Verdict]:
    """See `laq_widths`."""
    del size  # the claims are the same at every size
    return judged(STUDY, found)
