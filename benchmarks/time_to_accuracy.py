"""Seconds to a gradient norm: HALP and SVRG in the native kernels, and the usual solvers.

    PYTHONPATH=. LPML_DATA=DATA python benchmarks/time_to_accuracy.py     (about 40 min)
    PYTHONPATH=. python benchmarks/time_to_accuracy.py --quick --problem "squares d=100"

Every method minimises the same function of the same data, which lie on a grid of 8 bits:
mean loss + (l2 / 2) ||w||^2, from w = 0. Norms are relative to that at 0. Times are wall clock
of one thread (`x2`: two), without compilation and without measuring: the norms are those that
the full gradients of the methods give anyway, or are computed when the clock has stopped. Rate
and epoch length of SVRG and HALP (mu is "auto") are the best of a grid on one seed, by the time
to 1e-6; the times are medians of three other seeds. SVRG's full gradients are XLA's, in float64
and on both cores. scikit-learn's solvers run with growing numbers of passes.
"""

import argparse
import dataclasses
import os
import statistics
import time
import warnings

import jax
import numpy as np
import scipy.optimize
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from lpml import data, models, optim
from lpml.optim import LinearProblem
from lpml.training.program import Batches, Program

TARGETS = (1e-3, 1e-6, 1e-10)
SEEDS = (1, 2, 3)


@dataclasses.dataclass(frozen=True)
class Problem:
    """A data set and the L2 factor of its objective."""

    dataset: data.Dataset
    l2: float

    @property
    def x(self):
        """(N, d) float64."""
        x = self.dataset.train["x"]
        return x.reshape(len(x), -1)

    @property
    def y(self):
        """(N,) targets or classes."""
        return self.dataset.train["y"]

    @property
    def model(self):
        """The problem as lpml trains it."""
        if self.dataset.classes is None:
            return models.linear_regression(l2=self.l2, dtype="float64")
        kind = models.logistic_regression
        if self.dataset.classes > 2:
            kind = models.multinomial_regression
        return kind(classes=self.dataset.classes, l2=self.l2, dtype="float64")

    @property
    def smoothness(self):
        """Largest Lipschitz constant of a sample's gradient."""
        factor = {"squared": 2, "logistic": 0.25, "softmax": 0.5}[self.model.loss.name]
        return factor * float(np.max(np.einsum("ij,ij->i", self.x, self.x))) + self.l2

    def value_and_gradient(self, flat):
        """The objective in numpy, of weights (K d,)."""
        x, y, size = self.x, self.y, len(self.x)
        w = flat.reshape(-1, x.shape[1])
        outputs = x @ w.T
        if self.dataset.classes is None:
            slopes = 2 * (outputs - y[:, None])
            value = np.mean((outputs[:, 0] - y) ** 2)
        elif self.dataset.classes == 2:
            slopes = 1 / (1 + np.exp(-outputs)) - y[:, None]
            value = np.mean(np.logaddexp(0, outputs[:, 0]) - y * outputs[:, 0])
        else:
            outputs -= outputs.max(1, keepdims=True)
            p = np.exp(outputs)
            total = p.sum(1, keepdims=True)
            value = np.mean(np.log(total[:, 0]) - outputs[np.arange(size), y])
            slopes = p / total
            slopes[np.arange(size), y] -= 1
        gradient = slopes.T @ x / size + self.l2 * w
        return value + self.l2 / 2 * np.sum(w * w), gradient.ravel()

    def norm(self, flat):
        """Of the gradient at weights (K d,)."""
        return float(np.linalg.norm(self.value_and_gradient(np.ravel(flat))[1]))

    @property
    def outputs(self):
        """K."""
        return 1 if self.dataset.classes in (None, 2) else self.dataset.classes

    @property
    def start(self):
        """The norm at w = 0."""
        return self.norm(np.zeros(self.outputs * self.x.shape[1]))


def squares(samples, features, l2):
    def made(dir):
        del dir
        source = data.synthetic_regression(
            samples=samples, features=features, noise=1.0, seed=0, dtype="float64", input_bits=8
        )
        return Problem(source, l2)

    return made


def mnist(l2, digits=None):
    """All ten classes, or two of them as a binary problem."""

    def made(dir):
        source = data.mnist(dir=dir, flat=True, dtype="float64", input_bits=8)
        if digits is not None:
            some = np.isin(source.train["y"], digits)
            train = {k: v[some] for k, v in source.train.items()}
            train["y"] = (train["y"] == digits[1]).astype(np.int32)
            source = source._replace(train=train, test=None, classes=2)
        return Problem(source, l2)

    return made


