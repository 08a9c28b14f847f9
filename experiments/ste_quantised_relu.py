"""A quantised ReLU has a step size for each rounding rule; another rule's costs a third more.

Figure 2 of Yin et al., Understanding straight-through estimator in training activation
quantized neural nets, ICLR 2019, arXiv 1903.05662: staircases and the functions whose
derivatives stand for theirs. The authors' code rounds up to the next level, with step
sizes that are best if one rounds to the nearest level; those of HWGQ (Cai et al., CVPR 2017)
belong to a third rule.

    python launch.py --experiment=ste_quantised_relu

Step sizes minimise the mean squared error on the positive half of a normal distribution, what
batch normalisation puts in front. Expected: 0.4866, 0.5388 and 0.6508 at 2 bits, and 32 % more
error where the third is used with the first rule.
"""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import papers
from experiments.curves import in_words
from experiments.estimators import CLIPPED, LOOKS, Look
from lpml.runs import Point, Run, Verdict, judge

PAPER = papers.STRAIGHT_THROUGH
MINUTES = 0.5  # of two CPU cores, default size

CONFIG = "configs/ste_quantised_relu.py"
SEEDS = (1, 2, 3)
BITS = (1, 2, 3, 4)
SHOWN = (1, 2, 4)
DIGITS = 5.1e-5  # four digits, rounded
SIGMAS = 4.5  # samples are the same for all steps of a curve: some tens of independent errors


class Rule(NamedTuple):
    """A rounding rule, its best step sizes for 1 to 4 bits and error at 2, and its look."""

    name: str
    label: str
    alphas: tuple[float, float, float, float]
    error: float
    color: str
    line: str
    marker: str


CEIL = Rule(
    "ceil", "up to the next level", (0.7979, 0.4866, 0.2893, 0.1666), 0.12316,
    "#D55E00", "-", "o",
)  # fmt: skip
POSITIVE = Rule(
    "nearest_positive", "nearest level above 0 (HWGQ)", (0.7979, 0.5388, 0.3217, 0.1842),
    0.08644, "#0072B2", "--", "s",
)  # fmt: skip
NEAREST = Rule(
    "nearest", "nearest level, 0 too", (1.2240, 0.6508, 0.3534, 0.1932), 0.04686,
    "#009E73", ":", "^",
)  # fmt: skip
RULES = (CEIL, POSITIVE, NEAREST)
AUTHORS = {1: 1.2221, 2: 0.6511, 4: 0.1946}  # in the code, with the rule "ceil"
WIDEST = 1.6  # largest step size of a curve, in best steps of the rule "nearest"


class Results(NamedTuple):
    """Runs: errors by rule, bits and seed; those at the authors' steps; staircases."""

    errors: dict[tuple[Rule, int], dict[int, Run]]
    authors: dict[int, dict[int, Run]]
    curves: dict[tuple[Rule, int], Run]


def runs(size: str) -> list[Point]:
    """Errors of all rules and bits, those of the authors' steps, and staircases to look at."""
    return [*_errors(size), *_authors(size), *_curves(size)]


def _errors(size):
    for seed in SEEDS:
        for rule in RULES:
            for bits in BITS:
                widest = WIDEST * NEAREST.alphas[bits - 1]
                yield Point(
                    f"error-{rule.name}-{bits}-seed{seed}",
                    f"{CONFIG}:error,{size}",
                    {
                        **_staircase(rule, bits),
                        "measurement.lowest": widest / 5,
                        "measurement.highest": widest,
                        "seed": seed,
                    },
                )


def _authors(size):
    for seed in SEEDS:
        for bits, alpha in AUTHORS.items():
            one = {"lowest": alpha, "highest": alpha, "points": 1}
            yield Point(
                f"authors-ceil-{bits}-seed{seed}",
                f"{CONFIG}:error,{size}",
                {
                    **_staircase(CEIL, bits),
                    **{f"measurement.{key}": value for key, value in one.items()},
                    "seed": seed,
                },
            )


