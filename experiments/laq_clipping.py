"""Without clipping, 2 bits lengthen a gradient the more the larger the layer; clipped, not.

Section 4 of Hou, Zhang and Kwok, Analysis of quantized models, ICLR 2019: CifarNet with weights
of 2 bits (LAQ2) and gradients of 2 bits (SQ2), clipped at c = 1, 2, 3 standard deviations of
their entries or not at all, two workers.

    python launch.py --experiment=laq_clipping
    python launch.py --experiment=laq_clipping --size=paper   (CIFAR-10; a GPU)

The ratio of a layer is ||Q(g)||^2 / ||g||^2, the mean over both workers and all steps. For a
Gaussian gradient of d entries it is sqrt(2 / pi) E max |z_i| without clipping, which grows with
d, and clipped at c at most 1 + sqrt(2 / pi) c for every d. The slopes are those of a straight
line through the logarithms of ratio and size. The default size has a thin CifarNet on digits
whose largest layer has 73 728 weights, 30 epochs, two workers of 32 samples; size tiny has
networks of three dense layers.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import laq_networks, papers
from experiments.laq_networks import DECADES, Curve, Trained
from lpml.runs import Point, Run, Verdict, judge, judge_mean

PAPER = papers.QUANTIZED_MODELS
MINUTES = 6  # of two CPU cores, default size

RATIO = "norm_ratio/"


def _clipped(c):
    return {"optim.bits": 2, "workers.bits": 2, "workers.norms": True, "workers.clip": c}


WHOLE = Curve("whole gradients", "whole", {"optim.bits": 2}, "#000000", "-", "o")
NONE = Curve("SQ2, not clipped", "none", _clipped(None), "#D55E00", "--", "s")
CLIPS = {
    1: Curve("SQ2, c = 1", "c1", _clipped(1.0), "#CC79A7", ":", "v"),
    2: Curve("SQ2, c = 2", "c2", _clipped(2.0), "#E69F00", "--", "D"),
    3: Curve("SQ2, c = 3", "c3", _clipped(3.0), "#0072B2", "-.", "^"),
}
CURVES = (WHOLE, NONE, *CLIPS.values())
NETWORK = {"tiny": "mlp", "default": "cifarnet", "paper": "cifarnet"}
HIDDEN = {"tiny": (64, 32), "default": (384, 192), "paper": (384, 192)}
EARLY = 3  # epochs whose mean is the start of a curve
COMPARABLE = 0.1  # decades: losses within 26 %
FLAT = 0.05  # decades of the ratio per decade of the size; the bound of SQ2 has 0.5


class Clipping(NamedTuple):
    """Training curves, and ratios by slug of the curve and seed: (size, ratio) per kernel."""

    trained: Trained
    ratios: dict[str, dict[int, dict[str, tuple[int, float]]]]

    def slopes(self, curve: Curve) -> dict[int, float]:
        """Decades of the ratio per decade of the size, by seed."""
        found = {}
        for seed, layers in self.ratios[curve.slug].items():
            sizes, ratios = np.log10(np.array(list(layers.values()), float)).T
            found[seed] = float(np.polyfit(sizes, ratios, 1)[0])
        return found

    def starts(self, network: str, curve: Curve) -> dict[int, float]:
        """Decimal logarithm of the mean training loss of the first epochs, by seed."""
        by_seed = self.trained.loss[network, curve.slug]
        return {s: float(np.log10(np.mean(losses[:EARLY]))) for s, losses in by_seed.items()}


def runs(size: str) -> list[Point]:
    """Whole gradients and SQ2, clipped at four places."""
    shape = {"model.hidden": HIDDEN[size]}
    return [
        point._replace(overrides={**point.overrides, **shape})
        for point in laq_networks.points(CURVES, NETWORK[size], size)
    ]


def load(finished: dict[str, Run]) -> Clipping:
    """Curves, and the mean ratio of every kernel."""
    ratios: dict[str, dict[int, dict[str, tuple[int, float]]]] = {}
    for name, run in finished.items():
        sizes, slug = kernel_sizes(run.config), name.split("-")[1]
        layers = {
            layer: (size, float(np.mean(seen)))
            for layer, size in sizes.items()
            if len(seen := _after_start(run, f"{RATIO}{layer}/kernel"))
        }
        if layers:
            ratios.setdefault(slug, {})[run.config["seed"]] = layers
    return Clipping(laq_networks.load(finished), ratios)


def _after_start(run, metric):
    steps, values = run.series(metric)
    return values[steps > 0]


def kernel_sizes(config: dict) -> dict[str, int]:
    """Weights of every kernel of the networks used here, by the layer's name."""
    model, data = config["model"], config["data"]
    side, channels = (24, 3) if data["name"] == "cifar10" else (8, 1)
    if model["name"] == "mlp":
        widths = [side * side * channels, *model["hidden"], 10]
        kernels = {}
    else:
        width = model["width"]
        kernels = {"Conv_0": 25 * channels * width, "Conv_1": 25 * width * width}
        widths = [(side // 4) ** 2 * width, *model["hidden"], 10]  # two poolings by 2
    dense = {f"Dense_{i}": a * b for i, (a, b) in enumerate(pairwise(widths))}
    return {**kernels, **dense}


def gaussian_ratio(size: int) -> float:
    """sqrt(2 / pi) E max |z_i| of `size` standard normal entries: SQ2, not clipped.

    E max = integral of 1 - erf(x / sqrt 2)^size over x > 0.
    """
    x = np.linspace(0, 8, 4001)
    inside = np.array([math.erf(v / math.sqrt(2)) for v in x])
    return math.sqrt(2 / math.pi) * float(np.trapezoid(1 - inside**size, x))


def draw(clipping: Clipping) -> dict[str, Figure]:
    """Left: ratio by size of the layer. Right: training loss."""
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    (network,) = clipping.trained.networks()
    for curve in CURVES[1:]:
        by_seed = list(clipping.ratios[curve.slug].values())
        sizes = np.array([size for size, _ in by_seed[0].values()])
        ratios = np.array([[ratio for _, ratio in layers.values()] for layers in by_seed])
        order = np.argsort(sizes)
        mean = ratios.mean(0)[order]
        left.errorbar(
            sizes[order], mean, (mean - ratios.min(0)[order], ratios.max(0)[order] - mean),
            color=curve.color, marker=curve.marker, linestyle=curve.line, capsize=3,
            label=curve.label,
        )  # fmt: skip
    smooth = np.geomspace(min(sizes), max(sizes), 12)
    left.plot(
        smooth, [gaussian_ratio(int(d)) for d in smooth], color="0.4", linewidth=3, alpha=0.5,
        label="Gaussian, not clipped",
    )  # fmt: skip
    left.set(xscale="log", yscale="log", xlabel="weights of the layer")
    left.set_ylabel(r"$||Q(g)||^2\,/\,||g||^2$, mean over the training")
    ticks = (0.2, 0.3, 0.5, 1, 2, 3, 5, 10, 20, 50)
    low, high = left.get_ylim()
    high *= 3  # room for the legend
    left.set_ylim(low, high)
    shown = [tick for tick in ticks if low <= tick <= high]
    left.set_yticks(shown, [f"{tick:g}" for tick in shown])
    left.minorticks_off()
    left.axhline(1, color="black", linewidth=1)
    left.grid(True, color="0.88")
    left.legend(loc="upper left", ncols=2)
    laq_networks.draw_loss(right, clipping.trained, network, CURVES)
    right.legend()
    seeds = laq_networks.seeds_of(clipping.trained, network)
    figure.suptitle(
        f"Gradients of 2 bits, clipped at c standard deviations; weights of 2 bits, two workers"
        f"\n(mean and range of {seeds} seeds)"
    )
    return {"figure": figure}


def check(clipping: Clipping, size: str) -> list[Verdict]:
    """What clipping does to the ratios, to the start and to the end."""
    network, trained = NETWORK[size], clipping.trained
    slope = " decades per decade"
    last = CLIPS[3]
    start = {curve.slug: clipping.starts(network, curve) for curve in CURVES}

    def later(one, two):
        return {seed: start[one.slug][seed] - start[two.slug][seed] for seed in start["none"]}

    return [
        judge_mean(
            "without clipping the ratio grows with the size of the layer",
            clipping.slopes(NONE), above=FLAT, unit=slope,
            paper="grows with the size of the layer",
        ),
        *(
            judge_mean(
                f"clipped at c = {c} the ratio does not grow with the size of the layer",
                clipping.slopes(curve), below=FLAT, unit=slope,
                paper="flat",
            )
            for c, curve in CLIPS.items()
        ),
        _within_bound(clipping),
        *(
            judge_mean(
                f"c = {c} starts faster than c = {c + 1} (loss of the first {EARLY} epochs)",
                later(CLIPS[c + 1], CLIPS[c]), above=0, unit=DECADES,
                paper="the smaller c, the faster the start and the higher the end",
            )
            for c in (1, 2)
        ),
        judge_mean(
            f"c = 3 starts faster than no clipping (loss of the first {EARLY} epochs)",
            later(NONE, last), above=0, unit=DECADES,
        ),
        *(laq_networks.ends_above(trained, network, CLIPS[c], CLIPS[c + 1]) for c in (1, 2)),
        judge_mean(
            f"c = 3 ends within {COMPARABLE} decades of whole gradients (training loss)",
            trained.above(network, last, WHOLE), above=-COMPARABLE, below=COMPARABLE,
            unit=DECADES, paper="comparable in speed and accuracy",
        ),
        laq_networks.keeps_accuracy(trained, network, last, WHOLE),
    ]  # fmt: skip


def _within_bound(clipping):
    """The clipped bound, which is for Gaussian entries, on the entries that training has."""
    worst = {
        c: {s: max(r for _, r in v.values()) for s, v in clipping.ratios[curve.slug].items()}
        for c, curve in CLIPS.items()
    }
    bound = {c: 1 + math.sqrt(2 / math.pi) * c for c in CLIPS}
    return judge(
        "clipped, the ratio is within the bound for Gaussian gradients in every layer",
        {seed: all(worst[c][seed] < bound[c] for c in CLIPS) for seed in worst[3]},
        measured="largest: "
        + ", ".join(f"c = {c} {max(worst[c].values()):.3g}" for c in CLIPS),
        expected="below " + ", ".join(f"{b:.3g}" for b in bound.values()),
    )
