"""Posits of 16 bits train a small network as float32 does, weights included; of 8 bits nearly.

A question that posits' inventors raise and that number formats are judged by: what is lost when
a network is trained in posit16 and posit8, beside bfloat16, float16 and 8-bit floats.

    python launch.py --experiment=posit_training

Method `operands` rounds the operands of every product and moves float32 weights. Method
`everything` holds the weights too in the format: rounded to nearest, small updates are lost,
rounded stochastically they are kept on average. Losses are over the training set at the end.
Expected: with operands alone nothing is lost at 16 bits, nor in posit8, whose range holds the
gradients; in E4M3 gradients underflow, in E5M2 they do not. With everything rounded to nearest
posit16 and float16 lose nothing and bfloat16, with 8 significant bits, does.
"""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import papers
from experiments.style import log_axes
from lpml.runs import Point, Run, Verdict, judge_mean

PAPER = papers.POSITS
MINUTES = 10  # of two CPU cores, default size

CONFIG = "configs/posit_training.py"
SEEDS = {"tiny": (1, 2), "default": (1, 2, 3, 4, 5), "paper": (1, 2, 3, 4, 5)}
POINTS = " points"
OFFSET = "offset points"
FP8 = "e4m3fn, gradients e5m2"


class Recipe(NamedTuple):
    """A format, how a run is told of it, and its bar."""

    label: str
    settings: dict[str, str]
    color: str


def _same(name, color):
    return Recipe(name, {"model.quant.weights": name}, color)


RECIPES = (
    _same("posit16", "#D55E00"),
    _same("float16", "#0072B2"),
    _same("bfloat16", "#56B4E9"),
    _same("posit8", "#E69F00"),
    _same("e5m2", "#009E73"),
    _same("e4m3fn", "#CC79A7"),
    Recipe(FP8, {"model.quant.weights": "e4m3fn", "model.quant.gradients": "e5m2"}, "#999999"),
)
OPERANDS, NEAREST, STOCHASTIC = "operands", "everything, nearest", "everything, stochastic"
METHODS: dict[str, tuple[str, dict[str, str]]] = {
    OPERANDS: ("operands", {}),
    NEAREST: ("everything", {}),
    STOCHASTIC: ("everything", {"optim.rounding": "stochastic"}),
}


class Ends(NamedTuple):
    """Losses and test accuracies (percent) at the end, by (method, recipe) and seed."""

    losses: dict[tuple[str, str], dict[int, float]]
    accuracies: dict[tuple[str, str], dict[int, float]]

    def lost(self, method: str, recipe: str) -> dict[int, float]:
        """Points of test accuracy below float32, seed by seed."""
        full, own = self.accuracies[FULL], self.accuracies[method, recipe]
        return {seed: full[seed] - own[seed] for seed in own}

    def ratio(self, method: str, recipe: str) -> dict[int, float]:
        """Decades by which the training loss is above float32's, seed by seed."""
        full, own = self.losses[FULL], self.losses[method, recipe]
        return {seed: float(np.log10(own[seed] / full[seed])) for seed in own}


FULL = ("float32", "float32")


def runs(size: str) -> list[Point]:
    """Float32, and every recipe with every method; some seeds."""
    points = [
        Point(f"float-seed{s}", f"{CONFIG}:float,{size}", {"seed": s}) for s in SEEDS[size]
    ]
    for m, (variant, rounding) in enumerate(METHODS.values()):
        for r, recipe in enumerate(RECIPES):
            settings = {**recipe.settings, **rounding}
            points += [
                Point(f"method{m}-recipe{r}-seed{s}", f"{CONFIG}:{variant},{size}",
                      {**settings, "seed": s})
                for s in SEEDS[size]
            ]  # fmt: skip
    return points


def load(finished: dict[str, Run]) -> Ends:
    """The last line of every log."""
    methods, found = list(METHODS), Ends({}, {})
    for name, run in finished.items():
        key = FULL
        if not name.startswith("float"):
            method, recipe, _ = name.split("-")
            at = int(method.removeprefix("method")), int(recipe.removeprefix("recipe"))
            key = methods[at[0]], RECIPES[at[1]].label
        assert run.final is not None
        seed = run.config["seed"]
        found.losses.setdefault(key, {})[seed] = run.final["loss"]
        found.accuracies.setdefault(key, {})[seed] = 100 * run.final["test_accuracy"]
    return found


