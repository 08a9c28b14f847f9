"""Error and seconds of inverse roots by eigendecomposition, two SVDs and Newton's iteration."""

import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

from lpml.measurements.measurement import Lines, Measurement
from lpml.optim.roots import Damping, RootReport, eigh_roots, host_roots, newton_roots
from lpml.optim.roots.host_methods import from_spectrum, signed
from lpml.optim.roots.products import without_nan

METHODS = ("eigh", "gesdd", "gesvd", "newton")
METRICS = (
    *(f"{what}_{method}" for what in ("error", "residual", "seconds") for method in METHODS),
    "reported_newton",
    "iterations_newton",
)
MOST = 1e30

# [1, n, n] to a report
Solve = Callable[[np.ndarray], RootReport]


def root_accuracy(
    *,
    size: int = 256,
    condition: float = 1e6,
    exponent: int = 4,
    dtype: str = "float64",
    epsilon: float = 0.0,
    rounds: int = 3,
) -> Measurement:
    """X = (A + epsilon I)^(-1/p) by four methods, of a matrix A whose root is known.

    A = H diag(w) H^T with H the matrix of Hadamard, its rows and columns signed and in random
    order, and 1 = w_1 >= ... >= w_n = 1 / condition of uniform logarithm on so coarse a grid
    that float64 holds A without error. So no solver is the reference of another. In float32 A
    is rounded before the root; the reference is still the root of A.

    float64 is the host's way, float32 the program's, for numpy computes what is float32 in
    float64; the SVDs are scipy's. The methods take turns on one thread of BLAS. Seconds are of
    the processor, which other work on the machine moves least; they are those of a root with
    its residual, the smallest of the rounds so far.

    Args:
      size: n, a power of two from 4 to 4096.
      condition: largest over smallest eigenvalue, 1 < condition <= 1e10.
      exponent: p, an integer >= 1.
      dtype: "float64" or "float32".
      epsilon: the ridge, with the largest eigenvalue as its unit.
      rounds: lines, each with all metrics: `error_*` is the distance to the true root in the
        Frobenius norm, relative; `residual_*` is max |X^p D - I|, or 1e30 of no finite root;
        `reported_newton` is what the iteration takes for that.

    Raises:
      ValueError: a number out of range; `precision` is not "float64".
    """
    if size not in [2**k for k in range(2, 13)]:
        raise ValueError(f"size = {size} must be a power of two from 4 to 4096")
    if not 1 < condition <= 1e10:
        raise ValueError(f"condition = {condition} must be above 1 and at most 1e10")
    if dtype not in ("float64", "float32"):
        raise ValueError(f"dtype {dtype!r} must be float64 or float32")
    if rounds < 1 or exponent < 1:
        raise ValueError(f"rounds = {rounds} and exponent = {exponent} must be positive")
    if jnp.result_type(float) != jnp.float64:
        raise ValueError("root_accuracy needs config.precision = 'float64'")
    damping = Damping("absolute", epsilon)

    def lines(seed: int) -> Lines:
        a, root = known_root(size, condition, exponent, epsilon, seed)
        if dtype == "float32":
            a = a.astype(np.float32)
        methods = solvers(dtype, exponent, damping)
        seconds = dict.fromkeys(METHODS, np.inf)
        with threadpool_limits(1):
            if dtype == "float32":  # programs are compiled before they are timed
                for name in ("eigh", "newton"):
                    methods[name](a[None])
            for _ in range(rounds):
                line: dict[str, float] = {}
                for name, solve in methods.items():
                    started = time.process_time()
                    report = solve(a[None])
                    seconds[name] = min(seconds[name], time.process_time() - started)
                    line |= _metrics(name, report, root, seconds[name])
                yield line

    return Measurement(lines, rounds, METRICS)


def known_root(
    n: int, condition: float, p: int, epsilon: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """A [n, n] without rounding errors, and (A + epsilon I)^(-1/p) but for its own rounding."""
    from scipy import linalg  # not above: launches of everything else need none of it

    random = np.random.default_rng(seed)
    values = condition ** -np.concatenate([[0, 1], random.uniform(size=n - 2)])
    # sums of n of these, and their quotients by n, are exact in 53 bits
    step = 2.0 ** -(52 - int(np.log2(n)))
    values = np.round(values / step) * step
    signed = linalg.hadamard(n)[random.permutation(n)] * random.choice([-1.0, 1.0], n)[:, None]
    vectors = signed[:, random.permutation(n)]
    return (
        (vectors * values) @ vectors.T / n,
        (vectors * (values + epsilon) ** (-1 / p)) @ vectors.T / n,
    )


def solvers(dtype: str, p: int, damping: Damping) -> dict[str, Solve]:
    """The four methods by name: from a stack [1, n, n] to the report of its root."""
    svds = {driver: _by_svd(driver, p, damping) for driver in ("gesdd", "gesvd")}
    if dtype == "float64":
        host = functools.partial(host_roots, p=p, damping=damping, retries=0)
        methods = ("eigh", "newton")
        return {m: functools.partial(host, method=m) for m in methods} | svds
    programs = {"eigh": eigh_roots, "newton": newton_roots}
    return {m: _program(solver, p, damping) for m, solver in programs.items()} | svds


def _program(solver: Callable, p: int, damping: Damping) -> Solve:
    compiled = _compiled(solver, p, damping.kind)
    return lambda stack: jax.device_get(compiled(jnp.asarray(stack), damping.epsilon))


@functools.cache
def _compiled(solver: Callable, p: int, kind: str) -> Callable:
    """One program for all ridges."""
    return jax.jit(
        lambda stack, epsilon: solver(stack, p, damping=Damping(kind, epsilon)),
    )


def _by_svd(driver: str, p: int, damping: Damping) -> Solve:
    from scipy import linalg

    def solve(stack):
        values, vectors = signed(*linalg.svd(stack[0], lapack_driver=driver))
        unit = np.ones(1, stack.dtype)
        with np.errstate(all="ignore"):
            attempt = from_spectrum(stack, unit, p, values[None], vectors[None])
            found = attempt(np.arange(1), damping)
        found = found._replace(root=without_nan(found.root, np)[0])
        return RootReport(**found._asdict(), ok=None, epsilon=None)

    return solve


def _metrics(
    name: str, report: RootReport, root: np.ndarray, seconds: float
) -> dict[str, float]:
    distance = np.linalg.norm(report.root[0].astype(np.float64) - root) / np.linalg.norm(root)
    line = {
        f"error_{name}": float(distance),
        f"residual_{name}": _bounded(report.residual[0]),
        f"seconds_{name}": seconds,
    }
    if name == "newton":
        line["reported_newton"] = _bounded(report.error[0])
        line["iterations_newton"] = int(report.iterations[0])
    return line


def _bounded(value: float) -> float:
    """A log takes finite numbers only."""
    return float(value) if value < MOST else MOST  # false of NaN too
