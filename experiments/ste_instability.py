"""A wrong estimator that goes on from a good one's minimum mostly ends in a worse one.

Figure 3 of Yin et al., Understanding straight-through estimator in training activation
quantized neural nets, ICLR 2019, arXiv 1903.05662: ResNet-20 is trained from its float form
with a good estimator, then continued with a wrong one, at first at a small rate, then by the
whole schedule again: with 4 bits the identity from the minima of clipped ReLU and of ReLU,
with 2 bits ReLU from the minimum of clipped ReLU. As a control the good estimator continues
in the same way, with the same batches.

    python launch.py --experiment=ste_instability
    python launch.py --experiment=ste_instability --size=paper   (CIFAR-10; a GPU)

The paper's small rate is 1e-5 for 20 epochs of 391 steps: the rates sum to 0.08. The default
size has a thin ResNet-20 on digits and 6 epochs of 32 steps at 1e-3 (sum 0.2), a hundredth of
the normal rate. It was chosen after measuring two rates with one seed: after such a phase at
1e-3 the identity's training loss was 0.10 beside its control's 0.003, ReLU's 0.064 beside
0.052; at 1e-2 they were 0.18 beside 0.002, and 0.20 beside 0.043. With three seeds at 1e-3 the
losses right after the small rate decide nothing (from the minimum of clipped ReLU the identity
left it in two of three runs); the normal schedule then ends far above the control's, over
twice as high in two cases of three, while from the minimum of ReLU the mean is thirteen times
the control's and the interval reaches 1.6. Its first rate, 0.1, also shakes the control, which
comes back.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import papers
from experiments.estimators import CLIPPED, IDENTITY, LOOKS, RELU, Look
from experiments.style import log_axes
from lpml.runs import Point, Run, Verdict, judge_mean

PAPER = papers.STRAIGHT_THROUGH
MINUTES = 6  # of two CPU cores, default size

CONFIG = "configs/ste_networks.py"
SEEDS = {"tiny": (1, 2), "default": (1, 2, 3), "paper": (1, 2, 3)}
DECADES = " decades"


class Case(NamedTuple):
    """A panel of the figure: bits, the estimator of the minimum, the one that continues."""

    bits: int
    good: Look
    wrong: Look

    @property
    def origin(self) -> str:
        """What the runs of the panel have in common."""
        return f"{self.bits} bits, from the minimum of {self.good.label}"


CASES = (Case(4, CLIPPED, IDENTITY), Case(4, RELU, IDENTITY), Case(2, CLIPPED, RELU))
# A test of the way, so one case is enough.
CASES_OF = {"tiny": CASES[:1], "default": CASES, "paper": CASES}


class Curve(NamedTuple):
    """A continued run, epoch by epoch from the first on."""

    loss: np.ndarray  # mean over the epoch's batches
    error: np.ndarray  # of the test set after it, percent


class Results(NamedTuple):
    """What the runs say, by case and seed."""

    wrong: dict[Case, dict[int, Curve]]
    control: dict[Case, dict[int, Curve]]
    start: dict[Case, dict[int, tuple[float, float]]]  # loss and error of the last epoch before
    small: int  # epochs at the small rate

    def above(self, case: Case, epoch: int) -> dict[int, float]:
        """Decades by which the wrong estimator's loss is above the control's, by seed."""
        pairs = {s: (c.loss[epoch], self.control[case][s].loss[epoch])
                 for s, c in self.wrong[case].items()}  # fmt: skip
        return {seed: float(np.log10(wrong / good)) for seed, (wrong, good) in pairs.items()}


def runs(size: str) -> list[Point]:
    """Chains of three: the float network, a good estimator, the wrong one and the control."""
    return [point for seed in SEEDS[size] for point in _of_seed(CASES_OF[size], size, seed)]


def _of_seed(cases, size, seed):
    # named as in ste_table1, of which these runs are a part: finished folders can be copied
    full = f"resnet20-float-seed{seed}"
    yield Point(full, f"{CONFIG}:resnet20_float,{size}", {"seed": seed})
    for case in cases:
        good = f"resnet20-{case.bits}bits-{case.good.name}-seed{seed}"
        yield _point(good, f"{CONFIG}:resnet20,{size}", case.bits, case.good, full, seed)
        for look in (case.wrong, case.good):
            name = f"resnet20-{case.bits}bits-{case.good.name}-then-{look.name}-seed{seed}"
            config = f"{CONFIG}:resnet20_continued,{size}"
            yield _point(name, config, case.bits, look, good, seed)


def _point(name, config, bits, look, start, seed):
    return Point(
        name,
        config,
        {
            "model.activation.bits": bits,
            "model.activation.estimator": look.name,
            "train.start_from": start,
            "seed": seed,
        },
    )


def load(finished: Mapping[str, Run]) -> Results:
    """The curves of the continued runs, and where they started."""
    by_name = {look.name: look for look in LOOKS}
    results = Results({}, {}, {}, 0)
    for run in finished.values():
        start = run.config["train"]["start_from"]
        if start is None or finished[start].config["model"].get("activation") is None:
            continue
        seed, activation = run.config["seed"], run.config["model"]["activation"]
        before, look = finished[start], by_name[activation["estimator"]]
        good = by_name[before.config["model"]["activation"]["estimator"]]
        (case,) = (c for c in CASES if c[:2] == (activation["bits"], good))
        kind = results.control if look == good else results.wrong
        loss, accuracy = (run.series(name)[1][1:] for name in ("loss", "test_accuracy"))
        kind.setdefault(case, {})[seed] = Curve(loss, 100 * (1 - accuracy))
        assert before.final is not None
        error = 100 * (1 - before.final["test_accuracy"])
        results.start.setdefault(case, {})[seed] = (before.final["loss"], error)
        small = run.config["optim"]["warmup_steps"] // run.config["train"]["log_every"]
        results = results._replace(small=small)
    return results


def draw(results: Results) -> dict[str, Figure]:
    """A panel by case; above the training loss, below the test error."""
    cases = [case for case in CASES if case in results.wrong]
    figure = Figure(figsize=(max(4 * len(cases), 6), 6.6), layout="constrained")
    panels = figure.subplots(2, len(cases), sharex=True, sharey="row", squeeze=False)
    for case, (loss, error) in zip(cases, panels.T):
        _curves(loss, case, results, "loss")
        _curves(error, case, results, "error")
        losses, errors = np.transpose(list(results.start[case].values()))
        style = dict(color="0.35", linewidth=1, linestyle=(0, (6, 2, 1, 2)))
        loss.axhline(np.exp(np.mean(np.log(losses))), label="level of the start", **style)
        error.axhline(np.mean(errors), **style)
        loss.set_yscale("log")
        log_axes(loss)
        loss.set_title(case.origin, fontsize=10)
        loss.legend(fontsize=8, loc="upper right")
        error.grid(True, color="0.88")
        error.set_xlabel("epoch after the minimum")
        for axes in (loss, error):
            axes.axvspan(0.5, results.small + 0.5, color="0.93", zorder=0)
    panels[0, 0].set_ylim(top=10 * panels[0, 0].get_ylim()[1])  # room for the legends
    panels[0, 0].set_ylabel("training loss, mean of the epoch")
    panels[1, 0].set_ylabel("test error, %")
    seeds = len(results.start[cases[0]])
    figure.suptitle(
        "Continued with a wrong estimator, and with the good one (shaded: at the small rate)\n"
        f"means over {seeds} seeds (of the loss geometric) and their range", fontsize=11,
    )  # fmt: skip
    return {"figure": figure}


def _curves(axes, case, results, quantity):
    for look, kind in ((case.wrong, results.wrong), (case.good, results.control)):
        values = np.stack([getattr(curve, quantity) for curve in kind[case].values()])
        mean = np.exp(np.log(values).mean(0)) if quantity == "loss" else values.mean(0)
        epochs = 1 + np.arange(len(mean))
        who = "the wrong one" if look == case.wrong else "control"
        axes.plot(
            epochs, mean, color=look.color, linestyle=look.line, marker=look.marker,
            markevery=max(len(mean) // 10, 1), markersize=5, label=f"{look.label}, {who}",
        )  # fmt: skip
        axes.fill_between(
            epochs, values.min(0), values.max(0), color=look.color, alpha=0.15, linewidth=0
        )


def check(results: Results, size: str) -> list[Verdict]:
    """Training losses beside the control's, after the small rate and at the end."""
    verdicts = []
    twice = float(np.log10(2))
    for case in CASES_OF[size]:
        for words, epoch, least in (
            (f"{case.wrong.label} at a small rate leaves it", results.small - 1, 0.0),
            (f"{case.wrong.label} ends at over twice the control's loss", -1, twice),
        ):
            verdicts.append(
                judge_mean(
                    f"{case.origin}: {words}", results.above(case, epoch),
                    above=least, unit=DECADES,
                    paper="loss and error rise within 20 epochs" if epoch != -1
                    else "ends in a much worse minimum",
                )
            )  # fmt: skip
    return verdicts