def libsvm(file, l2):
    def made(dir):
        source = data.libsvm(dir=dir, file=file, dtype="float64")
        return Problem(data.quantize_inputs(source, 8), l2)

    return made


PROBLEMS = {
    "squares d=100": squares(1000, 100, 0.0),
    "squares d=1000": squares(4000, 1000, 0.1),
    "squares d=10000": squares(10000, 10000, 1.0),
    "mnist 3 or 8": mnist(1e-3, (3, 8)),
    "mnist": mnist(1e-3),
    "a9a": libsvm("a9a", 1e-4),
    "w8a": libsvm("w8a", 1e-4),
    "mushrooms": libsvm("mushrooms", 1e-3),
}
QUICK = ("squares d=100", "squares d=1000")


class Run:
    """One training of an optimizer of lpml, whose state can be handed on to another."""

    def __init__(self, problem, name, *, epoch, seed, **settings):
        model = problem.model
        known = LinearProblem(
            problem.dataset.size, model.loss.name, problem.l2, 1, problem.dataset.input_scale
        )
        steps = epoch * problem.dataset.size
        tx = getattr(optim, name)(inner_steps=steps, problem=known, **settings)
        batches = Batches(
            seed=seed, size=problem.dataset.size, batch_size=1, sampling="replacement"
        )
        self.program = Program(
            model, tx, problem.dataset, batches=batches, objective="full", full_batch_size=1000
        )
        self.seed, self.steps = seed, steps
        self.fresh()
        self.epoch(0)  # compiles
        self.fresh()

    def fresh(self, params=None):
        """Starts again, at 0 or at the parameters of another run."""
        carry = self.program.init(self.seed)
        if params is not None:
            copied = jax.tree.map(np.asarray, params)
            state = carry.state.replace(
                params=jax.tree.map(jax.numpy.array, copied),
                opt_state=carry.state.opt_state._replace(
                    anchor=jax.tree.map(jax.numpy.array, copied)
                ),
            )
            carry = carry.replace(state=state)
        self.carry = carry

    def epoch(self, number):
        """One pass and its steps; the norm of the gradient where it started."""
        self.carry = self.program.refresh(self.carry)
        gradient = jax.tree.leaves(self.carry.state.opt_state.full_grad)[0]
        norm = float(np.linalg.norm(np.asarray(gradient)))
        done = 0
        while done < self.steps:
            count = min(self.program.rows, self.steps - done)
            self.carry = self.program.run(self.carry, number * self.steps + done, count)
            done += count
        self.carry.bad_step.block_until_ready()
        return norm


def reached(phases, start, limit):
    """Seconds to each target; phases are (run, relative norm at which it hands on)."""
    times, number, begun = {}, 0, time.perf_counter()
    phases = list(phases)
    run, until = phases.pop(0)
    run.fresh()
    while len(times) < len(TARGETS):
        at = time.perf_counter() - begun
        norm = run.epoch(number) / start  # of the point reached at `at`, and the pass
        number += 1
        if not np.isfinite(norm) or norm > 1e3 or at > limit:
            break
        for target in TARGETS:
            if norm <= target:
                times.setdefault(target, at)
        if until is not None and norm <= until and phases:
            params = run.carry.state.params
            run, until = phases.pop(0)
            run.fresh(params)
            number = 0
    return times


def grid(problem, name, settings, quick):
    """The best rate and epoch length on seed 0, by the time to 1e-6, else to 1e-3."""
    best, choice = (np.inf, np.inf), None
    for share in (0.25, 0.5, 1.0):
        for epoch in (2, 4) if quick else (2, 4, 8):
            given = dict(settings, learning_rate=share / problem.smoothness)
            run = Run(problem, name, epoch=epoch, seed=0, **given)
            times = reached([(run, None)], problem.start, 3)
            rank = (times.get(1e-6, np.inf), times.get(1e-3, np.inf))
            if rank < best:
                best, choice = rank, dict(given, epoch=epoch)
    return choice


