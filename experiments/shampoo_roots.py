"""Newton's inverse roots are cheaper than SVD's only for large matrices and an SVD by QR.

Anil et al., Scalable Second Order Optimization for Deep Learning, arXiv 2002.09018, compute the
roots of Shampoo by coupled Newton iteration: cheaper than SVD, the more so with dimension.

    python launch.py --experiment=shampoo_roots

Four ways take turns on one BLAS thread, with symmetric matrices whose fourth roots are known:
eigendecomposition (numpy's eigh), SVD by divide and conquer (LAPACK's gesdd, numpy's default),
SVD by QR iteration (gesvd), Newton. Seconds are this machine's, hence only ratios are judged.
Then what roots are worth: float32 needs a ridge, and the error that Newton's iteration stops by
says nothing of the root's.

Where it fails: LAPACK's SVD by divide and conquer, which numpy takes, is two to seven times
cheaper than Newton's iteration on a CPU; the paper does not say which SVD it has. Newton's
products are what an accelerator does best, and none was at hand.
"""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from experiments import papers
from experiments.curves import in_words
from experiments.style import log_axes
from lpml.runs import Point, Run, Verdict, judge

PAPER = papers.SHAMPOO
MINUTES = 2  # of two CPU cores, default size

CONFIG = "configs/shampoo_roots.py"
SEEDS = (1, 2, 3)
SIZES = {
    "tiny": (16, 32),
    "default": (128, 256, 512, 1024),
    "paper": (128, 256, 512, 1024, 2048, 4096),
}
# The size at which conditions and ridges are changed, and the condition where they are not.
AT = {"tiny": 32, "default": 128, "paper": 256}
CONDITION, WORST = 1e6, 1e10
CONDITIONS = (1e2, 1e4, CONDITION, 1e8, WORST)
RIDGE = 1e-6
RIDGES = (1e-4, 1e-5, RIDGE, 1e-7, 1e-8, 1e-9)
ONCE = 1024  # from this size on a method is timed but once
METHODS: dict[str, dict[str, Any]] = {
    "eigh": dict(color="#0072B2", marker="o"),
    "gesdd": dict(color="#E69F00", marker="s"),
    "gesvd": dict(color="#CC79A7", marker="^", markersize=9, mfc="none"),  # gesdd is behind
    "newton": dict(color="#000000", marker="D"),
}
LABELS = {
    "eigh": "eigendecomposition (eigh)",
    "gesdd": "SVD, divide and conquer (gesdd)",
    "gesvd": "SVD, QR iteration (gesvd)",
    "newton": "coupled Newton",
}


class Case(NamedTuple):
    """What was measured."""

    size: int
    condition: float
    dtype: str
    ridge: float


Found = dict[Case, dict[int, dict[str, float]]]
"""Metrics at the end by case and seed."""


def cases(size: str) -> list[Case]:
    """Sizes, conditions and ridges; float64 has no ridge, float32 that of 1e-6 or several."""
    at = AT[size]
    both = (("float64", 0.0), ("float32", RIDGE))
    # float32 but for the largest size, whose minutes it would double
    found = [Case(n, CONDITION, *of) for of in both for n in SIZES[size]]
    found.remove(Case(SIZES[size][-1], CONDITION, *both[1]))
    found += [Case(at, condition, *of) for of in both for condition in CONDITIONS]
    found += [Case(at, WORST, "float32", ridge) for ridge in RIDGES]
    return list(dict.fromkeys(found))


def runs(size: str) -> list[Point]:
    """All cases, three seeds."""
    return [
        Point(
            f"n{c.size}-condition{c.condition:.0e}-{c.dtype}-ridge{c.ridge:.0e}-seed{seed}",
            f"{CONFIG}:{size}",
            {
                "measurement.size": c.size,
                "measurement.condition": c.condition,
                "measurement.dtype": c.dtype,
                "measurement.epsilon": c.ridge,
                "seed": seed,
            }
            | ({"measurement.rounds": 1} if c.size >= ONCE else {}),
        )
        for c in cases(size)
        for seed in SEEDS
    ]


def load(finished: dict[str, Run]) -> Found:
    """The last line of every run."""
    found: Found = {}
    for run in finished.values():
        m = run.config["measurement"]
        case = Case(m["size"], m["condition"], m["dtype"], m["epsilon"])
        assert run.final is not None
        found.setdefault(case, {})[run.config["seed"]] = dict(run.final)
    return found


