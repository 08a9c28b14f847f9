"""With ReLU and clipped ReLU the loss never rises, far from w = 0; the identity chatters.

Theorem 1 of Yin et al., Understanding straight-through estimator in training activation
quantized neural nets, ICLR 2019, arXiv 1903.05662: descent on the expected loss of a two-layer
model with step activations, where a coarse gradient stands for that of the filter w.

    python launch.py --experiment=ste_two_layer

200 random teachers for each of three seeds, exact expectations, rate 0.02. Expected: from
||w|| = 10 ReLU and clipped ReLU descend for every teacher, the identity for about three in
four; the other runs come near a spurious minimum, where w shrinks and is thrown to and fro
across 0. That ||w|| stays away from 0 is an assumption of the theorem: from ||w|| = 1 it does
not, and the loss jumps with every estimator. As many runs reach the global minimum with the
identity as with ReLU. In the second picture teacher 2 has an S* near 0: there
the identity takes longer to lose the filter than the picture shows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import papers
from experiments.curves import in_words
from experiments.estimators import CLIPPED, IDENTITY, LOOKS, RELU, Look
from lpml.runs import Point, Run, Verdict, judge

PAPER = papers.STRAIGHT_THROUGH
MINUTES = 2  # of two CPU cores, default size

CONFIG = "configs/ste_two_layer.py"
SEEDS = (1, 2, 3)


class Start(NamedTuple):
    """Where students start, as settings of the measurement."""

    name: str
    title: str
    settings: dict[str, Any]


FAR = Start("far", "anywhere, ||w|| = 10", {})
CLOSE = Start("close", "anywhere, ||w|| = 1", {"length": 1.0})
BALANCED = Start("balanced", "||w|| = 10, teachers with S* = 0", {"balanced": True})
BESIDE = Start(
    "beside", "0.1 from a spurious minimum, ||w|| = 1", {"length": 1.0, "distance": 0.1}
)
STARTS = (FAR, CLOSE, BALANCED, BESIDE)
# The beginning of the last one, of one teacher: medians would hide single losses that jump.
SHORT = {"steps": 1500, "lines": 750, "teachers": 1}
FIRST = Start("first", BESIDE.title, {**BESIDE.settings, **SHORT})
ENDINGS = {
    # hatches tell them apart in grey
    "at_global": ("global minimum", "#009E73", ""),
    "at_spurious": ("spurious minimum", "#56B4E9", "//"),
    "moving": ("not there yet", "0.85", ".."),
    "chattering": ("chattering", "#D55E00", "xx"),
}

Results = dict[tuple[str, Look], dict[int, Run]]
"""Runs by name of the start, estimator and seed."""


def runs(size: str) -> list[Point]:
    """All starts with all estimators and three seeds."""
    return [
        Point(
            f"{start.name}-{look.name}-seed{seed}",
            f"{CONFIG}:{size}",
            {
                "measurement.estimator": look.name,
                **{f"measurement.{key}": value for key, value in start.settings.items()},
                "seed": seed,
            },
        )
        for start in (*STARTS, FIRST)
        for look in LOOKS
        for seed in SEEDS
    ]


def load(finished: dict[str, Run]) -> Results:
    """The runs by what they are of."""
    looks = {look.name: look for look in LOOKS}
    found: Results = {}
    for name, run in finished.items():
        start, estimator, _ = name.split("-")
        found.setdefault((start, looks[estimator]), {})[run.config["seed"]] = run
    return found


def draw(results: Results) -> dict[str, Figure]:
    """Where runs end, and losses and ||w|| beside a spurious minimum."""
    return {"figure": _endings(results), "spurious": _beside(results)}


def _endings(results: Results) -> Figure:
    figure = Figure(figsize=(13, 4.8), layout="constrained")
    for axes, start in zip(figure.subplots(1, len(STARTS), sharey=True), STARTS, strict=True):
        for place, look in enumerate(LOOKS):
            floor = 0.0
            for ending, (label, color, hatch) in ENDINGS.items():
                height = 100 * _mean(results[start.name, look], ending)
                axes.bar(
                    place, height, 0.7, floor, color=color, hatch=hatch, edgecolor="black",
                    linewidth=0.6, label=None if place else label,
                )  # fmt: skip
                floor += height
            never = 100 * _mean(results[start.name, look], "monotone")
            axes.annotate(f"{never:.0f} %", (place, 101), ha="center", va="bottom")
        axes.set_xticks(range(len(LOOKS)), [look.label for look in LOOKS])
        axes.set(ylim=(0, 109), title=start.title)
        axes.title.set_fontsize(10)
    figure.axes[0].set_ylabel("share of the teachers / %")
    figure.suptitle(
        f"Where runs end (above the bars: those whose loss never rose; {len(SEEDS)} seeds)"
    )
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4
    )
    return figure


# ReLU and clipped ReLU mostly coincide: one is a broad band behind the other.
_BESIDE: dict[Look, dict[str, Any]] = {
    IDENTITY: dict(zorder=2),
    RELU: dict(zorder=3, linestyle="-", linewidth=5, alpha=0.45),
    CLIPPED: dict(zorder=4),
}


def _beside(results: Results) -> Figure:
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    panels = figure.subplots(2, len(SEEDS), sharex=True, sharey="row")
    for look in LOOKS:
        runs_of_look = sorted(results["first", look].items())
        for (seed, run), column in zip(runs_of_look, panels.T, strict=True):
            for axes, metric in zip(column, ("worst_excess", "length"), strict=True):
                lines, values = run.series(metric)
                axes.plot(
                    lines * _steps_per_line(run), values, color=look.color,
                    label=look.label, **{"linestyle": look.line, **_BESIDE[look]},
                )  # fmt: skip
                axes.set_yscale("log")
                axes.grid(True, color="0.92")
            column[0].set_title(f"teacher {seed}")
            column[1].set_xlabel("step")
    panels[0, 0].set_ylabel("loss / loss at the spurious minimum")
    panels[1, 0].set_ylabel("||w||")
    figure.suptitle("Three students, each started 0.1 from its teacher's spurious minimum")
    handles = panels[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3)
    return figure


def _steps_per_line(run: Run) -> float:
    setting = run.config["measurement"]
    return setting["steps"] / setting["lines"]


def _ends(by_seed: dict[int, Run], metric: str) -> dict[int, float]:
    return {seed: (run.final or {})[metric] for seed, run in by_seed.items()}


def _mean(by_seed: dict[int, Run], metric: str) -> float:
    return float(np.mean(list(_ends(by_seed, metric).values())))


def check(results: Results, size: str) -> list[Verdict]:
    """Descent, endings, and what the assumptions of the theorem are worth."""

    def verdict(
        claim: str, case: tuple[Start, Look], metric: str,
        fits: Callable[[float], bool], expected: str, paper: str = "",
    ) -> Verdict:  # fmt: skip
        start, look = case
        values = _ends(results[start.name, look], metric)
        words = f"{metric}: {in_words(values.values())}"
        outcomes = {seed: fits(value) for seed, value in values.items()}
        return judge(
            f"{look.label}: {claim}", outcomes, measured=words, expected=expected, paper=paper
        )

    return [
        *(
            verdict(
                "from ||w|| = 10 no loss ever rises", (FAR, look), "monotone",
                lambda x: x == 1, "1", "never (theorem 1, ||w|| bounded from below)",
            )
            for look in (RELU, CLIPPED)
        ),
        verdict(
            "from ||w|| = 10 some losses rise", (FAR, IDENTITY), "monotone",
            lambda x: x < 0.95, "< 0.95", "descent is not guaranteed",
        ),
        verdict(
            "runs chatter to the end", (FAR, IDENTITY), "chattering",
            lambda x: x > 0.02, "> 0.02",
        ),
        verdict(
            "those that chatter have lost their filter", (FAR, IDENTITY), "chatter_length",
            lambda x: 0 < x < 0.5, "0 to 0.5, of 10",
        ),
        verdict(
            "their losses spike above the spurious minimum's", (FAR, IDENTITY),
            "chatter_excess", lambda x: x > 3, "> 3 times",
        ),
        *(
            verdict(
                "beside a spurious minimum runs come to rest there", (BESIDE, look),
                "at_spurious", lambda x: x > 0.9, "> 0.9", "a critical point is where they end",
            )
            for look in (RELU, CLIPPED)
        ),
        verdict(
            "beside a spurious minimum most runs find no rest there", (BESIDE, IDENTITY),
            "at_spurious", lambda x: x < 0.5, "< 0.5", "it is unstable beside a local minimum",
        ),
        *(
            verdict(
                "from ||w|| = 1 losses rise: the assumption on ||w|| is needed", (CLOSE, look),
                "monotone", lambda x: x < 1, "< 1",
            )
            for look in LOOKS
        ),
        # after the few steps of tiny runs some are not there yet
        *([] if size == "tiny" else [
            *(
                verdict(
                    "with S* = 0 every run ends at a loss of 0", (BALANCED, look), "at_global",
                    lambda x: x == 1, "1",
                )
                for look in (IDENTITY, RELU)
            ),
            _as_many(results),
        ]),
    ]  # fmt: skip


def _as_many(results):
    """Shares of 200 teachers: the difference has a standard error of 0.03 to 0.045."""
    ends = {look: _ends(results["far", look], "at_global") for look in (IDENTITY, RELU)}
    apart = {seed: ends[IDENTITY][seed] - ends[RELU][seed] for seed in ends[RELU]}
    return judge(
        "from ||w|| = 10 the identity reaches the global minimum as often as ReLU",
        {seed: abs(value) < 0.1 for seed, value in apart.items()},
        measured=f"difference of the shares: {in_words(apart.values())}",
        expected="within 0.1",
    )
