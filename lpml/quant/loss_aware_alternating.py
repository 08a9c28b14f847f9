"""The alternating solver: codes for a scale, a scale for the codes, until neither changes."""

import jax
import jax.numpy as jnp

from lpml.quant.loss_aware_levels import LevelSet
from lpml.quant.loss_aware_sums import maxima, sums

ENOUGH = 1e-6  # relative change of a scale below which its objective is settled

# Mean magnitude times this is the best alpha of Gaussian weights, for bits 2 to 8: a start.
GAUSSIAN_START = {
    "linear": (1.53, 2.45, 3.10, 3.63, 4.10, 4.52, 4.91),
    "log": (1.53, 2.60, 5.26, 5.26, 5.26, 5.26, 5.26),
}


def reciprocal(x: jax.Array) -> jax.Array:
    """1 / x, and 0 where x is not positive: what a unit of 0 divides becomes code 0."""
    return jnp.where(x > 0, 1 / jnp.where(x > 0, x, 1), 0)


def fitted(
    u: jax.Array, c: jax.Array | None, unit: jax.Array, levels: LevelSet, axes: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """P = sum c u b and D = sum c b^2 over the axes, b the levels nearest to u / unit."""
    inverse = reciprocal(unit)

    def terms(u, *c):
        b = levels.nearest(u * inverse)
        weighted = c[0] * b if c else b
        return weighted * u, weighted * b

    p, d = sums(terms, (u,) if c is None else (u, c), axes)
    return p, d


def score(p: jax.Array, d: jax.Array) -> jax.Array:
    """P^2 / D: how much of sum c u^2 the best scale of these levels explains, doubled."""
    return p * p * reciprocal(d)


def alternate(
    u: jax.Array,
    c: jax.Array | None,
    init: jax.Array | None,
    levels: LevelSet,
    *,
    axes: tuple[int, ...],
    iterations: int,
) -> jax.Array:
    """Units of least error, as far as alternation finds them.

    It starts at the better of two units: that of the largest weight, and `init` or what suits
    Gaussian weights. Each step is one pass over u and c and cannot raise the error, so the
    end is no worse than either start.

    Args:
      u: magnitudes >= 0.
      c: curvature >= 0 of the same shape; None means ones.
      init: units to start from, of shape 1 along the axes.
      levels: of the codes.
      axes: along which a unit is shared.
      iterations: at most so many steps; fewer where no unit changes by a millionth.

    Returns:
      Units, of shape 1 along the axes.
    """
    largest = maxima(lambda u: (u,), (u,), axes)[0] / levels.top
    if init is None:
        mean = _mean(u, c, axes)
        init = mean * (GAUSSIAN_START[levels.levels][max(levels.bits - 2, 0)] / levels.top)
    scores = [score(*fitted(u, c, start, levels, axes)) for start in (init, largest)]
    start = jnp.where(scores[0] > scores[1], init, largest)

    def step(carry):
        unit, _, count = carry
        p, d = fitted(u, c, unit, levels, axes)
        return jnp.where(d > 0, p * reciprocal(d), unit), unit, count + 1

    def moving(carry):
        unit, before, count = carry
        return (count < iterations) & jnp.any(jnp.abs(unit - before) > ENOUGH * unit)

    return jax.lax.while_loop(moving, step, (start, jnp.full_like(start, -1), 0))[0]


def _mean(u, c, axes):
    def terms(u, *c):
        return (c[0] * u, c[0]) if c else (u, jnp.ones_like(u))

    total, count = sums(terms, (u,) if c is None else (u, c), axes)
    return total * reciprocal(count)