def draw(found: Found) -> dict[str, Figure]:
    """Above by size: seconds, ratios, error. Below: error by condition, Newton by ridge."""
    figure = Figure(figsize=(13.5, 8.4), layout="constrained")
    (seconds, ratio, by_size), (double, single, by_ridge) = figure.subplots(2, 3)
    sizes, at = _sizes(found), _at(found)
    rows = [Case(n, CONDITION, "float64", 0.0) for n in sizes]
    for method, style in METHODS.items():
        seconds.plot(sizes, _means(found, rows, f"seconds_{method}"), **style)
        if method != "newton":
            ratio.plot(sizes, [_mean(_ratio(found, c, method).values()) for c in rows], **style)
    ratio.axhline(1, color="0.4", linewidth=1, linestyle="--")
    ratio.text(sizes[0], 1, "as fast as Newton", va="bottom", color="0.3", fontsize="small")
    for dtype, epsilon, line in (("float64", 0.0, "-"), ("float32", RIDGE, ":")):
        rows = [c for n in sizes if (c := Case(n, CONDITION, dtype, epsilon)) in found]
        _errors(by_size, found, sizes[: len(rows)], rows, line)
    for axes, dtype, epsilon in ((double, "float64", 0.0), (single, "float32", RIDGE)):
        rows = [Case(at, condition, dtype, epsilon) for condition in CONDITIONS]
        _errors(axes, found, CONDITIONS, rows, "-" if dtype == "float64" else ":")
    _by_ridge(by_ridge, found, at)
    for axes in (seconds, ratio, by_size):
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(n) for n in sizes])
        axes.set_xlabel("rows and columns n")
    for axes in (double, single):
        axes.set(xscale="log", xlabel="condition number", ylabel="relative error of the root")
    for axes in (seconds, ratio, by_size, double, single, by_ridge):
        axes.set_yscale("log")
        log_axes(axes)
    by_ridge.set_ylim(top=1e4)  # room for its legend
    ratio.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ratio.yaxis.set_major_formatter("{x:g}")
    ratio.yaxis.set_minor_formatter(NullFormatter())
    seconds.set(ylabel="seconds of this processor", title="time of a root, float64")
    ratio.set(ylabel="time / time of Newton", title="relative to Newton, float64")
    by_size.set(
        ylabel="relative error of the root",
        title="error at condition 1e6\n(solid: float64; dotted: float32, ridge 1e-6)",
    )
    double.set_title(f"float64, no ridge, n = {at}")
    single.set_title(f"float32, ridge 1e-6, n = {at}")
    handles = [Line2D([], [], label=LABELS[m], **style) for m, style in METHODS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    figure.suptitle(f"Inverse fourth roots, means over {len(SEEDS)} seeds, one BLAS thread")
    return {"figure": figure}


def _errors(axes, found, x, rows, line):
    for method, style in METHODS.items():
        axes.plot(x, _means(found, rows, f"error_{method}"), linestyle=line, **style)


def _by_ridge(axes, found, at):
    rows = [Case(at, WORST, "float32", ridge) for ridge in RIDGES]
    for metric, label, line, marker in (
        ("residual_newton", "true residual max |X$^4$D - I|", "-", "D"),
        ("error_newton", "relative error of the root", ":", "v"),
        ("reported_newton", "error that the iteration reports", "--", "x"),
    ):
        values = _means(found, rows, metric)
        axes.plot(RIDGES, values, color="black", linestyle=line, marker=marker, label=label)
    axes.set(
        xscale="log",
        xlabel="ridge / largest eigenvalue",
        ylabel="residual or error",
        title=f"Newton in float32, condition 1e10, n = {at}",
    )
    axes.legend(loc="upper right", fontsize="small")


def _sizes(found: Found) -> list[int]:
    return sorted({case.size for case in found if case.condition == CONDITION})


def _at(found: Found) -> int:
    return next(case.size for case in found if case.condition == WORST)


def _means(found, rows, metric):
    return [_mean(line[metric] for line in found[case].values()) for case in rows]


def _mean(values):
    """Geometric, as the axes are logarithmic."""
    return float(np.exp(np.mean(np.log(list(values)))))


def _ratio(found: Found, case: Case, method: str, than: str = "newton") -> dict[int, float]:
    """Seconds of a method over those of another in the same run, by seed."""
    return {
        seed: line[f"seconds_{method}"] / line[f"seconds_{than}"]
        for seed, line in found[case].items()
    }


def check(found: Found, size: str) -> list[Verdict]:
    """Of time only ratios inside of a run, and none at the tiny size, where calls are all."""
    at = _at(found)
    timed = [] if size == "tiny" else _times(found)
    return [*timed, *_doubles(found, at), *_singles(found, at)]


def _times(found):
    rows = [Case(n, CONDITION, "float64", 0.0) for n in _sizes(found)]
    first, last = rows[0], rows[-1]
    slow = {case: _ratio(found, case, "gesvd") for case in (first, last)}
    eigh = [_ratio(found, case, "newton", "eigh") for case in rows]
    return [
        *(
            _cheaper(driver, case.size, _ratio(found, case, driver))
            for driver in ("gesvd", "gesdd")
            for case in (first, last)
        ),
        judge(
            "the gain of Newton over SVD by gesvd grows with the dimension",
            {s: slow[last][s] > slow[first][s] for s in SEEDS},
            measured=f"gesvd / Newton on this machine: {in_words(slow[first].values())} at "
            f"n = {first.size}, {in_words(slow[last].values())} at n = {last.size}",
            expected="larger at the larger n",
        ),
        judge(
            f"eigendecomposition is cheaper than Newton at every n from {first.size}",
            {s: all(ratio[s] > 1 for ratio in eigh) for s in SEEDS},
            measured="Newton / eigh on this machine: "
            + in_words(r for ratio in eigh for r in ratio.values()),
            expected="> 1",
        ),
    ]


def _cheaper(driver, n, ratio):
    return judge(
        f"Newton is cheaper than SVD by {driver} at n = {n}",
        {s: r > 1 for s, r in ratio.items()},
        measured=f"{driver} / Newton on this machine: {in_words(ratio.values())}",
        expected="> 1",
        paper="faster than SVD on a CPU, the more the larger n",
    )


def _doubles(found, at):
    rows = [Case(at, condition, "float64", 0.0) for condition in CONDITIONS]
    exact = {
        s: max(found[c][s]["error_eigh"] / (1e-15 * c.condition) for c in rows) for s in SEEDS
    }
    newton = {s: max(found[c][s]["error_newton"] for c in rows) for s in SEEDS}
    return [
        judge(
            "in float64 eigendecomposition is exact to a few roundings times the condition",
            {s: share < 1 for s, share in exact.items()},
            measured=f"largest error / (1e-15 condition): {in_words(exact.values())}",
            expected="< 1 from 1e2 to 1e10",
        ),
        judge(
            "in float64 Newton is as exact as its tolerance at every condition",
            {s: error < 1e-5 for s, error in newton.items()},
            measured=f"largest error: {in_words(newton.values())}",
            expected="< 1e-5 for a tolerance of 1e-6",
        ),
    ]


def _singles(found, at):
    enough, less = (found[Case(at, WORST, "float32", r)] for r in (RIDGE, RIDGES[-1]))
    worst = {s: max(line["error_newton"], line["error_eigh"]) for s, line in enough.items()}
    without = {s: min(line["error_newton"], line["error_eigh"]) for s, line in less.items()}
    order = {s: line["error_newton"] / line["error_eigh"] for s, line in enough.items()}
    beyond = {
        s: line["residual_newton"] / line["reported_newton"] for s, line in enough.items()
    }
    tenth = found[Case(at, WORST, "float32", 1e-7)]
    return [
        judge(
            "in float32 a ridge of 1e-6 makes usable roots at condition 1e10",
            {s: error < 0.05 for s, error in worst.items()},
            measured=f"larger error of Newton and eigh: {in_words(worst.values())}",
            expected="< 5 %",
        ),
        judge(
            f"in float32 a ridge of {RIDGES[-1]:g} does not",
            {s: error > 0.05 for s, error in without.items()},
            measured=f"smaller error of Newton and eigh: {in_words(without.values())}",
            expected="> 5 %",
        ),
        judge(
            "in float32 Newton is more exact than LAPACK's eigh (ridge 1e-6)",
            {s: ratio < 1 for s, ratio in order.items()},
            measured=f"error of Newton / eigh: {in_words(order.values())}",
            expected="< 1",
        ),
        judge(
            "the error that Newton stops by is no certificate",
            {s: ratio > 1e4 for s, ratio in beyond.items()},
            measured=f"true residual / reported error: {in_words(beyond.values())}; with a "
            f"ridge of 1e-7 {in_words(x['reported_newton'] for x in tenth.values())} is "
            f"reported and {in_words(x['residual_newton'] for x in tenth.values())} true",
            expected="> 1e4 in float32 at condition 1e10, ridge 1e-6",
        ),
    ]
