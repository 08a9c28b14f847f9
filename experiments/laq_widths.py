"""Networks of several widths with gradients in few bits: what two experiments have in common.

The theory bounds the average loss over the steps of training (the regret), so that is what is
compared: in decades above whole gradients, seed by seed. Noise also makes the steps of RMSProp
and Adam shorter, and a rate that is too large for whole gradients would suit noisy ones; so
every width and way of sending has the rate of a grid with which its average loss is least. A
gradient's blow-up is the mean of ||Q(g)||^2 / ||g||^2 over the training, as the runs log it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.laq_bounds import bound
from experiments.laq_gradients import THREE, THREE_CLIPPED, WHOLE, Sent
from experiments.style import log_axes
from lpml.runs import Point, Run, Verdict, judge_mean

GRADIENTS = (WHOLE, THREE_CLIPPED, THREE)
DECADES, POINTS = " decades", " points"


class Study(NamedTuple):
    """A network whose width varies.

    Attributes:
      name: of the network, in words.
      variant: of configs/laq_networks.py.
      setting: `setting(width)`, the overrides that give it that width.
      width: `width(config)`, read back.
      tensor: the parameter whose blow-up is shown.
      entries: `entries(config)`, how many it has.
      rates: that each curve may choose from, by size.
    """

    name: str
    variant: str
    setting: Callable[[int], dict[str, Any]]
    width: Callable[[dict[str, Any]], int]
    tensor: str
    entries: Callable[[dict[str, Any]], int]
    rates: dict[str, tuple[float, ...]]


class Curves(NamedTuple):
    """Of one width and one way of sending.

    Attributes:
      losses: at the start, then the mean over the steps of every epoch.
      accuracy: on the test set at the end, percent.
      blow_up: mean over the training; 1 where gradients are whole.
      entries: of the tensor that it is of.
      rate: of learning.
    """

    losses: np.ndarray
    accuracy: float
    blow_up: float
    entries: int
    rate: float

    @property
    def average(self) -> float:
        """Mean loss over the steps of training."""
        return float(np.mean(self.losses[1:]))


Results = dict[tuple[int, Sent], dict[int, Curves]]
"""By width and what is sent, and by seed."""


def points(
    study: Study, widths: tuple[int, ...], seeds: tuple[int, ...], size: str
) -> list[Point]:
    """Every width with all gradients, rates and seeds; no tensor is too small for few bits."""
    return [
        Point(
            f"d{width}-{sent.slug}-rate{rate:g}-seed{seed}",
            f"configs/laq_networks.py:{study.variant},{size}",
            {
                **study.setting(width),
                "optim.learning_rate": rate,
                "workers.bits": sent.bits,
                "workers.clip": sent.clip,
                "workers.exempt_below": 0,
                "workers.norms": sent.bits is not None,
                "seed": seed,
            },
        )
        for width in widths
        for sent in GRADIENTS
        for rate in study.rates[size]
        for seed in seeds
    ]


def results(study: Study, finished: dict[str, Run]) -> Results:
    """Reads the runs back and chooses the rates."""
    by_slug = {sent.slug: sent for sent in GRADIENTS}
    found: dict[tuple[int, Sent], dict[float, dict[int, Curves]]] = {}
    for name, run in finished.items():
        sent = by_slug[name.split("-")[1]]
        assert run.final is not None
        ratios = run.series(f"norm_ratio/{study.tensor}")[1]
        curves = Curves(
            run.series("loss")[1],
            100 * run.final["test_accuracy"],
            float(np.mean(ratios)) if sent.bits else 1.0,
            study.entries(run.config),
            run.config["optim"]["learning_rate"],
        )
        by_rate = found.setdefault((study.width(run.config), sent), {})
        by_rate.setdefault(curves.rate, {})[run.config["seed"]] = curves
    return {key: min(by_rate.values(), key=_average) for key, by_rate in found.items()}


def _average(by_seed):
    return np.mean([curves.average for curves in by_seed.values()])


def above(found: Results, width: int, sent: Sent, other: Sent = WHOLE) -> dict[int, float]:
    """Decades by which the average loss of training is above another's, seed by seed."""
    one, two = found[width, sent], found[width, other]
    return {seed: float(np.log10(one[seed].average / two[seed].average)) for seed in one}


def ends_above(found: Results, width: int, sent: Sent) -> dict[int, float]:
    """The same of the last epoch's loss, above whole gradients."""
    one, two = found[width, sent], found[width, WHOLE]
    return {seed: float(np.log10(one[seed].losses[-1] / two[seed].losses[-1])) for seed in one}


