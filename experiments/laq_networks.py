"""Networks with weights and gradients in few bits: their points, what came out, curves."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from experiments.style import log_axes
from lpml.runs import Point, Run, Verdict, judge_mean

CONFIG = "configs/laq_networks.py"
NAMES = {"mlp": "one hidden layer", "cifarnet": "CifarNet"}
SEEDS = {
    ("mlp", "tiny"): (1, 2),
    ("mlp", "default"): tuple(range(1, 11)),
    ("cifarnet", "default"): tuple(range(1, 11)),
    ("cifarnet", "paper"): (1, 2, 3),
}
DECADES = " decades"
POINTS = " points"
LAST = 5  # lines of the log whose mean is the end of a curve: one epoch is noisy


class Curve(NamedTuple):
    """A choice of bits: its name, how a run is told of it, and its look.

    Attributes:
      label: in legends.
      slug: in the names of runs.
      settings: overrides of the config; `optim.bits` absent: weights in full precision.
      color: told apart in grey by `line` and `marker`.
      line: dashes.
      marker: at some of the points.
    """

    label: str
    slug: str
    settings: Mapping[str, Any]
    color: str
    line: str
    marker: str


class Trained(NamedTuple):
    """Training curves by (network, slug of the curve) and seed.

    Attributes:
      loss: mean training loss of the epochs 1, 2, ... (nats).
      accuracy: test accuracy after the last epoch, percent.
      wire: bytes that each worker receives per step.
      epoch: steps of an epoch.
    """

    loss: dict[tuple[str, str], dict[int, np.ndarray]]
    accuracy: dict[tuple[str, str], dict[int, float]]
    wire: dict[tuple[str, str], float]
    epoch: dict[str, int]

    def networks(self) -> list[str]:
        """In the order of the runs."""
        return list(dict.fromkeys(network for network, _ in self.loss))

    def ends(self, network: str, curve: Curve) -> dict[int, float]:
        """Mean training loss of the last epochs, by seed."""
        by_seed = self.loss[network, curve.slug]
        return {seed: float(np.mean(values[-LAST:])) for seed, values in by_seed.items()}

    def above(self, network: str, one: Curve, two: Curve) -> dict[int, float]:
        """Decades by which the loss of `one` ends above that of `two`, seed by seed."""
        high, low = self.ends(network, one), self.ends(network, two)
        return {seed: float(np.log10(high[seed] / low[seed])) for seed in high}

    def lost(self, network: str, one: Curve, full: Curve) -> dict[int, float]:
        """Points of test accuracy that `one` has less than `full`, seed by seed."""
        own, best = self.accuracy[network, one.slug], self.accuracy[network, full.slug]
        return {seed: best[seed] - own[seed] for seed in own}


def points(curves: Sequence[Curve], network: str, size: str) -> list[Point]:
    """Every curve with every seed; two workers, Adam, gradients of every kernel in few bits."""
    return [
        Point(
            f"{network}-{curve.slug}-seed{seed}",
            f"{CONFIG}:{variant(network, curve.settings)},{size}",
            {**common(network, size), **curve.settings, "seed": seed},
        )
        for curve in curves
        for seed in SEEDS[network, size]
    ]


def variant(network: str, settings: Mapping[str, Any]) -> str:
    """The config's variant for weights of some bits, or in full precision."""
    return network if "optim.bits" in settings else f"{network}_float"


def common(network: str, size: str) -> dict[str, Any]:
    """What all runs of these experiments share."""
    if size == "paper":
        return {}
    # the config's own threshold would leave most kernels of so small networks in float32;
    # biases are below this one
    shared = {"workers.count": 2, "workers.exempt_below": 65}
    if network == "cifarnet":
        return shared
    epochs, epoch = (20, 2) if size == "tiny" else (60, 16)
    adam = {
        "optim.inner": "adam",
        "optim.schedule": "constant",
        "optim.learning_rate": 1e-2 if size == "tiny" else 2e-3,
        "optim.b2": 0.999,
    }
    return {**shared, **adam, "train.steps": epochs * epoch}


