"""Shampoo's matrices in few bits: 8 bits of a Cholesky factor lose little, 4 bits something.

Wang et al., 4-bit Shampoo for Memory-Efficient Network Training, arXiv 2405.18144, and Li et
al., Memory-Efficient 4-bit Preconditioned Stochastic Optimization, arXiv 2412.10663, hold the
state in 4 bits, as eigenvectors or as Cholesky factors, since a matrix in few bits is no longer
positive definite. They report what training loses; here the direction is compared as well.

    python launch.py --experiment=shampoo_state

Statistics and roots are in one format, beside float32 ones of the same gradients, whose
covariance turns half-way. Errors are at the end, of directions of length 1: that is what
grafting leaves. Then a network on digits by Shampoo.

Where it fails: one scale for all entries is too coarse for the Cholesky factor in 4 bits (0.91
to 0.93 for the 0.95 claimed); scales of blocks (vsq4) are what mends it.
"""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import papers
from experiments.curves import in_words
from experiments.style import log_axes
from lpml.runs import Point, Run, Verdict, judge, judge_mean

PAPER = papers.SHAMPOO_4BIT
MINUTES = 5  # of two CPU cores, default size

CONFIG = "configs/shampoo_state.py"
SEEDS = (1, 2, 3)
CONDITION = 1e4
CONDITIONS = (1e2, CONDITION, 1e6, 1e8)
FLOAT32_BYTES = 16  # per parameter of a square matrix: two statistics, two roots
STYLES: dict[str, dict[str, Any]] = {
    "int16": dict(color="#000000", marker="D"),
    "int8": dict(color="#0072B2", marker="o"),
    "e4m3fn": dict(color="#CC79A7", marker="v"),
    "posit8": dict(color="#E69F00", marker="s"),
    "int4": dict(color="#56B4E9", marker="^"),
    "vsq4": dict(color="#D55E00", marker="P"),
    "nvfp4": dict(color="#009E73", marker="X"),
    "mxfp4": dict(color="#999999", marker="*"),
}
COMPARED = ("int8", "int4", "vsq4")  # in both forms, at all conditions
ROUNDED = ("int8", "vsq4")  # in both ways
FACTOR, ENTRIES = "factor", "entries"
STOCHASTIC, NEAREST = "stochastic", "nearest"


class Case(NamedTuple):
    """What was measured."""

    format: str
    form: str
    rounding: str
    condition: float


class Recipe(NamedTuple):
    """What a state was trained in."""

    format: str | None
    form: str


FULL = Recipe(None, FACTOR)
RECIPES = {
    FULL: "float32",
    Recipe("int8", FACTOR): "int8, factor",
    Recipe("vsq4", FACTOR): "vsq4, factor",
    Recipe("vsq4", ENTRIES): "vsq4, entries",
}


class Found(NamedTuple):
    """Last lines by case and seed; training losses and accuracies (%) by recipe and seed."""

    errors: dict[Case, dict[int, dict[str, float]]]
    losses: dict[Recipe, dict[int, np.ndarray]]
    accuracies: dict[Recipe, dict[int, float]]

    def of(self, case: Case, metric: str) -> dict[int, float]:
        """One metric, by seed."""
        return {seed: line[metric] for seed, line in self.errors[case].items()}

    def ratio(self, above: Case, below: Case, metric: str) -> dict[int, float]:
        """One case's metric over another's, by seed: both saw the same gradients."""
        under = self.of(below, metric)
        return {seed: value / under[seed] for seed, value in self.of(above, metric).items()}


def cases() -> list[Case]:
    """All formats as factors; some as entries, at other conditions, to nearest."""
    found = [Case(name, FACTOR, STOCHASTIC, CONDITION) for name in STYLES]
    found += [
        Case(name, form, STOCHASTIC, condition)
        for name in COMPARED
        for form in (FACTOR, ENTRIES)
        for condition in CONDITIONS
    ]
    found += [Case(name, FACTOR, NEAREST, CONDITION) for name in ROUNDED]
    return list(dict.fromkeys(found))


