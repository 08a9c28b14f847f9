"""Seconds to a gradient norm: HALP and SVRG in the native kernels, and the usual solvers.

    PYTHONPATH=. LPML_DATA=DATA python benchmarks/time_to_accuracy.py
    PYTHONPATH=. python benchmarks/time_to_accuracy.py --quick --problem "squares d=100"

Every method minimises the same function of the same data, which lie on a grid of 8 bits:
mean loss + (l2 / 2) ||w||^2, from w = 0; the last line of a problem says by how much, at most,
the objective of a method that got to 1e-10 is above the least that was found. Norms in the
tables are relative to that at 0; `--csv=FILE` has those to absolute norms as well.

Cells are seconds of the processor, of all threads together, and in brackets by the wall's
clock, without compilation and without measuring: norms are those that the full gradients of
the methods give anyway, or are computed when the clocks have stopped. One thread, but for `x2`
(two) and for the full gradients of the methods in JAX, which are XLA's, in float64, on as many
cores as it likes; what they take is in the notes.

Rate and epoch length T of SVRG and HALP are the best of a grid on seed 0 with mu = "auto",
then mu is the best of "auto" and of shares of what "auto" found, by the time to 1e-6. Times are
medians of seeds 1 to 3, the methods taking turns. scikit-learn's solvers and scipy's run with
growing numbers of passes; then the fewest that were enough are timed with the others.
"""

import argparse
import collections
import csv
import os
import statistics
import time
import warnings

import jax
import numpy as np
import scipy.optimize
from accuracy_problems import PROBLEMS
from accuracy_runs import Clock, Run, reached
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from lpml import data

RELATIVE = tuple(("relative", target) for target in (1e-3, 1e-6, 1e-10))
ABSOLUTE = tuple(("absolute", target) for target in (1e-3, 1e-6, 1e-10))
SEEDS = (1, 2, 3)
QUICK = ("squares d=100", "squares d=1000")
# of the rate times L, of T over N, and of mu over what "auto" found; the second set is quick's
GRIDS = (
    ((0.25, 0.5, 1.0), (0.5, 1, 2, 4, 8), (0.35, 0.6, 1.0)),
    ((0.25, 0.5), (1, 2, 4), (0.6, 1.0)),
)
METHODS = {
    "SVRG float32": ("svrg", {}),
    "HALP int8": ("halp", {"bits": 8, "mu": "auto"}),
    "HALP int16": ("halp", {"bits": 16, "mu": "auto"}),
}


def targets_of(problem, quick=False):
    """The norms to reach, by name; quickly the relative ones alone."""
    relative = {name: name[1] * problem.start for name in RELATIVE}
    return relative if quick else relative | {name: name[1] for name in ABSOLUTE}


class Search:
    """The best settings of one method on seed 0."""

    def __init__(self, problem, label, quick):
        self.problem, self.name, self.best = problem, METHODS[label][0], None
        self.rank = (np.inf, np.inf)
        given = dict(METHODS[label][1], backend="native")
        rates, epochs, boxes = GRIDS[quick]
        for share in rates:
            for epoch in epochs:
                rate = share / problem.smoothness
                self.attempt(dict(given, learning_rate=rate, epoch=epoch))
        if self.best is not None and self.name == "halp":
            found = float(self.best.carry.state.opt_state.mu)
            for share in boxes:
                self.attempt(dict(self.best.settings, mu=share * found))

    def attempt(self, settings):
        """Keeps the settings if they are the best so far."""
        run, targets = Run(self.problem, self.name, **settings), targets_of(self.problem)
        wanted = {target: targets[target] for target in RELATIVE[:2]}
        times, _ = reached([(run, None)], 0, wanted, 3)
        rank = tuple(times.get(target, (np.inf,))[0] for target in RELATIVE[1::-1])
        if rank < self.rank:
            self.rank, self.best = rank, run

    def again(self, **changed):
        """The same method with the best settings, changed."""
        return Run(self.problem, self.name, **{**self.best.settings, **changed})


def ours(problem, quick):
    """Our methods: by label, `seed -> (times, weights)` and a function that makes the note."""
    limit, found, methods = 2 if quick else 20, {}, {}
    targets = targets_of(problem, quick)

    def add(label, *phases):
        last = phases[-1][0]
        methods[label] = (
            lambda seed: reached(phases, seed, targets, limit),
            last.note if len(phases) == 1 else lambda: "",
        )

    for label in METHODS:
        search = Search(problem, label, quick)
        if search.best is None:
            methods[label] = (lambda _: ({}, None), lambda: "no rate of the grid converges")
            continue
        found[label] = search.best
        add(label, (search.best, None))
        add(f"{label} x2", (search.again(threads=2), None))
        if label != "HALP int16":
            add(f"{label.split()[0]} in JAX", (search.again(backend="jax"), None))
    if {"HALP int8", "HALP int16"} <= set(found):
        small, large, until = found["HALP int8"], found["HALP int16"], 1e-3 * problem.start
        add("int16 to 1e-3, then int8", (large, until), (small, None))
        add("int8 to 1e-3, then int16", (small, until), (large, None))
    return methods


