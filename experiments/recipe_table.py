"""int8 in all five roles costs a Transformer 0.001 nats, and its state a quarter of the bytes.

Weights (W), activations (A), gradients (G), optimizer state (S) and master weights (M) each
have a format. The two products inside of attention stay in float32 (`lpml.models.attention`).
The recipes are those that accelerators train with (FP8, MXFP8, MXFP6, NVFP4, int8), and, with
all else in float32, each role alone in NVFP4: which bears 4 bits worst?

    python launch.py --experiment=recipe_table

Rounding of S, M and of 4-bit or int8 gradients is stochastic. Networks: a character
Transformer (Adam: two tensors of state) and a thin ResNet-20 on digits (momentum: one). Claims
are of held-out data against float32, seed by seed: in nats a character, or points of accuracy.

Where it fails: MXFP6 loses 0.027 nats, its gradients in E2M3 and rounded to nearest. That is
what costs: rounded stochastically it loses 0.002 to 0.004 (three seeds; the config
configs/recipe.py:transformer with weights, activations and gradients mxfp6e2m3,
gradient_rounding=stochastic, state and masters float32), with gradients in E3M2 to nearest
0.018 to 0.020. MXFP8, at 0.022, is above FP8, which has no scales at all.
"""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import papers
from lpml.runs import Point, Run, Verdict, judge, judge_mean

PAPER = papers.FP8
MINUTES = 60  # of two CPU cores, default size

CONFIG = "configs/recipe.py"
SEEDS = {"tiny": (1, 2), "default": (1, 2, 3), "paper": (1, 2, 3)}
NETWORKS = {
    "tiny": ("transformer",),
    "default": ("transformer", "resnet20"),
    "paper": ("transformer", "resnet20"),
}
TITLES = {"transformer": "Transformer", "resnet20": "ResNet-20"}
UNITS = {"transformer": " nats", "resnet20": " points"}
FLOAT = "float32"


class Recipe(NamedTuple):
    """A row of the table: the five formats; None is float32."""

    label: str
    weights: str | None = None
    activations: str | None = None
    gradients: str | None = None
    state: str | None = None
    master: str | None = None
    rounding: str = "nearest"  # of gradients

    def settings(self) -> dict[str, str]:
        """What the config is told; floats of S and M are codes too, so that all are counted."""
        return {
            "model.quant.weights": self.weights or "none",
            "model.quant.activations": self.activations or "none",
            "model.quant.gradients": self.gradients or "none",
            "model.quant.gradient_rounding": self.rounding,
            "optim.state_format": self.state or FLOAT,
            "optim.master_format": self.master or FLOAT,
        }

    def words(self) -> str:
        """The formats, roles of one format together: `W A e4m3fn, G e5m2, S M float32`."""
        roles: dict[str, list[str]] = {}
        for role, name in zip("WAGSM", self[1:6]):
            roles.setdefault(name or FLOAT, []).append(role)
        return ", ".join(f"{' '.join(of)} {name}" for name, of in roles.items())


