"""Gradients of 2 bits double the training loss; 4 bits raise it by 9 and 16 % on the mean.

Figure 4 of Hou, Zhang and Kwok, Analysis of quantized models, ICLR 2019: weights of 3 bits
(LAQ3), two workers that send their gradients whole or in 2, 3 or 4 bits (SQ2, SQ3, SQ4).

    python launch.py --experiment=laq_gradient_bits
    python launch.py --experiment=laq_gradient_bits --size=paper   (CIFAR-10; a GPU)

The paper trains CifarNet on CIFAR-10 with Adam, two workers of 64 samples. The default size
has a network of one hidden layer (60 epochs) and a thin CifarNet (30 epochs), ten seeds each,
on digits, two workers of 32 samples; the end of a curve is the mean of its last five epochs.
Bytes are what each worker receives: packed codes and scales of every kernel, biases as
float32. At two workers and 4 bits that is a seventh of a float32 all-reduce. What 4 bits cost
the CifarNet is 16 % on the mean of ten seeds; whether it is less than the 0.1 decades of the
claim, and less than a point of accuracy, is open.
"""

import numpy as np
from matplotlib.figure import Figure

from experiments import laq_networks, papers
from experiments.laq_networks import DECADES, NAMES, POINTS, Curve, Trained
from lpml.runs import Point, Run, Verdict, judge_mean

PAPER = papers.QUANTIZED_MODELS
MINUTES = 6  # of two CPU cores, default size


def _sent(bits):
    return {"optim.bits": 3, "workers.bits": bits}


WHOLE = Curve("whole gradients", "whole", {"optim.bits": 3}, "#000000", "-", "o")
SQ2 = Curve("2 bits (SQ2)", "sq2", _sent(2), "#D55E00", "--", "s")
SQ3 = Curve("3 bits (SQ3)", "sq3", _sent(3), "#0072B2", "-.", "^")
SQ4 = Curve("4 bits (SQ4)", "sq4", _sent(4), "#E69F00", ":", "D")
CURVES = (WHOLE, SQ2, SQ3, SQ4)
NETWORKS = {"tiny": ("mlp",), "default": ("mlp", "cifarnet"), "paper": ("cifarnet",)}
NEGLIGIBLE = 0.1  # decades: losses within 26 %


def runs(size: str) -> list[Point]:
    """Every width of the gradients, some seeds each."""
    return [p for network in NETWORKS[size] for p in laq_networks.points(CURVES, network, size)]


def load(finished: dict[str, Run]) -> Trained:
    """Curves and ends of every run."""
    return laq_networks.load(finished)


def draw(trained: Trained) -> dict[str, Figure]:
    """Training loss by epoch, by bytes, and test accuracy; a column for each network."""
    networks = trained.networks()
    figure = Figure(figsize=(1 + 5.3 * len(networks), 11), layout="constrained")
    panels = figure.subplots(3, len(networks), squeeze=False)
    for (top, middle, bottom), network in zip(panels.T, networks):
        laq_networks.draw_loss(top, trained, network, CURVES)
        laq_networks.draw_bytes(middle, trained, network, CURVES)
        laq_networks.draw_accuracy(bottom, trained, network, CURVES)
        seeds = laq_networks.seeds_of(trained, network)
        top.set_title(f"{NAMES[network]} (mean and range of {seeds} seeds)")
    panels[0, 0].legend()
    figure.suptitle("Gradients in few bits, weights of 3 bits, two workers")
    return {"figure": figure}


def fewer_bytes(trained: Trained, network: str, curve: Curve) -> dict[int, float]:
    """How many times fewer bytes than whole gradients until the loss is twice their end.

    Infinitely many times more, so 0, where the curve never gets there.
    """
    found, aims = {}, trained.ends(network, WHOLE)
    for seed, aim in aims.items():
        whole = _bytes_until(trained, network, WHOLE, seed, 2 * aim)
        found[seed] = whole / _bytes_until(trained, network, curve, seed, 2 * aim)
    return found


def _bytes_until(trained, network, curve, seed, loss):
    below = np.flatnonzero(trained.loss[network, curve.slug][seed] <= loss)
    epochs = below[0] + 1 if len(below) else np.inf
    return epochs * trained.wire[network, curve.slug]


def check(trained: Trained, size: str) -> list[Verdict]:
    """What each width loses against whole gradients, and what it saves."""
    verdicts = []
    for network in NETWORKS[size]:
        name = NAMES[network]
        verdicts += [laq_networks.ends_above(trained, network, c, WHOLE) for c in (SQ2, SQ3)]
        verdicts += [
            judge_mean(
                f"{name}: training loss with {SQ4.label} ends within {NEGLIGIBLE} decades of "
                f"{WHOLE.label}",
                trained.above(network, SQ4, WHOLE), above=-NEGLIGIBLE, below=NEGLIGIBLE,
                unit=DECADES, paper="SQ4 loses a negligible amount",
            ),
            judge_mean(
                f"{name}: test accuracy with {SQ2.label} is below {WHOLE.label}",
                trained.lost(network, SQ2, WHOLE), above=0, unit=POINTS,
                paper="SQ2 and SQ3 are worse than whole gradients",
            ),
            laq_networks.keeps_accuracy(trained, network, SQ4, WHOLE),
            judge_mean(
                f"{name}: {SQ4.label} comes to twice the final loss of {WHOLE.label} with at "
                "least 4 times fewer bytes",
                fewer_bytes(trained, network, SQ4), above=4, unit=" times",
            ),
        ]  # fmt: skip
    return verdicts