def ours(problem, quick):
    """Seconds to the targets by method, medians over seeds, of the stochastic methods."""
    kernels = {"backend": "native"}
    settings = {
        "SVRG float32": ("svrg", kernels),
        "HALP int8": ("halp", dict(kernels, bits=8)),
        "HALP int16": ("halp", dict(kernels, bits=16)),
    }
    chosen = {
        label: (name, grid(problem, name, given, quick))
        for label, (name, given) in settings.items()
    }
    limit = 10
    rows = {}
    for label, (name, choice) in chosen.items():
        if choice is None:
            rows[label] = ({}, "no rate of the grid converges")
            continue
        for threads in (1, 2):
            runs = [Run(problem, name, seed=s, **choice, threads=threads) for s in SEEDS]
            all_times = [reached([(run, None)], problem.start, limit) for run in runs]
            note = f"rate {choice['learning_rate'] * problem.smoothness:.2f}/L, T = "
            note += f"{choice['epoch']}N"
            rows[label + (" x2" if threads == 2 else "")] = (medians(all_times), note)
    first, last = chosen["HALP int16"][1], chosen["HALP int8"][1]
    if first and last:
        for label, order, until in (
            ("int16 to 1e-3, then int8", (first, last), 1e-3),
            ("int8 to 1e-3, then int16", (last, first), 1e-3),
        ):
            pairs = [[Run(problem, "halp", seed=s, **c) for c in order] for s in SEEDS]
            all_times = [
                reached([(one, until), (two, None)], problem.start, limit) for one, two in pairs
            ]
            rows[label] = (medians(all_times), "")
    return rows


def medians(all_times):
    """Of every target that most seeds reach."""
    found = {}
    for target in TARGETS:
        times = [times.get(target, np.inf) for times in all_times]
        if np.isfinite(statistics.median(times)):
            found[target] = statistics.median(times)
    return found


def growing(solve, problem, limit):
    """Seconds to the targets of `solve(passes) -> weights`, run with ever more passes."""
    times, passes = {}, 1
    while len(times) < len(TARGETS):
        begun = time.perf_counter()
        weights = solve(passes)
        took = time.perf_counter() - begun
        norm = problem.norm(weights) / problem.start
        for target in TARGETS:
            if norm <= target:
                times.setdefault(target, took)
        if took > limit or passes > 20000:
            break
        passes = int(np.ceil(passes * 1.3))
    return times


def others(problem, quick):
    """scikit-learn's SAGA and liblinear, and scipy's L-BFGS, one thread each."""
    x, y, size, limit = problem.x, problem.y, len(problem.x), 5 if quick else 10
    logistic = {"C": 1 / (size * problem.l2) if problem.l2 else 1e12, "fit_intercept": False}

    def saga(passes):
        if problem.dataset.classes is None:
            model = Ridge(
                alpha=size * problem.l2 / 2, solver="saga", fit_intercept=False, tol=1e-15,
                max_iter=passes, random_state=0,
            )  # fmt: skip
        else:
            model = LogisticRegression(
                solver="saga", tol=1e-15, max_iter=passes, random_state=0, **logistic
            )
        return model.fit(x, y).coef_

    def liblinear(passes):
        model = LogisticRegression(
            solver="liblinear", tol=1e-15, max_iter=passes, random_state=0, **logistic
        )
        return model.fit(x, y).coef_

    def lbfgs(passes):
        start = np.zeros(problem.outputs * x.shape[1])
        return scipy.optimize.minimize(
            problem.value_and_gradient, start, jac=True, method="L-BFGS-B",
            options={"maxiter": passes, "maxfun": 10 * passes, "ftol": 0, "gtol": 0},
        ).x  # fmt: skip

    solvers = {"SAGA, scikit-learn": saga, "L-BFGS, scipy": lbfgs}
    if problem.dataset.classes == 2:
        solvers["liblinear"] = liblinear
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge is what is measured
        return {label: (growing(solve, problem, limit), "") for label, solve in solvers.items()}


def show(name, rows):
    """A table in Markdown."""
    print(f"\n{name}\n\n| method | 1e-3 | 1e-6 | 1e-10 | |\n| --- | --- | --- | --- | --- |")
    for label, (times, note) in rows.items():
        cells = [f"{times[t]:.3g}" if t in times else "-" for t in TARGETS]
        print(f"| {label} | {' | '.join(cells)} | {note} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller grids and limits")
    parser.add_argument("--problem", help="one of: " + ", ".join(PROBLEMS))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    names = [options.problem] if options.problem else QUICK if options.quick else PROBLEMS
    for name in names:
        try:
            problem = PROBLEMS[name](os.environ.get("LPML_DATA"))
        except data.DataError as error:
            print(f"\n{name}: {error}")
            continue
        show(name, ours(problem, options.quick) | others(problem, options.quick))


if __name__ == "__main__":
    main()
