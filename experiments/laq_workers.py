"""With 16 workers clipping lowers the training loss of 2-bit gradients, if not the error.

Table 1 of Hou, Zhang and Kwok, Analysis of quantized models, ICLR 2019: test accuracy of
weights of 3 bits (LAQ3) trained by N = 1 ... 16 workers with 64 samples each, for as many
epochs, hence in 1 / N of the steps (weak scaling), by what the workers send.

    python launch.py --experiment=laq_workers
    python launch.py --experiment=laq_workers --size=paper   (CIFAR-10; a GPU)

The default size has a network of one hidden layer on digits, 16 samples a worker: 64 would be
the whole training set at 16 workers. The rate is the same for every N. A worker receives
(N - 1) m / 8 bytes for every weight, against 8 (N - 1) / N of a float32 all-reduce; one worker
receives nothing, but quantises its gradient all the same.

SQ2 loses 0.44 points with 16 workers (0.13 to 0.75, ten seeds), so less than the point that is
claimed. Its training loss is clearly higher, and clipping lowers it; that it is more accurate
for that, by 0.25 points, is open. With 3 and 4 bits less than half a point is lost without
clipping.
"""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import papers
from experiments.laq_networks import CONFIG, POINTS, Curve, common
from lpml.runs import Point, Run, Verdict, judge_mean

PAPER = papers.QUANTIZED_MODELS
MINUTES = 6  # of two CPU cores, default size

WHOLE = Curve("whole", "whole", {}, "#000000", "-", "o")
SQ2 = Curve("SQ2", "sq2", {"workers.bits": 2}, "#D55E00", "--", "s")
CLIPPED = Curve(
    "SQ2, c = 3", "sq2clip", {"workers.bits": 2, "workers.clip": 3.0}, "#CC79A7", ":", "v"
)
SQ3 = Curve("SQ3", "sq3", {"workers.bits": 3}, "#0072B2", "-.", "^")
SQ4 = Curve("SQ4", "sq4", {"workers.bits": 4}, "#E69F00", "--", "D")
CURVES = (WHOLE, SQ2, CLIPPED, SQ3, SQ4)
WORKERS = {"tiny": (1, 4), "default": (1, 2, 4, 8, 16), "paper": (1, 2, 4, 8, 16)}
SEEDS = {"tiny": (1, 2), "default": tuple(range(1, 11)), "paper": (1, 2, 3)}
NETWORK = {"tiny": "mlp", "default": "mlp", "paper": "cifarnet"}


class Schedule(NamedTuple):
    """What a size trains on: samples of the training set and of a worker, and how often."""

    samples: int
    each: int
    epochs: int


SCHEDULES = {
    "tiny": Schedule(128, 8, 10),
    "default": Schedule(1024, 16, 60),
    "paper": Schedule(50000, 64, 600),
}


class Ends(NamedTuple):
    """Ends of the trainings, by (number of workers, slug of the curve)."""

    accuracy: dict[tuple[int, str], dict[int, float]]  # percent, by seed
    loss: dict[tuple[int, str], dict[int, float]]  # of the last epoch
    received: dict[tuple[int, str], float]  # MB that a worker received in the whole training

    def counts(self) -> list[int]:
        """Numbers of workers, ascending."""
        return sorted({count for count, _ in self.accuracy})

    def lost(self, count: int, curve: Curve, full: Curve) -> dict[int, float]:
        """Points of accuracy below another curve, seed by seed."""
        own, best = self.accuracy[count, curve.slug], self.accuracy[count, full.slug]
        return {seed: best[seed] - own[seed] for seed in own}

    def above(self, count: int, curve: Curve, full: Curve) -> dict[int, float]:
        """Decades of training loss above another curve, seed by seed."""
        own, best = self.loss[count, curve.slug], self.loss[count, full.slug]
        return {seed: float(np.log10(own[seed] / best[seed])) for seed in own}


def runs(size: str) -> list[Point]:
    """Every number of workers with everything they may send, some seeds each."""
    return [
        Point(
            f"workers{count}-{curve.slug}-seed{seed}",
            f"{CONFIG}:{NETWORK[size]},{size}",
            {**_shared(count, size), **curve.settings, "seed": seed},
        )
        for count in WORKERS[size]
        for curve in CURVES
        for seed in SEEDS[size]
    ]


def _shared(count: int, size: str) -> dict[str, Any]:
    """Settings of a number of workers: as many epochs for every number."""
    samples, each, epochs = SCHEDULES[size]
    epoch = samples // (each * count)
    settings = {
        **common(NETWORK[size], size),
        "optim.bits": 3,
        "workers.count": count,
        "train.batch_size": each * count,
        "train.steps": epochs * epoch,
        "train.log_every": epoch,
        "train.checkpoint_every": epochs * epoch,
    }
    if size == "paper":
        return {**settings, "optim.milestones": (200 * epoch, 400 * epoch)}
    return {**settings, "optim.learning_rate": 1e-2 if size == "tiny" else 5e-3}


def load(finished: dict[str, Run]) -> Ends:
    """The last line of every log."""
    ends = Ends({}, {}, {})
    for name, run in finished.items():
        key = run.config["workers"]["count"], name.split("-")[1]
        seed = run.config["seed"]
        assert run.final is not None
        ends.accuracy.setdefault(key, {})[seed] = 100 * run.final["test_accuracy"]
        ends.loss.setdefault(key, {})[seed] = run.final["loss"]
        # one worker alone with whole gradients is no exchange, and logs no bytes
        per_step = run.final.get("wire_bytes", 0.0)
        ends.received[key] = per_step * run.config["train"]["steps"] / 1e6
    return ends


