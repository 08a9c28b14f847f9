"""The more bits weights have, the lower the training loss ends; 3 are enough for an MLP.

Figure 3 of Hou, Zhang and Kwok, Analysis of quantized models, ICLR 2019: two workers, whole
gradients, weights in full precision, of one bit (LAB), and of 2, 3 and 4 bits (LAQ).

    python launch.py --experiment=laq_weight_bits
    python launch.py --experiment=laq_weight_bits --size=paper   (CIFAR-10; a GPU)

The paper trains CifarNet on CIFAR-10 with Adam, two workers of 64 samples. The default size has
a network of one hidden layer (60 epochs) and a thin CifarNet (30 epochs), ten seeds each, on
digits, two workers of 32 samples; the end of a curve is the mean of its last five
epochs.
"""

from matplotlib.figure import Figure

from experiments import laq_networks, papers
from experiments.laq_networks import Curve, Trained
from lpml.runs import Point, Run, Verdict

PAPER = papers.QUANTIZED_MODELS
MINUTES = 6  # of two CPU cores, default size

FLOAT = Curve("float weights", "float", {}, "#000000", "-", "o")
LAB = Curve("1 bit (LAB)", "lab", {"optim.bits": 1}, "#CC79A7", ":", "v")
LAQ2 = Curve("2 bits (LAQ2)", "laq2", {"optim.bits": 2}, "#D55E00", "--", "s")
LAQ3 = Curve("3 bits (LAQ3)", "laq3", {"optim.bits": 3}, "#0072B2", "-.", "^")
LAQ4 = Curve("4 bits (LAQ4)", "laq4", {"optim.bits": 4}, "#E69F00", "--", "D")
CURVES = (FLOAT, LAB, LAQ2, LAQ3, LAQ4)
NETWORKS = {"tiny": ("mlp",), "default": ("mlp", "cifarnet"), "paper": ("cifarnet",)}


def runs(size: str) -> list[Point]:
    """Every width of the weights, some seeds each."""
    return [p for network in NETWORKS[size] for p in laq_networks.points(CURVES, network, size)]


def load(finished: dict[str, Run]) -> Trained:
    """Curves and ends of every run."""
    return laq_networks.load(finished)


def draw(trained: Trained) -> dict[str, Figure]:
    """Above: training loss by epoch. Below: test accuracy by width."""
    networks = trained.networks()
    figure = Figure(figsize=(1 + 5.3 * len(networks), 8), layout="constrained")
    panels = figure.subplots(2, len(networks), squeeze=False)
    for (above, below), network in zip(panels.T, networks):
        laq_networks.draw_loss(above, trained, network, CURVES)
        laq_networks.draw_accuracy(below, trained, network, CURVES)
        seeds = laq_networks.seeds_of(trained, network)
        above.set_title(f"{laq_networks.NAMES[network]} (mean and range of {seeds} seeds)")
    panels[0, 0].legend()
    figure.suptitle("Weights in few bits, gradients whole, two workers")
    return {"figure": figure}


def check(trained: Trained, size: str) -> list[Verdict]:
    """The order of the losses, and what is left to full precision."""
    verdicts = []
    for network in NETWORKS[size]:
        for fewer, more in ((LAB, LAQ2), (LAQ2, LAQ3), (LAQ3, LAQ4)):
            verdicts.append(laq_networks.ends_above(trained, network, fewer, more))
        for curve in (LAQ3, LAQ4):
            kept = laq_networks.keeps_accuracy(trained, network, curve, FLOAT)
            verdicts.append(kept._replace(paper="3 to 4 bits come close to full precision"))
    return verdicts
