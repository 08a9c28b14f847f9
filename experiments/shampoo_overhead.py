"""Roots from the host cost a training little where it need not wait for them.

Anil et al., Scalable Second Order Optimization for Deep Learning, arXiv 2002.09018, figure 1:
while the training goes on, its statistics travel to the host, which solves for roots that are
used some steps later.

    python launch.py --experiment=shampoo_overhead

The same steps are timed with roots that are never renewed, and that are renewed in four ways
every N steps. Seconds are this machine's, hence only ratios within a run are judged.

Where it fails: a CPU that trains has no core to spare for roots: there beside the training
means less waiting, not less work. Where the work of a refresh fills more than an interval (N =
5), delays hide little; and as workers let every other program go first, a busy machine makes
the training wait for them.
"""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import papers
from experiments.curves import in_words
from lpml.runs import Point, Run, Verdict, judge

PAPER = papers.SHAMPOO
MINUTES = 10  # of two CPU cores, default size

CONFIG = "configs/shampoo_overhead.py"
SEEDS = (1, 2, 3)
EVERY = {"tiny": (4,), "default": (5, 20), "paper": (5, 20)}
MODES = {
    "inline": ("by the host,\nwaited for", "#E69F00"),
    "program": ("within\nthe program", "#009E73"),
    "asynchronous": ("by the host,\nmeanwhile", "#D55E00"),
    "adam": ("Adam", "#999999"),
    "muon": ("Muon", "#56B4E9"),
}
QUARTILES = ("low", "ratio", "high")
EVENTS = ("solving", "solved", "swapping", "swapped")  # of a period
MOST = 1.10


class Case(NamedTuple):
    """Steps between two refreshes."""

    every: int


Found = dict[Case, dict[int, dict[str, float]]]
"""Metrics at the end by interval and seed."""


def runs(size: str) -> list[Point]:
    """Every interval, three seeds."""
    return [
        Point(
            f"every{every}-seed{seed}",
            f"{CONFIG}:{size}",
            {"measurement.refresh_every": every, "seed": seed},
        )
        for every in EVERY[size]
        for seed in SEEDS
    ]


def load(finished: dict[str, Run]) -> Found:
    """The last line of every run."""
    found: Found = {}
    for run in finished.values():
        assert run.final is not None
        case = Case(run.config["measurement"]["refresh_every"])
        found.setdefault(case, {})[run.config["seed"]] = dict(run.final)
    return found


def draw(found: Found) -> dict[str, Figure]:
    """Left: ratios with quartiles. Right: what happens in one period."""
    figure = Figure(figsize=(13, 4.8), layout="constrained")
    ratios, timeline = figure.subplots(1, 2, width_ratios=(1, 1.15))
    cases = sorted(found)
    share = 0.8 / len(cases)
    for row, case in enumerate(cases):
        for place, (mode, (_, color)) in enumerate(MODES.items()):
            low, middle, high = (_median(found[case], f"{q}_{mode}") for q in QUARTILES)
            at = place + (row - (len(cases) - 1) / 2) * share
            ratios.bar(
                at, middle, 0.9 * share, color=color, alpha=1 if case == cases[-1] else 0.55,
                yerr=[[middle - low], [high - middle]], capsize=3,
            )  # fmt: skip
            ratios.text(at, high, f"N = {case.every}", ha="center", va="bottom", fontsize=8)
    ratios.axhline(1, color="black", linestyle="--", linewidth=1)
    ratios.set_xticks(range(len(MODES)), [label for label, _ in MODES.values()])
    ratios.set(
        ylabel="time of a step / with roots never renewed",
        title=f"medians and quartiles of segments, medians of {len(SEEDS)} runs",
    )
    ratios.grid(True, axis="y", color="0.88")
    ratios.set_axisbelow(True)
    _period(timeline, cases[-1].every, found[cases[-1]])
    figure.suptitle("What inverse roots cost a step of a character Transformer")
    return {"figure": figure}


def _period(axes, every, by_seed):
    """Steps above, the host below, from a snapshot to the use of its roots."""
    solving, solved, swapping, swapped = (
        1e3 * _median(by_seed, f"at_{event}") for event in EVENTS
    )
    step = swapping / every
    rows = {
        f"a step\n{step:.4g} ms": ([(i * step, 0.9 * step) for i in range(every)], "#0072B2"),
        f"snapshot,\ntransfer\n{solving:.4g} ms": ([(0.0, solving)], "#CC79A7"),
        f"solve\n{solved - solving:.4g} ms": ([(solving, solved - solving)], "#D55E00"),
        f"wait, swap\n{swapped - swapping:.4g} ms": (
            [(swapping, swapped - swapping)],
            "#009E73",
        ),
    }
    for height, (spans, color) in enumerate(rows.values()):
        axes.broken_barh(spans, (height - 0.35, 0.7), color=color)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.axvline(swapping, color="0.4", linestyle=":", linewidth=1)
    axes.set(
        xlabel="milliseconds after the step of the snapshot",
        title=f"one period, N = D = {every} (steps drawn evenly)",
    )


def _median(by_seed, metric):
    return float(np.median([line[metric] for line in by_seed.values()]))


def check(found: Found, size: str) -> list[Verdict]:
    """Of the longest interval. Times are not judged at the tiny size, where calls are all."""
    by_seed = found[Case(EVERY[size][-1])]
    every = f"N = {EVERY[size][-1]}"
    return [_in_order(by_seed, every), *([] if size == "tiny" else _times(by_seed, every))]


def _in_order(by_seed, every):
    events = {s: [line[f"at_{event}"] for event in EVENTS] for s, line in by_seed.items()}
    return judge(
        f"roots are solved for after the snapshot and used at the step that is due ({every})",
        {s: 0 < e[0] < e[1] < e[3] and e[2] < e[3] for s, e in events.items()},
        measured="milliseconds after the snapshot: " + "; ".join(
            f"{event} {in_words(1e3 * e[i] for e in events.values())}"
            for i, event in enumerate(EVENTS)
        ),
        expected="solving, solved, swapped",
    )  # fmt: skip


def _times(by_seed, every):
    def seen(metric):
        return {seed: line[metric] for seed, line in by_seed.items()}

    beside = seen("ratio_asynchronous")
    verdicts = [
        judge(
            f"roots from the host meanwhile cost at most {MOST - 1:.0%} of a step ({every})",
            {s: r <= MOST for s, r in beside.items()},
            measured=f"time of a step / never renewed: {in_words(beside.values())}",
            expected=f"at most {MOST:.2f}",
        )
    ]
    for mode, words in (("inline", "waiting for the host"), ("program", "within the program")):
        other = seen(f"ratio_{mode}")
        verdicts.append(
            judge(
                f"that is less than {words} ({every})",
                {s: beside[s] < r for s, r in other.items()},
                measured=f"{in_words(beside.values())} against {in_words(other.values())}",
                expected="less",
            )
        )
    hidden, waited = seen("hidden"), seen("waited")
    return [
        *verdicts,
        judge(
            f"more than half of what waiting costs is hidden ({every})",
            {s: share > 0.5 for s, share in hidden.items()},
            measured=f"share hidden: {in_words(hidden.values())}",
            expected="above 0.5",
        ),
        judge(
            f"roots are there when they are due ({every})",
            {s: share < 0.01 for s, share in waited.items()},
            measured=f"share of the time spent waiting: {in_words(waited.values())}",
            expected="below 0.01",
        ),
    ]