def runs(size: str) -> list[Point]:
    """All cases, then the trainings; three seeds."""
    points = [
        Point(
            f"{c.format}-{c.form}-{c.rounding}-condition{c.condition:.0e}-seed{seed}",
            f"{CONFIG}:error,{size}",
            {
                "measurement.statistics_format": c.format,
                "measurement.roots_format": c.format,
                "measurement.form": c.form,
                "measurement.rounding": c.rounding,
                "measurement.condition": c.condition,
                "seed": seed,
            },
        )
        for c in cases()
        for seed in SEEDS
    ]
    points += [Point(f"float-seed{s}", f"{CONFIG}:float,{size}", {"seed": s}) for s in SEEDS]
    return points + [
        Point(
            f"training-{recipe.format}-{recipe.form}-seed{seed}",
            f"{CONFIG}:training,{size}",
            {
                "optim.statistics_format": recipe.format,
                "optim.roots_format": recipe.format,
                "optim.state_form": recipe.form,
                "seed": seed,
            },
        )
        for recipe in RECIPES
        if recipe != FULL
        for seed in SEEDS
    ]


def load(finished: dict[str, Run]) -> Found:
    """The last line of every measurement, the curve of every training."""
    found = Found({}, {}, {})
    for run in finished.values():
        seed, last = run.config["seed"], run.final
        assert last is not None
        if "optim" in run.config:
            optim = run.config["optim"]
            recipe = Recipe(optim["statistics_format"], optim["state_form"])
            found.losses.setdefault(recipe, {})[seed] = run.series("loss")[1]
            found.accuracies.setdefault(recipe, {})[seed] = 100 * last["test_accuracy"]
        else:
            m = run.config["measurement"]
            case = Case(m["statistics_format"], m["form"], m["rounding"], m["condition"])
            found.errors.setdefault(case, {})[seed] = dict(last)
    return found


def draw(found: Found) -> dict[str, Figure]:
    """Error by bytes, by condition and form, by rounding; training."""
    figure = Figure(figsize=(11, 8.6), layout="constrained")
    (by_bytes, by_condition), (by_rounding, training) = figure.subplots(2, 2)
    for name, style in STYLES.items():
        case = Case(name, FACTOR, STOCHASTIC, CONDITION)
        place = _mean(found.of(case, "bytes_per_parameter").values())
        _bar(by_bytes, place, found.of(case, "direction_error").values(), style, name)
    for name in COMPARED:
        for form, line in ((FACTOR, "-"), (ENTRIES, "--")):
            rows = [Case(name, form, STOCHASTIC, c) for c in CONDITIONS]
            errors = [_mean(found.of(row, "direction_error").values()) for row in rows]
            label = f"{name}, {form}"
            by_condition.plot(CONDITIONS, errors, linestyle=line, label=label, **STYLES[name])
    for n, name in enumerate(ROUNDED):
        for place, rounding in enumerate((NEAREST, STOCHASTIC)):
            values = found.of(Case(name, FACTOR, rounding, CONDITION), "statistics_error")
            once = name if not place else None
            _bar(by_rounding, place + 0.1 * n, values.values(), STYLES[name], once)
    for recipe, words in RECIPES.items():
        curves = np.stack(list(found.losses[recipe].values()))
        style = {"color": "black"} if recipe == FULL else dict(STYLES[recipe.format or ""])
        style["markevery"] = 2
        line = "--" if recipe.form == ENTRIES else "-"
        mean = np.exp(np.log(curves).mean(0))
        training.plot(np.arange(len(mean)), mean, linestyle=line, label=words, **style)
    for axes in (by_bytes, by_condition, by_rounding, training):
        axes.set_yscale("log")
        axes.legend(fontsize="small")
    by_condition.set_xscale("log")
    for axes in (by_bytes, by_condition, training):
        log_axes(axes)
    error = "distance of directions of length 1"
    by_bytes.set(
        xlabel=f"bytes of state per parameter (float32: {FLOAT32_BYTES})", ylabel=error,
        title="by format: Cholesky factors, condition 1e4",
    )  # fmt: skip
    by_condition.set(
        xlabel="condition number of the covariance", ylabel=error,
        title="by what is coded: factors or entries",
    )  # fmt: skip
    by_rounding.set(
        ylabel="relative error of the statistics",
        title="by rounding, after the turn",
    )
    by_rounding.set_xticks([0.05, 1.05], [NEAREST, STOCHASTIC])
    by_rounding.set_xlim(-0.5, 1.6)
    by_rounding.grid(True, axis="y", color="0.88")
    training.set(xlabel="epoch", ylabel="training loss (nats)", title="a network on digits")
    figure.suptitle(f"Shampoo's statistics and roots in few bits, {len(SEEDS)} seeds")
    return {"figure": figure}