def judged(study: Study, found: Results) -> list[Verdict]:
    """Few bits cost, the more the wider; clipping takes a part back; tests are passed alike."""
    widths = sorted({width for width, _ in found})
    least, most = widths[0], widths[-1]
    costs = {width: above(found, width, THREE) for width in widths}
    ends = {seed: c.accuracy for seed, c in found[most, WHOLE].items()}
    lost = {seed: ends[seed] - c.accuracy for seed, c in found[most, THREE].items()}
    return [
        *(
            judge_mean(
                f"{study.name}, d = {width}: with 3 bits the average loss of training is above "
                "that with whole gradients",
                costs[width], above=0, unit=DECADES,
            )
            for width in widths
        ),
        judge_mean(
            f"{study.name}: 3 bits cost more at d = {most} than at d = {least}",
            {seed: costs[most][seed] - costs[least][seed] for seed in costs[most]},
            above=0, unit=DECADES, paper="the larger d, the slower with 3 bits",
        ),
        judge_mean(
            f"{study.name}, d = {most}: clipping lowers the average loss of training",
            above(found, most, THREE, THREE_CLIPPED), above=0, unit=DECADES,
        ),
        judge_mean(
            f"{study.name}, d = {most}: with 3 bits the last epoch's loss is above that with "
            "whole gradients",
            ends_above(found, most, THREE), above=0, unit=DECADES,
        ),
        judge_mean(
            f"{study.name}: 3 bits blow up the gradient more at d = {most} than at d = {least}",
            _grown(found, least, most, THREE), above=1, unit=" times",
        ),
        judge_mean(
            f"{study.name}: clipped, they do not (within 5 %)",
            _grown(found, least, most, THREE_CLIPPED), below=1.05, unit=" times",
        ),
        judge_mean(
            f"{study.name}, d = {most}: with 3 bits test accuracy is within 1 point of whole "
            "gradients", lost, below=1, unit=POINTS,
        ),
    ]  # fmt: skip


def _grown(found, least, most, sent):
    narrow, wide = found[least, sent], found[most, sent]
    return {seed: wide[seed].blow_up / narrow[seed].blow_up for seed in wide}


def picture(study: Study, found: Results) -> Figure:
    """Losses of the narrowest and the widest network; costs and blow-ups by width."""
    widths = sorted({width for width, _ in found})
    figure = Figure(figsize=(11, 8.4), layout="constrained")
    (narrow, wide), (cost, blow_up) = figure.subplots(2, 2)
    for axes, width in ((narrow, widths[0]), (wide, widths[-1])):
        for sent in GRADIENTS:
            losses = np.log([curves.losses[1:] for curves in found[width, sent].values()])
            rate = next(iter(found[width, sent].values())).rate
            epochs = np.arange(1, losses.shape[1] + 1)
            axes.plot(epochs, np.exp(losses.mean(0)), color=sent.color, linestyle=sent.line,
                      label=f"{sent.label}, rate {rate:g}")  # fmt: skip
            axes.fill_between(epochs, np.exp(losses.min(0)), np.exp(losses.max(0)),
                              color=sent.color, alpha=0.15, linewidth=0)  # fmt: skip
        axes.set(title=f"d = {width}", xlabel="epoch", ylabel="training loss (nats)")
        axes.set_yscale("log")
        log_axes(axes)
        axes.legend(fontsize=8)
    for sent in (THREE, THREE_CLIPPED):
        _range(cost, widths, [above(found, w, sent).values() for w in widths], sent, sent.label)
        grown = [[c.blow_up for c in found[w, sent].values()] for w in widths]
        _range(blow_up, widths, grown, sent, f"{sent.label}, measured")
        entries = [next(iter(found[w, sent].values())).entries for w in widths]
        bounds = [bound(3, n, sent.clip) for n in entries]
        words = "bound for normal entries" if sent.clip else "bound"
        blow_up.plot(
            widths, bounds, color=sent.color, linewidth=1, label=f"{sent.label}, {words}"
        )
    cost.axhline(0, color="black", linewidth=1)
    cost.set(title="average loss of training", ylabel="decades above whole gradients")
    blow_up.set(
        title=f"gradient of {study.tensor}", ylabel="||Q(g)||² / ||g||², mean of training"
    )
    blow_up.set_yscale("log")
    for axes in (cost, blow_up):
        axes.set_xscale("log", base=2)
        axes.set_xticks(widths, [str(width) for width in widths])
        axes.set_xlabel("width d")
        axes.grid(True, which="both", color="0.88")
        axes.legend(fontsize=8)
    seeds = len(next(iter(found.values())))
    figure.suptitle(f"{study.name}, weights of 3 bits (means and range over {seeds} seeds)")
    return figure


def _range(axes, widths, values, sent, label):
    groups = [list(group) for group in values]
    means = np.array([np.mean(group) for group in groups])
    low = means - [min(group) for group in groups]
    high = [max(group) for group in groups] - means
    axes.errorbar(widths, means, (low, high), color=sent.color, linestyle=sent.line,
                  marker=sent.marker, capsize=3, label=label)  # fmt: skip