BLOCKS = "vsq8v64m8t"  # int8 in blocks of 64, as 8-bit optimizers have it
_E4, _E5, _BF, _MX8, _MX6 = "e4m3fn", "e5m2", "bfloat16", "mxfp8e4m3", "mxfp6e2m3"
_FOUR, _INT, _RANDOM = "nvfp4", "int8tensor", "stochastic"
WHOLE = (
    Recipe("all float32"),
    Recipe("bfloat16 everywhere", _BF, _BF, _BF, _BF, _BF),
    Recipe("FP8", _E4, _E4, _E5),
    Recipe("FP8, S M bfloat16", _E4, _E4, _E5, _BF, _BF),
    Recipe("MXFP8", _MX8, _MX8, _MX8),
    Recipe("MXFP6", _MX6, _MX6, _MX6),
    Recipe("NVFP4", _FOUR, _FOUR, _FOUR, rounding=_RANDOM),
    Recipe("int8 everywhere", _INT, _INT, _INT, BLOCKS, BLOCKS, _RANDOM),
)
ALONE = (
    Recipe("only W in 4 bits", weights=_FOUR),
    Recipe("only A in 4 bits", activations=_FOUR),
    Recipe("only G in 4 bits", gradients=_FOUR, rounding=_RANDOM),
    Recipe("only S in 4 bits", state=_FOUR),
    Recipe("only M in 4 bits", master=_FOUR),
)
RECIPES = WHOLE + ALONE
# Each recipe is a program to compile: the tiny size has few.
CHOSEN = {
    "tiny": (0, 3, 7, 11, 12),
    "default": tuple(range(len(RECIPES))),
    "paper": tuple(range(len(RECIPES))),
}
FULL, ALL_INT8, MASTER = WHOLE[0].label, WHOLE[-1].label, ALONE[-1].label
# Most that a recipe may lose on held-out data: nats of the Transformer, points of ResNet-20.
MOST = {
    "bfloat16 everywhere": (0.02, 1.0),
    "FP8": (0.02, 1.0),
    "FP8, S M bfloat16": (0.02, 1.0),
    "MXFP8": (0.02, 1.0),
    "MXFP6": (0.02, 1.0),
    "NVFP4": (0.1, 2.0),
    "int8 everywhere": (0.1, 2.0),
}


class Row(NamedTuple):
    """The last line of a run."""

    loss: float  # mean over the batches since the line before
    test_loss: float
    accuracy: float  # of the test set, percent
    bytes: float  # of state and masters, per weight


Ends = dict[tuple[str, str], dict[int, Row]]  # by (network, label) and seed


def lost(ends: Ends, network: str, label: str) -> dict[int, float]:
    """What a recipe loses against float32 on held-out data, seed by seed; see UNITS."""
    full, own = ends[network, FULL], ends[network, label]
    if network == "transformer":
        return {seed: own[seed].test_loss - full[seed].test_loss for seed in own}
    return {seed: full[seed].accuracy - own[seed].accuracy for seed in own}


def chosen(network: str, size: str) -> tuple[int, ...]:
    """Numbers of the recipes that a network is trained with: each is a program to compile.

    ResNet-20 compiles for a minute, so that roles alone are left to the Transformer there.
    """
    if size == "default" and network == "resnet20":
        return tuple(range(len(WHOLE)))
    return CHOSEN[size]


def runs(size: str) -> list[Point]:
    """Every recipe, or few at the tiny size, with every network; some seeds."""
    return [
        Point(
            f"{network}-recipe{r}-seed{seed}",
            f"{CONFIG}:{network},{size}",
            {**RECIPES[r].settings(), "seed": seed},
        )
        for network in NETWORKS[size]
        for r in chosen(network, size)
        for seed in SEEDS[size]
    ]


def load(finished: dict[str, Run]) -> Ends:
    """The last line of every log."""
    ends: Ends = {}
    for name, run in finished.items():
        network, recipe, _ = name.split("-")
        label = RECIPES[int(recipe.removeprefix("recipe"))].label
        last = run.final
        assert last is not None
        ends.setdefault((network, label), {})[run.config["seed"]] = Row(
            last["loss"],
            last["test_loss"],
            100 * last["test_accuracy"],
            last["state_bytes"] + last["master_bytes"],
        )
    return ends


COLUMNS = (
    ("loss", "training loss, nats", "{:.3f}"),
    ("test_loss", "held-out loss, nats", "{:.3f}"),
    ("accuracy", "held-out accuracy, %", "{:.1f}"),
    ("bytes", "bytes per weight, S and M", "{:.2f}"),
)


def draw(ends: Ends) -> dict[str, Figure]:
    """A table of each network: recipes by row, numbers with a mark and a range behind them."""
    return {
        network if network != "transformer" else "figure": _table(ends, network)
        for network in dict.fromkeys(network for network, _ in ends)
    }