def _bar(axes, place, values, style, label):
    """Mean and range."""
    mean, values = _mean(values), list(values)
    # a mean of equal numbers may be beside them, by a rounding
    reach = ([max(mean - min(values), 0)], [max(max(values) - mean, 0)])
    axes.errorbar([place], [mean], reach, linestyle="none", capsize=3, label=label, **style)


def _mean(values):
    """Geometric, as the axes are logarithmic."""
    return float(np.exp(np.mean(np.log(list(values)))))


def check(found: Found, size: str) -> list[Verdict]:
    """Errors at every size; of the tiny one's few steps no training is judged."""
    trained = [] if size == "tiny" else _trained(found)
    return [*_directions(found), *_forms(found), *_rounding(found), *trained]


def _directions(found):
    def cosine(name, least):
        values = found.of(Case(name, FACTOR, STOCHASTIC, CONDITION), "cosine")
        size = found.of(Case(name, FACTOR, STOCHASTIC, CONDITION), "bytes_per_parameter")
        return judge(
            f"factors in {name}: directions have a cosine above {least} with float32's",
            {s: value > least for s, value in values.items()},
            measured=f"{in_words(values.values())}, with {size[SEEDS[0]]:.3g} bytes per "
            f"parameter where float32 has {FLOAT32_BYTES}",
            expected=f"> {least} at condition 1e4",
        )

    four, scaled = (Case(name, FACTOR, STOCHASTIC, CONDITION) for name in ("int4", "vsq4"))
    gain = found.ratio(four, scaled, "direction_error")
    accepted = {
        s: min(lines[s]["accepted"] for c, lines in found.errors.items() if c.form == FACTOR)
        for s in SEEDS
    }
    return [
        cosine("int16", 0.999),
        cosine("int8", 0.98),
        cosine("vsq4", 0.95),
        cosine("int4", 0.95),
        judge(
            "at 4 bits scales of blocks make directions better: vsq4 against int4",
            {s: ratio > 1 for s, ratio in gain.items()},
            measured=f"error of int4 / error of vsq4: {in_words(gain.values())}",
            expected="> 1",
        ),
        judge(
            "the root of every factor is accepted by its residual",
            {s: least == 1 for s, least in accepted.items()},
            measured=f"least share: {in_words(accepted.values())}",
            expected="1",
        ),
    ]


def _forms(found):
    def one(name):
        rows = [
            [Case(name, form, STOCHASTIC, c) for form in (ENTRIES, FACTOR)] for c in CONDITIONS
        ]
        ratios = [found.ratio(*row, "direction_error") for row in rows]
        return judge(
            f"{name}: factors make better directions than entries at every condition",
            {s: all(ratio[s] > 1 for ratio in ratios) for s in SEEDS},
            measured="error of entries / error of factors, by condition: "
            + "; ".join(in_words(ratio.values()) for ratio in ratios),
            expected="> 1",
        )

    return [one(name) for name in COMPARED]


def _rounding(found):
    def one(name):
        pair = (Case(name, FACTOR, rounding, CONDITION) for rounding in (NEAREST, STOCHASTIC))
        ratio = found.ratio(*pair, "statistics_error")
        return judge(
            f"{name}: rounded to nearest, statistics do not forget (error of statistics)",
            {s: r > 2 for s, r in ratio.items()},
            measured=f"error to nearest / stochastic: {in_words(ratio.values())}",
            expected="> 2",
        )

    return [one(name) for name in ROUNDED]


def _trained(found):
    def lost(recipe):
        full, own = found.accuracies[FULL], found.accuracies[recipe]
        return {s: full[s] - own[s] for s in own}

    def decades(recipe, than=FULL):
        full, own = found.losses[than], found.losses[recipe]
        return {s: float(np.log10(own[s][-1] / full[s][-1])) for s in own}

    few = [recipe for recipe in RECIPES if recipe != FULL and recipe.form == FACTOR]
    return [
        *(
            judge_mean(
                f"trained with {RECIPES[recipe]}: test accuracy within 1 point of float32",
                lost(recipe), below=1, unit=" points",
            )
            for recipe in few
        ),
        *(
            judge_mean(
                f"trained with {RECIPES[recipe]}: loss within 0.1 decades of float32",
                decades(recipe), below=0.1, unit=" decades",
            )
            for recipe in few
        ),
        judge_mean(
            "in vsq4 factors train faster than entries: loss at least 0.1 decades lower",
            decades(Recipe("vsq4", ENTRIES), Recipe("vsq4", FACTOR)), above=0.1,
            unit=" decades",
        ),
    ]  # fmt: skip