def draw(ends: Ends) -> dict[str, Figure]:
    """Left: training loss. Right: test accuracy. By format, in groups by method."""
    figure = Figure(figsize=(11.5, 5), layout="constrained")
    for axes, values, words in zip(
        figure.subplots(1, 2),
        (ends.losses, ends.accuracies),
        ("loss over the training set (nats)", "test accuracy, %"),
    ):
        for r, recipe in enumerate(RECIPES):
            groups = [list(values[method, recipe.label].values()) for method in METHODS]
            means = np.array([np.mean(group) for group in groups])
            low = means - [min(group) for group in groups]
            high = [max(group) for group in groups] - means
            places = np.arange(len(METHODS)) + (r - (len(RECIPES) - 1) / 2) * 0.12
            axes.errorbar(
                places, means, (low, high), color=recipe.color, linestyle="none", capsize=3,
                marker="os^Dv<>"[r], label=recipe.label if axes.get_subplotspec().is_first_col()
                else None,
            )  # fmt: skip
        full = float(np.mean(list(values[FULL].values())))
        axes.axhline(full, color="black", linewidth=1)
        axes.annotate(
            "float32", (1, full), xycoords=("axes fraction", "data"), ha="right", va="bottom",
            xytext=(-3, 2), textcoords=OFFSET,
        )  # fmt: skip
        axes.set_xticks(range(len(METHODS)), [name.replace(", ", ",\n") for name in METHODS])
        axes.set_xlim(-0.5, len(METHODS) - 0.5)
        axes.set(xlabel="what is rounded", ylabel=words)
        axes.grid(True, axis="y", color="0.88")
    losses = figure.axes[0]
    losses.set_yscale("log")
    log_axes(losses)
    seeds = len(ends.losses[FULL])
    figure.suptitle(f"A small network trained in few bits (means and range over {seeds} seeds)")
    figure.legend(loc="outside lower center", ncols=4)
    return {"figure": figure}


def check(ends: Ends, size: str) -> list[Verdict]:
    """What each format loses against float32, in points of accuracy or decades of loss."""
    del size  # the claims are the same at every size
    decades = " decades"
    return [
        *(
            judge_mean(
                f"operands in {name}: accuracy within 1 point of float32",
                ends.lost(OPERANDS, name), below=1, unit=POINTS,
            )
            for name in ("posit16", "posit8", FP8)
        ),
        judge_mean(
            "operands in posit16: the training loss is float32's within 0.02 decades",
            ends.ratio(OPERANDS, "posit16"), above=-0.02, below=0.02, unit=decades,
        ),
        judge_mean(
            "gradients underflow in E4M3: operands in it lose more than in posit8 (loss)",
            _less(ends.ratio(OPERANDS, "e4m3fn"), ends.ratio(OPERANDS, "posit8")),
            above=0, unit=decades,
        ),
        judge_mean(
            "everything in posit16, to nearest: training loss within 0.1 decades of float32",
            ends.ratio(NEAREST, "posit16"), below=0.1, unit=decades,
        ),
        judge_mean(
            "everything in bfloat16, to nearest: loses more than posit16 (loss)",
            _less(ends.ratio(NEAREST, "bfloat16"), ends.ratio(NEAREST, "posit16")),
            above=0, unit=decades,
        ),
        judge_mean(
            "everything in posit8: stochastic rounding beats nearest (loss)",
            _less(ends.ratio(NEAREST, "posit8"), ends.ratio(STOCHASTIC, "posit8")),
            above=0, unit=decades,
        ),
        judge_mean(
            "everything in posit8, stochastic: accuracy within 3 points of float32",
            ends.lost(STOCHASTIC, "posit8"), below=3, unit=POINTS,
        ),
    ]  # fmt: skip


def _less(above: dict[int, float], below: dict[int, float]) -> dict[int, float]:
    return {seed: above[seed] - below[seed] for seed in above}