def _curves(size):
    for rule in (CEIL, NEAREST):
        for bits in SHOWN:
            variant = f"{CONFIG}:curve,{size}"
            name = f"curve-{rule.name}-{bits}-seed{SEEDS[0]}"
            yield Point(name, variant, {**_staircase(rule, bits), "seed": SEEDS[0]})


def _staircase(rule, bits):
    return {"measurement.rounding": rule.name, "measurement.bits": bits}


def load(finished: dict[str, Run]) -> Results:
    """The runs by what they are of."""
    rules = {rule.name: rule for rule in RULES}
    found = Results({}, {}, {})
    for name, run in finished.items():
        kind, rule, word, _ = name.split("-")
        bits, seed = int(word), run.config["seed"]
        if kind == "error":
            found.errors.setdefault((rules[rule], bits), {})[seed] = run
        elif kind == "authors":
            found.authors.setdefault(bits, {})[seed] = run
        else:
            found.curves[rules[rule], bits] = run
    return found


def draw(results: Results) -> dict[str, Figure]:
    """The staircases, and error by step size."""
    return {"figure": _staircases(results), "alpha": _by_step(results)}


def _staircases(results: Results) -> Figure:
    figure = Figure(figsize=(12, 9.5), layout="constrained")
    panels = figure.subplots(3, len(SHOWN), sharex=True, height_ratios=(2, 2, 1))
    for row, rule in zip(panels, (CEIL, NEAREST)):
        for axes, bits in zip(row, SHOWN, strict=True):
            run = results.curves[rule, bits]
            x, output = run.series("input")[1], run.series("output")[1]
            for look in LOOKS:
                # on top of the staircase, whose flat end it shares
                lift = {"zorder": 3, "linewidth": 2.6} if look is CLIPPED else {}
                style = {"color": look.color, "linestyle": look.line, **lift}
                axes.plot(x, _behind(run, look), label=look.label, **style)
            axes.plot(x, output, color="0.3", linewidth=2, label="quantised ReLU", zorder=2.5)
            alpha = run.series("alpha")[1][0]
            axes.set(title=f"{bits} bit{'s' * (bits > 1)}, step {alpha:.4f}", ylim=(-1, 3.2))
        row[0].set_ylabel(f"rounded {'up' if rule is CEIL else 'to nearest'}: output")
    for axes, bits in zip(panels[2], SHOWN, strict=True):
        run = results.curves[CEIL, bits]
        for look in LOOKS:
            x, slope = run.series("input")[1], run.series(look.name)[1]
            axes.plot(x, slope, color=look.color, linestyle=look.line, linewidth=2)
        axes.set(xlabel="input x", ylim=(-0.1, 1.15))
    panels[2][0].set_ylabel("derivative (rounded up)")
    for axes in panels.flat:
        axes.grid(True, color="0.92")
    figure.suptitle("Quantised ReLU at its best step size, and what stands for it in backprop")
    handles = panels[0][0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4)
    return figure


def _behind(run: Run, look: Look) -> np.ndarray:
    """The function with an estimator's derivative, 0 at 0: what the staircase is taken for."""
    x = run.series("input")[1]
    height = np.cumsum(run.series(look.name)[1]) * (x[1] - x[0])
    return height - np.interp(0, x, height)