def draw(ends: Ends) -> dict[str, Figure]:
    """Accuracy and loss by number of workers, accuracy by bytes; and the table."""
    figure = Figure(figsize=(15, 5), layout="constrained")
    accuracy, loss, wire = figure.subplots(1, 3)
    counts = ends.counts()
    for place, curve in enumerate(CURVES):
        look = dict(color=curve.color, linestyle=curve.line, marker=curve.marker, capsize=3)
        shifted = np.array(counts) * 1.05 ** (place - 2)  # ranges side by side
        for axes, values in ((accuracy, ends.accuracy), (loss, ends.loss)):
            axes.errorbar(shifted, *_spread(values, counts, curve), label=curve.label, **look)
        several = [count for count in counts if count > 1]
        received = [ends.received[count, curve.slug] for count in several]
        wire.errorbar(received, _spread(ends.accuracy, several, curve)[0], **look)
        for count, x in zip(several, received):
            if curve in (WHOLE, SQ2):
                y = np.mean(list(ends.accuracy[count, curve.slug].values()))
                wire.annotate(
                    f"N = {count}", (x, y), xytext=(4, 5), textcoords="offset points",
                    color=curve.color, fontsize=9,
                )  # fmt: skip
    for axes in (accuracy, loss):
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.set_xlabel("workers N")
        axes.grid(True, axis="y", color="0.88")
    accuracy.set_ylabel("test accuracy, %")
    loss.set(yscale="log", ylabel="training loss, mean of the last epoch (nats)")
    wire.set(xscale="log", xlabel="gradients received by each worker in all, MB")
    low, high = wire.get_xlim()
    shown = [tick for decade in (0.1, 1, 10, 100) for tick in (decade, 2 * decade, 5 * decade)]
    shown = [tick for tick in shown if low <= tick <= high]
    wire.set_xticks(shown, [f"{tick:g}" for tick in shown])
    wire.minorticks_off()
    wire.set_ylabel("test accuracy, mean, %")
    wire.grid(True, color="0.88")
    loss.legend(loc="lower right")
    seeds = len(next(iter(ends.accuracy.values())))
    figure.suptitle(
        f"Weights of 3 bits, gradients in few bits: the same epochs by N workers, in 1 / N of "
        f"the steps (mean and range of {seeds} seeds)"
    )
    return {"figure": figure, "table": _table(ends)}


def _spread(values, counts, curve):
    """Means and distances to the smallest and largest, for `errorbar`."""
    rows = np.array([list(values[count, curve.slug].values()) for count in counts])
    mean = rows.mean(1)
    return mean, (mean - rows.min(1), rows.max(1) - mean)


def _table(ends):
    """Accuracy (mean and standard deviation) and bytes, as the paper's table has it."""
    counts = ends.counts()
    cells = [[_cell(ends, count, curve) for count in counts] for curve in CURVES]
    figure = Figure(figsize=(2.2 + 2 * len(counts), 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.axis("off")
    table = axes.table(
        cells,
        rowLabels=[curve.label for curve in CURVES],
        colLabels=[f"N = {count}" for count in counts],
        loc="center",
        cellLoc="center",
    )
    table.scale(1, 2.4)
    axes.set_title(
        "Test accuracy, %: mean ± standard deviation of the seeds\n"
        "(MB of gradients that a worker receives in the training)"
    )
    return figure


def _cell(ends, count, curve):
    seen = list(ends.accuracy[count, curve.slug].values())
    words = f"{np.mean(seen):.2f} ± {np.std(seen, ddof=1):.2f}"
    return f"{words}\n({ends.received[count, curve.slug]:.3g} MB)"


def check(ends: Ends, size: str) -> list[Verdict]:
    """At the most workers: what SQ2 loses, what clipping gives back, what 3 and 4 bits lose."""
    most = max(WORKERS[size])
    at = f"{most} workers: "
    return [
        judge_mean(
            f"{at}SQ2 without clipping loses more than 1 point of test accuracy",
            ends.lost(most, SQ2, WHOLE), above=1, unit=POINTS,
            paper="SQ2 needs clipping",
        ),
        judge_mean(
            f"{at}SQ2 ends with a lower training loss when clipped at c = 3",
            ends.above(most, SQ2, CLIPPED), above=0, unit=" decades",
        ),
        judge_mean(
            f"{at}SQ2 is more accurate when clipped at c = 3",
            ends.lost(most, SQ2, CLIPPED), above=0, unit=POINTS,
        ),
        *(
            judge_mean(
                f"{at}{curve.label} loses less than 1 point of test accuracy",
                ends.lost(most, curve, WHOLE), below=1, unit=POINTS,
                paper="" if curve is CLIPPED else "needs no clipping",
            )
            for curve in (CLIPPED, SQ3, SQ4)
        ),
        judge_mean(
            f"{at}whole gradients lose less than 1 point against one worker (weak scaling)",
            _against_one(ends, most), below=1, unit=POINTS,
        ),
    ]  # fmt: skip


def _against_one(ends, most):
    one, many = ends.accuracy[1, WHOLE.slug], ends.accuracy[most, WHOLE.slug]
    return {seed: one[seed] - many[seed] for seed in one}