def _table(ends, network):
    recipes = [recipe for recipe in RECIPES if (network, recipe.label) in ends]
    whole = sum(recipe in WHOLE for recipe in recipes)
    figure = Figure(figsize=(14, 2 + 0.55 * len(recipes)), layout="constrained")
    rows = np.arange(len(recipes))
    panels = figure.subplots(1, len(COLUMNS), sharey=True)
    for axes, (field, words, form) in zip(panels, COLUMNS):
        seen = [
            [getattr(row, field) for row in ends[network, recipe.label].values()]
            for recipe in recipes
        ]
        means = np.array([np.mean(values) for values in seen])
        reach = np.array(
            [[max(m - min(v), 0), max(max(v) - m, 0)] for m, v in zip(means, seen)]
        ).T
        for chosen, mark in ((rows < whole, "o"), (rows >= whole, "D")):
            axes.errorbar(
                means[chosen], rows[chosen], xerr=reach[:, chosen], color="black", marker=mark,
                markersize=8, linestyle="none", capsize=4,
                mfc="black" if mark == "o" else "white",
            )  # fmt: skip
        axes.axvline(means[0], color="0.5", linestyle="--", linewidth=1)
        for row, mean in zip(rows, means):
            axes.text(
                1.02, row, form.format(mean), transform=axes.get_yaxis_transform(), fontsize=12,
                va="center",
            )  # fmt: skip
        axes.set_title(words, fontsize=14)
        axes.axhline(whole - 0.5, color="black", linewidth=1)
        axes.grid(True, axis="x", color="0.88")
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=12)
        axes.locator_params(axis="x", nbins=4)
    panels[-1].set_xlim(left=0)
    names = [f"{recipe.label}\n{recipe.words()}" for recipe in recipes]
    panels[0].set_yticks(rows, names, fontsize=11)
    panels[0].set_ylim(len(recipes) - 0.5, -0.5)
    seeds = len(ends[network, FULL])
    figure.suptitle(
        f"{TITLES[network]}: recipes of few-bit training, mean and range over {seeds} seeds "
        "(dashed: float32)",
        fontsize=15,
    )
    return figure


def check(ends: Ends, size: str) -> list[Verdict]:
    """What each recipe loses, which role bears 4 bits worst, and what is saved."""
    verdicts = []
    for network in NETWORKS[size]:
        unit = UNITS[network]
        for label, bounds in MOST.items():
            if (network, label) not in ends:
                continue
            most = bounds[network != "transformer"]
            verdicts.append(
                judge_mean(
                    f"{TITLES[network]}, {label}: loses less than {most:g}{unit} to float32",
                    lost(ends, network, label), below=most, unit=unit,
                    paper="matches training in 16 bits" if label == "FP8" else "",
                )
            )  # fmt: skip
        if (network, MASTER) in ends:
            verdicts.append(_worst_role(ends, network))
        verdicts.append(_saved(ends, network))
    return verdicts


def _worst_role(ends, network):
    present = [recipe.label for recipe in ALONE if (network, recipe.label) in ends]
    losses = {label: lost(ends, network, label) for label in present}
    worst = {
        seed: max(losses, key=lambda label: losses[label][seed]) for seed in losses[MASTER]
    }
    means = (f"{label[5]} {np.mean(list(v.values())):.3g}" for label, v in losses.items())
    return judge(
        f"{TITLES[network]}: of all roles alone in 4 bits, the masters lose most",
        {seed: label == MASTER for seed, label in worst.items()},
        measured=f"means lost,{UNITS[network]}: {', '.join(means)}",
        expected="most is lost in M",
    )


def _saved(ends, network):
    full, few = (ends[network, label] for label in (FULL, ALL_INT8))
    shares = {seed: few[seed].bytes / full[seed].bytes for seed in few}
    return judge(
        f"{TITLES[network]}: int8 S and M take less than 27 % of float32's bytes",
        {seed: share < 0.27 for seed, share in shares.items()},
        measured=", ".join(f"{100 * share:.1f} %" for share in shares.values()),
        expected="8.125 bits of 32 are 25.4 %",
    )