def solvers_of(problem):
    """scikit-learn's SAGA and liblinear, and scipy's L-BFGS: `passes -> weights`."""
    x, y, size = problem.x, problem.y, len(problem.x)
    tight = {"fit_intercept": False, "tol": 1e-15, "random_state": 0}
    c = {"C": 1 / (size * problem.l2) if problem.l2 else 1e12}

    def saga(passes):
        settings = dict(tight, solver="saga", max_iter=passes)
        if problem.dataset.classes is None:
            return Ridge(alpha=size * problem.l2 / 2, **settings).fit(x, y).coef_
        return LogisticRegression(**c, **settings).fit(x, y).coef_

    def liblinear(passes):
        settings = dict(tight, solver="liblinear", max_iter=passes)
        return LogisticRegression(**c, **settings).fit(x, y).coef_

    def lbfgs(passes):
        start = np.zeros(problem.outputs * x.shape[1])
        return scipy.optimize.minimize(
            problem.value_and_gradient, start, jac=True, method="L-BFGS-B",
            options={"maxiter": passes, "maxfun": 10 * passes, "ftol": 0, "gtol": 0},
        ).x  # fmt: skip

    solvers = {"SAGA, scikit-learn": saga, "L-BFGS, scipy": lbfgs}
    if problem.dataset.classes == 2:
        solvers["liblinear"] = liblinear
    return solvers


def timed(solve, passes):
    """Weights after so many passes, and what they took."""
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge is what is measured
        clock = Clock()
        weights = solve(passes)
        return np.ravel(weights), clock()


def enough(solve, problem, quick):
    """The fewest passes, of growing numbers, that reach each target; and the last weights."""
    targets, limit = targets_of(problem, quick), 2 if quick else 10
    passes, needed, least, idle = 1, {}, np.inf, 0
    while len(needed) < len(targets) and passes <= 20000 and idle < 8:
        weights, took = timed(solve, passes)
        norm = problem.norm(weights)
        for target, value in targets.items():
            if norm <= value:
                needed.setdefault(target, passes)
        idle = 0 if norm < 0.9 * least else idle + 1
        least = min(norm, least)
        if took[1] > limit:
            break
        passes = int(np.ceil(passes * 1.25))
    return needed, weights


def others(problem, quick):
    """As `ours`, of the solvers that a user would take instead."""
    methods = {}
    for label, solve in solvers_of(problem).items():
        needed, weights = enough(solve, problem, quick)

        def run(seed, solve=solve, needed=needed, weights=weights):
            del seed
            took = {passes: timed(solve, passes)[1] for passes in set(needed.values())}
            return {target: took[passes] for target, passes in needed.items()}, weights

        most = max(needed.values(), default=0)
        methods[label] = (run, lambda most=most: f"{most} passes for the last")
    return methods


def medians(all_times):
    """(cpu, wall) of every target that most seeds reach."""
    found = {}
    for target in RELATIVE + ABSOLUTE:
        pairs = [times.get(target, (np.inf, np.inf)) for times in all_times]
        middle = tuple(statistics.median(clock) for clock in zip(*pairs))
        if np.isfinite(middle[0]):
            found[target] = middle
    return found


def compare(problem, quick):
    """Rows (label, times, note), and the largest excess of an objective over the least."""
    methods = ours(problem, quick) | others(problem, quick)
    all_times, values = collections.defaultdict(list), {}
    for seed in SEEDS:
        for label, (run, _) in methods.items():
            times, weights = run(seed)
            all_times[label].append(times)
            if RELATIVE[-1] in times:
                values[label] = problem.value_and_gradient(weights)[0]
    rows = [(label, medians(all_times[label]), note()) for label, (_, note) in methods.items()]
    least = min(values.values(), default=np.nan)
    return rows, max(values.values(), default=np.nan) / least - 1


def show(name, problem, rows, excess):
    """A table in Markdown; the least of each column is marked."""
    size, features = problem.x.shape
    print(f"\n{name}: N = {size}, d = {features}, outputs {problem.outputs}, l2 = {problem.l2}")
    print(f"\n| method | {' | '.join(f'{t:.0e}' for _, t in RELATIVE)} | |")
    print("| --- | --- | --- | --- | --- |")
    least = [min((t[n][0] for _, t, _ in rows if n in t), default=0) for n in RELATIVE]
    for label, times, note in rows:
        cells = [
            f"{'**' * (times[t][0] == best)}{times[t][0]:.3g}{'**' * (times[t][0] == best)}"
            f" ({times[t][1]:.3g})"
            if t in times
            else "-"
            for t, best in zip(RELATIVE, least)
        ]
        print(f"| {label} | {' | '.join(cells)} | {note} |")
    print(f"\nNorm at 0: {problem.start:.4g}. Objectives agree to {excess:.1e}.", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small problems, less grid")
    parser.add_argument("--problem", action="append", choices=PROBLEMS, metavar="NAME")
    parser.add_argument("--csv", metavar="FILE", help="all times, to absolute norms as well")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    table = [("problem", "method", "norm", "target", "cpu_s", "wall_s")]
    for name in options.problem or (QUICK if options.quick else PROBLEMS):
        begun = time.perf_counter()
        try:
            problem = PROBLEMS[name](os.environ.get("LPML_DATA"))
        except data.DataError as error:
            print(f"\n{name}: {error}")
            continue
        rows, excess = compare(problem, options.quick)
        show(name, problem, rows, excess)
        print(f"Measured in {time.perf_counter() - begun:.0f} s.", flush=True)
        for label, times, _ in rows:
            table += [(name, label, *target, *pair) for target, pair in times.items()]
        if options.csv:
            with open(options.csv, "w", newline="") as file:
                csv.writer(file).writerows(table)


if __name__ == "__main__":
    main()
