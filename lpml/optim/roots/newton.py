"""Inverse roots by coupled Newton iteration: matrix products only, for accelerators.

Iannazzo, On the Newton method for the matrix pth root, SIAM J. Matrix Anal. Appl. 28(2), 2006;
in Anil et al., Scalable Second Order Optimization for Deep Learning, arXiv 2002.09018. With
D the damped matrix and z = (1 + p) / (2 |D|_F), from M = z D and X = z^(1/p) I:

    T = ((p + 1) I - M) / p        M <- T^p M        X <- X T

X^p D = M is kept up by every step and M goes to I, so X goes to D^(-1/p). The smallest
eigenvalues grow by (1 + 1/p)^p a step; steps number about log(condition) / log of that, + 4.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lpml.optim.roots.products import deviation, power
from lpml.optim.roots.program import One, multiply, solve_all
from lpml.optim.roots.report import Damping, RootReport, check_exponent, check_stack

POWER_ROUNDS = 100
POWER_TOLERANCE = 1e-6  # relative, lest a small matrix be done after the first round
STOP = 1e-6  # max |M - I| at which the iteration has converged
STEPS = 100
# Growth of the error that ends the iteration; it rises a little before it converges. The first
# step alone may raise it more: it takes eigenvalues of up to (p + 1) / 2 to below 1, where all
# others are, and a diagonal entry may be further from 1 then (a constant 6 x 6 matrix, say).
WORSE = 1.2


def newton_roots(
    stack: jax.Array,
    p: int,
    *,
    damping: Damping = Damping(),  # noqa: B008 (frozen)
    tolerance: float = 0.5,
) -> RootReport:
    """X = D^(-1/p) of every matrix of a stack, inside of a program.

    Safe under jit, vmap and with NaN in some of the matrices, which then are not `ok` and cost
    the others nothing. The batch runs until its slowest matrix is done.

    Args:
      stack: [K, b, b] symmetric (only made so against rounding), positive semidefinite but for
        less than the ridge: products alone cannot find, hence not clamp, negative eigenvalues.
      p: integer >= 1, static.
      damping: "relative" (to the largest eigenvalue, by power iteration) or "absolute".
      tolerance: a root is `ok` if its true residual max |X^p D - I| is at most this. Roundings
        alone make it some tenths in float32 at a condition number of 1e6.

    Raises:
      ValueError: p, the shape, or damping "truncate", for which `eigh_roots` is there.
    """
    check_newton(stack.shape, p, damping)

    def one(a, unit):
        ridge = damping.ridge(largest_eigenvalue(a), unit)
        return _root(a + ridge * jnp.eye(len(a), dtype=a.dtype), int(p))

    return solve_all(stack, p, damping, tolerance, jax.vmap(one))


def check_newton(shape: tuple[int, ...], p: float, damping: Damping) -> None:
    """Raises ValueError for what Newton's iteration cannot do."""
    check_stack(shape)
    check_exponent(p, whole=True)
    if damping.truncates:
        raise ValueError("Newton's iteration cannot truncate eigenvalues: take eigh for that")


def largest_eigenvalue(a: jax.Array) -> jax.Array:
    """Of a positive semidefinite [b, b], by power iteration; a lower bound, 0 of zeros."""

    def going_on(carry):
        round, _, value, before = carry
        return (round < POWER_ROUNDS) & (jnp.abs(value - before) > POWER_TOLERANCE * value)

    def step(carry):
        round, vector, value, _ = carry
        image = multiply(a, vector)
        norm = jnp.linalg.norm(image)
        # a null vector stays what it is: its value, 0, ends the loop
        return (
            round + 1,
            jnp.where(norm > 0, image / norm, vector),
            jnp.dot(vector, image, precision=jax.lax.Precision.HIGHEST),
            value,
        )

    start = jnp.asarray(start_vector(len(a)), a.dtype)
    first = step((0, start, jnp.zeros((), a.dtype), jnp.zeros((), a.dtype)))
    return jnp.maximum(jax.lax.while_loop(going_on, step, first)[2], 0)


def start_vector(b: int) -> np.ndarray:
    """A unit vector [b] that no eigenvector of a statistic is orthogonal to, and always the
    same."""
    vector = np.random.default_rng(1729).standard_normal(b)
    return vector / np.linalg.norm(vector)


class _Carry(NamedTuple):
    """Of the iteration: the last step and, for when it made things worse, the root before."""

    m: jax.Array  # [b, b]
    x: jax.Array  # [b, b]
    error: jax.Array  # [] max |M - I|
    x_before: jax.Array
    error_before: jax.Array
    steps: jax.Array  # [] int32


def _root(d: jax.Array, p: int) -> One:
    identity = jnp.eye(len(d), dtype=d.dtype)

    def going_on(now):
        # false of NaN too
        better = (now.error < WORSE * now.error_before) | (now.steps == 1)
        return (now.error > STOP) & better & (now.steps < STEPS)

    def step(now):
        t = ((p + 1) * identity - now.m) / p
        m = multiply(power(t, p, multiply), now.m)
        x = multiply(now.x, t)
        return _Carry(m, x, deviation(m, identity, jnp), now.x, now.error, now.steps + 1)

    largest = jnp.abs(d).max()  # a large absolute ridge has no square in float32
    z = (1 + p) / (2 * jnp.linalg.norm(d / largest)) / largest
    m, x = z * d, z ** (1 / p) * identity
    start = _Carry(
        m, x, deviation(m, identity, jnp), x, jnp.asarray(jnp.inf, d.dtype), jnp.int32(0)
    )
    end = jax.lax.while_loop(going_on, step, start)
    worse = ~(end.error < WORSE * end.error_before)
    x = jnp.where(worse, end.x_before, end.x)
    x = (x + x.T) / 2
    residual = deviation(multiply(power(x, p, multiply), d), identity, jnp)
    return x, residual, jnp.where(worse, end.error_before, end.error), end.steps