def load(finished: Mapping[str, Run]) -> Trained:
    """Curves and ends of every run, which are named as `points` names them."""
    found = Trained({}, {}, {}, {})
    for name, run in finished.items():
        network, slug, _ = name.split("-")
        key, seed = (network, slug), run.config["seed"]
        assert run.final is not None
        steps, loss = run.series("loss")
        found.loss.setdefault(key, {})[seed] = loss[steps > 0]
        found.accuracy.setdefault(key, {})[seed] = 100 * run.final["test_accuracy"]
        found.wire[key] = run.final["wire_bytes"]
        found.epoch[network] = run.config["train"]["log_every"]
    return found


def draw_loss(axes: Any, trained: Trained, network: str, curves: Iterable[Curve]) -> None:
    """Training loss by epoch: geometric mean and range over the seeds."""
    for curve in curves:
        rows = np.stack(list(trained.loss[network, curve.slug].values()))
        _line(axes, np.arange(1, rows.shape[1] + 1), rows, curve)
    axes.set_yscale("log")
    log_axes(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="training loss, mean of the epoch (nats)")


def draw_bytes(axes: Any, trained: Trained, network: str, curves: Iterable[Curve]) -> None:
    """Training loss by bytes that each worker has received."""
    for curve in curves:
        rows = np.stack(list(trained.loss[network, curve.slug].values()))
        per_epoch = trained.wire[network, curve.slug] * trained.epoch[network]
        _line(axes, per_epoch * np.arange(1, rows.shape[1] + 1) / 1e6, rows, curve)
    axes.set_xscale("log")
    axes.set_yscale("log")
    log_axes(axes)
    axes.set(xlabel="gradients received by each worker, MB", ylabel="training loss (nats)")


def _line(axes, x, rows, curve):
    look = dict(color=curve.color, linestyle=curve.line, marker=curve.marker, markersize=5)
    every = max(1, len(x) // 6)
    axes.plot(x, np.exp(np.log(rows).mean(0)), markevery=every, label=curve.label, **look)
    axes.fill_between(x, rows.min(0), rows.max(0), color=curve.color, alpha=0.15, linewidth=0)


def draw_accuracy(axes: Any, trained: Trained, network: str, curves: Sequence[Curve]) -> None:
    """Test accuracy at the end, curve by curve: mean and range over the seeds."""
    for place, curve in enumerate(curves):
        seen = np.array(list(trained.accuracy[network, curve.slug].values()))
        mean = seen.mean()
        axes.errorbar(
            [place], [mean], [[mean - seen.min()], [seen.max() - mean]], color=curve.color,
            marker=curve.marker, linestyle="none", capsize=4,
        )  # fmt: skip
    axes.set_xticks(range(len(curves)), [curve.label.replace(" (", "\n(") for curve in curves])
    axes.set_xlim(-0.5, len(curves) - 0.5)
    axes.set_ylabel("test accuracy at the end, %")
    axes.grid(True, axis="y", color="0.88")


def seeds_of(trained: Trained, network: str) -> int:
    """How many seeds the network's curves have."""
    return len(next(v for key, v in trained.loss.items() if key[0] == network))


def ends_above(trained: Trained, network: str, one: Curve, two: Curve) -> Verdict:
    """Whether one curve's loss ends above another's."""
    return judge_mean(
        f"{NAMES[network]}: training loss with {one.label} ends above {two.label}",
        trained.above(network, one, two), above=0, unit=DECADES,
    )  # fmt: skip


def keeps_accuracy(trained: Trained, network: str, one: Curve, full: Curve) -> Verdict:
    """Whether one curve's test accuracy is within a point of another's, or better."""
    return judge_mean(
        f"{NAMES[network]}: test accuracy with {one.label} at most 1 point below {full.label}",
        trained.lost(network, one, full), below=1, unit=POINTS,
    )  # fmt: skip
