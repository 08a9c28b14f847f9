"""A wider network with one hidden layer is hardly slowed down by gradients of three bits.

Figure 2 (middle) of Hou, Zhang and Kwok, Analysis of quantized models, ICLR 2019: weights of
three bits (LAQ3) and gradients whole, in 3 bits, and in 3 bits clipped, by the number d of
hidden units. The paper's claim is that 3 bits are slower, and the more so the larger d.

    python launch.py --experiment=laq_dimension_mlp
    python launch.py --experiment=laq_dimension_mlp --size=paper   (MNIST)

The default size learns digits. The paper's rate is 0.1 / sqrt(t); here every curve has the best
of three (see `laq_widths`).

Where it fails: gradients do blow up more the wider the network, but only from 1.2 to 1.4 times,
where the bound goes from 9 to 31. What that costs is less than what the noise saves in the
first epoch, when RMSProp's second moment starts at 0 and steps are ten times too long; in the
last epoch few bits cost 4 % of the loss on the mean, which five seeds do not decide.
"""

from matplotlib.figure import Figure

from experiments import papers
from experiments.laq_widths import Results, Study, judged, picture, points, results
from lpml.runs import Point, Run, Verdict

PAPER = papers.QUANTIZED_MODELS
MINUTES = 5  # of two CPU cores, default size

WIDTHS = {"tiny": (8, 32), "default": (16, 64, 256), "paper": (64, 256, 1024)}
SEEDS = {"tiny": (1, 2, 3), "default": (1, 2, 3, 4, 5), "paper": (1, 2, 3)}
INPUTS = {"digits": 64, "mnist": 784}


def _width(config):
    return config["model"]["hidden"][0]


STUDY = Study(
    "one hidden layer",
    "mlp",
    setting=lambda width: {"model.hidden": (width,)},
    width=_width,
    tensor="Dense_0/kernel",
    entries=lambda config: INPUTS[config["data"]["name"]] * _width(config),
    rates={"tiny": (0.01, 0.03), "default": (0.003, 0.01, 0.03), "paper": (0.01, 0.03, 0.1)},
)


def runs(size: str) -> list[Point]:
    """All widths, gradients and seeds."""
    return points(STUDY, WIDTHS[size], SEEDS[size], size)


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