def _by_step(results: Results) -> Figure:
    figure = Figure(figsize=(13, 4.8), layout="constrained")
    for axes, bits in zip(figure.subplots(1, len(SHOWN)), SHOWN, strict=True):
        for rule in RULES:
            run = results.errors[rule, bits][SEEDS[0]]
            steps, errors = run.series("alpha")[1], run.series("mse")[1]
            wide = rule is CEIL and bits == 1  # where the second rule's curve lies upon it
            style = {"color": rule.color, "linestyle": rule.line}
            axes.plot(steps, errors, label=rule.label, linewidth=4 if wide else 1.6, **style)
            final = run.final or {}
            best = final["best_alpha"], final["best_mse"]
            axes.plot(*best, rule.marker, color=rule.color, mec="black", ms=11 if wide else 7)
            place = {CEIL: (0, 11), POSITIVE: (26, -3), NEAREST: (0, -17)}[rule]
            if rule is not POSITIVE or bits > 1:
                axes.annotate(
                    f"{best[0]:.4f}", best, place, textcoords="offset points", ha="center",
                    fontsize=8,
                )  # fmt: skip
        theirs = (results.authors[bits][SEEDS[0]].final or {})["mse"]
        axes.plot(
            AUTHORS[bits], theirs, "X", color="black", ms=9, linestyle="none",
            label="the authors' step, rounded up",
        )  # fmt: skip
        least = (results.errors[NEAREST, bits][SEEDS[0]].final or {})["best_mse"]
        axes.set(yscale="log", ylim=(0.6 * least, None), xlabel="step size")
        axes.set(title=f"{bits} bit{'s' * (bits > 1)}")
        axes.grid(True, color="0.92", which="both")
    figure.axes[0].set_ylabel("mean squared error on x > 0")
    figure.suptitle(
        "Error of quantised ReLU on normal inputs (marks: the best step of each rule)"
    )
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4)
    return figure


def check(results: Results, size: str) -> list[Verdict]:
    """The table of step sizes, the samples, and the price of another rule's step."""
    del size
    costs = {bits: _costs(results.authors[bits]) for bits in AUTHORS}
    apart = dict.fromkeys(SEEDS, 0.0)
    for by_seed in results.errors.values():
        for seed, run in by_seed.items():
            apart[seed] = max(apart[seed], _sigmas(run))
    return [
        *(_table(results, rule) for rule in RULES),
        judge(
            "sampled errors agree with the closed form",
            {seed: value < SIGMAS for seed, value in apart.items()},
            measured=f"largest deviation in standard errors: {in_words(apart.values())}",
            expected=f"< {SIGMAS}",
        ),
        judge(
            "the authors' 2-bit step with their rounding costs 32 % more error than the best",
            {seed: abs(cost - 0.32) < 0.005 for seed, cost in costs[2].items()},
            measured=f"more by {max(costs[2].values()):.1%}; at 1 and 4 bits by "
            f"{max(costs[1].values()):.0%} and {max(costs[4].values()):.0%}",
            expected="32 % within 0.5 %",
        ),
    ]


def _table(results, rule):
    found = {
        seed: [(results.errors[rule, bits][seed].final or {})["best_alpha"] for bits in BITS]
        for seed in SEEDS
    }
    errors = {s: (run.final or {})["best_mse"] for s, run in results.errors[rule, 2].items()}
    alphas = ", ".join(f"{alpha:.4f}" for alpha in found[SEEDS[0]])
    wanted = ", ".join(f"{alpha:.4f}" for alpha in rule.alphas)
    return judge(
        f"{rule.label}: the best steps for 1 to 4 bits, and the error at 2 bits",
        {
            seed: bool(np.all(np.abs(np.subtract(found[seed], rule.alphas)) < DIGITS))
            and abs(errors[seed] - rule.error) < DIGITS / 10
            for seed in SEEDS
        },
        measured=f"{alphas}; {errors[SEEDS[0]]:.5f}",
        expected=f"{wanted}; {rule.error:.5f}",
    )


def _costs(by_seed):
    finals = {seed: run.final or {} for seed, run in by_seed.items()}
    return {seed: final["mse"] / final["best_mse"] - 1 for seed, final in finals.items()}


def _sigmas(run):
    apart = run.series("sampled_mse")[1] - run.series("mse")[1]
    return float(np.max(np.abs(apart) / run.series("standard_error")[1]))
