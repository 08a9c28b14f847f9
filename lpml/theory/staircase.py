"""Quantised ReLU: its staircases, and the step size that fits normal inputs best.

With b bits the levels are k alpha, k = 0 to K = 2^b - 1, and an input x <= 0 gives 0. Where one
level ends and the next begins is the rounding rule:

    "ceil"              k alpha for (k - 1) alpha < x <= k alpha, K alpha above
    "nearest_positive"  the nearest of alpha, ..., K alpha; 0 for x <= 0 alone
    "nearest"           the nearest of 0, alpha, ..., K alpha

The best alpha differs from rule to rule: a table of alphas says nothing without its rule.
"""

import functools

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm as normal

ROUNDINGS = ("ceil", "nearest_positive", "nearest")
MOST_BITS = 8


def thresholds(bits: int, rounding: str) -> jax.Array:
    """Where the levels 1 to K begin, in units of alpha, ascending (K,).

    Raises:
      ValueError: bits outside 1 to 8, or an unknown rule.
    """
    if rounding not in ROUNDINGS:
        raise ValueError(
            f"rounding {rounding!r} does not exist; choose from {', '.join(ROUNDINGS)}"
        )
    if not 1 <= bits <= MOST_BITS:
        raise ValueError(f"bits = {bits} must be 1 to {MOST_BITS}")
    k = jnp.arange(1.0, 2**bits)
    begins = k - 1 if rounding == "ceil" else k - 0.5
    return begins.at[0].set(0.0) if rounding == "nearest_positive" else begins


def staircase(x: jax.Array, alpha: jax.Array, *, bits: int, rounding: str) -> jax.Array:
    """The quantised ReLU of x (...,): alpha times the number of thresholds below x."""
    begins = thresholds(bits, rounding) * alpha
    return alpha * jnp.sum(x[..., None] > begins, axis=-1)


@functools.partial(jax.jit, static_argnames=("bits", "rounding"))
def quantisation_error(alpha: jax.Array, *, bits: int, rounding: str) -> jax.Array:
    """E[(staircase(x) - x)^2 | x > 0] for normal x, exactly; alpha > 0, any shape.

    A cell from s to t of level l has the part 2 ((1 + l^2) D[Phi] - D[x phi] + 2 l D[phi]),
    where D is the difference from s to t.
    """
    alpha = jnp.asarray(alpha)[..., None]
    begins = thresholds(bits, rounding)
    edges = jnp.concatenate([jnp.zeros(1), begins]) * alpha
    level = jnp.arange(2.0**bits) * alpha
    # survival instead of Phi: differences far out keep their digits
    above = _with_end(normal.sf(edges))
    density = normal.pdf(edges)
    cells = (1 + level**2) * -jnp.diff(above)
    cells -= jnp.diff(_with_end(edges * density)) - 2 * level * jnp.diff(_with_end(density))
    return 2 * jnp.sum(cells, axis=-1)


def _with_end(values):
    """At infinity all of them are 0."""
    return jnp.concatenate([values, jnp.zeros_like(values[..., :1])], axis=-1)


@functools.partial(jax.jit, static_argnames=("bits", "rounding"))
def best_alpha(bits: int, rounding: str) -> jax.Array:
    """The alpha with the least `quantisation_error`, to the last few digits under x64.

    The error falls and then rises; its derivative's zero is bisected.

    Raises:
      ValueError: bits that are no whole number from 1 to 8.
    """
    if isinstance(bits, float):
        raise ValueError(f"bits = {bits!r} must be 1 to 8, a whole number")
    slope = jax.grad(lambda alpha: quantisation_error(alpha, bits=bits, rounding=rounding))

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        rising = slope(middle) > 0
        return jnp.where(rising, low, middle), jnp.where(rising, middle, high)

    # K alpha at the best is 0.8 to 4.3 for 1 to 8 bits
    start = jnp.array([0.2, 8.0]) / (2**bits - 1)
    low, high = jax.lax.fori_loop(0, 60, halve, (start[0], start[1]))
    return (low + high) / 2
