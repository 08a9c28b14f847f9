"""The exact solver: the unit of least error among all, proven so.

For a unit s the best codes are the nearest levels; with P(s) = sum c u b and D(s) = sum c b^2
of these the error falls by G(s) / 2, G(s) = 2 s P(s) - s^2 D(s), and the best G is the best
P^2 / D. Codes change where u_i / s crosses a midpoint of the levels, which is at n J places for
n weights and J midpoints.

Few places (and J = 1) are all sorted and visited: `sweep`. Many are not: once the n weights
are sorted, prefix sums give P and D of any s for J binary searches, and whole intervals of s
are excluded by a bound: `bracket`. Its time is about that of sorting n numbers, whatever J
is: benchmarks/loss_aware.py, n = 10^6 on two busy cores, took 0.26, 0.24 and 0.25 s with 2, 3
and 4 bits and 0.32 s with 8; a sort of all n J places had taken 2.4, 5.0 and 11.4 s.

The bound. G is a maximum of parabolas, so continuous, with G' = 2 (P - s D) between the
places; P and D fall as s grows. On [a, b] hence P <= P(a) and D >= D(b), and

    G(x) <= G(a) + int_a^x 2 (P(a) - t D(b)) dt = G(a) + (x - a) (2 P(a) - (x + a) D(b)),

whose largest value is at x = P(a) / D(b) or an end; likewise from the right,

    G(x) <= G(b) - (b - x) (2 P(b) - (x + b) D(a)),

largest at an end. Near the optimum P = s D, so the slack is quadratic in the width, as is the
loss of G there: a few intervals survive at every width. Ties need no care.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lpml.formats.float_bits import to_bits
from lpml.quant.loss_aware_alternating import reciprocal, score
from lpml.quant.loss_aware_levels import LevelSet

MOST_PLACES = 4096  # per scale, that `sweep` sorts where it has the choice
INTERVALS = 4096  # the first ones of `bracket`
KEPT, PARTS = 256, 16  # intervals that survive a round, and parts that each is cut into
# Intervals that a round does not keep enter the gap that `bracket` returns: it says whether one
# of them may have held something better.
MOST_ROUNDS = 12


def optimal_unit(u: jax.Array, c: jax.Array | None, levels: LevelSet) -> jax.Array:
    """The unit of least error of each row.

    Args:
      u: (rows, n) magnitudes >= 0, not far from 1 (as of `normalised`).
      c: curvature >= 0 of that shape; None means ones.
      levels: of two bits or more.

    Returns:
      (rows,): best up to the rounding of sums over a row. In float32 that is about 1e-6 of
      sum c u^2, which from 6 linear bits on is no longer small beside the error itself.
    """
    weights = jnp.ones_like(u) if c is None else c
    few = u.shape[1] * len(levels.midpoints()) <= MOST_PLACES or len(levels.midpoints()) == 1
    if few:
        return jax.vmap(functools.partial(sweep, levels=levels))(u, weights)
    return jax.lax.map(lambda row: bracket(row[0], row[1], levels)[0], (u, weights))


def sweep(u: jax.Array, c: jax.Array, levels: LevelSet) -> jax.Array:
    """The best unit of one row, by a visit of all places where a code changes.

    From the largest to the smallest, each moves one weight up by a level. In the midst of a
    tie codes are not the nearest ones, but codes they are, so their P^2 / D is reached too.
    """
    middle, by_p, by_d = _jumps(levels, u.dtype)
    places = (u[:, None] / middle).ravel()
    steps_p = ((c * u)[:, None] * by_p).ravel()
    steps_d = (c[:, None] * by_d).ravel()
    # patterns of floats >= 0 are ordered as these, and integers sort faster: no rules for NaN
    keys, steps_p, steps_d = jax.lax.sort(
        (-to_bits(places), steps_p, steps_d), num_keys=1, is_stable=False
    )
    p, d = jnp.cumsum(steps_p), jnp.cumsum(steps_d)
    visited = keys >= -to_bits(_largest_place(u, levels))
    best = jnp.argmax(jnp.where(visited, score(p, d), -1))
    return p[best] * reciprocal(d[best])


def bracket(u: jax.Array, c: jax.Array, levels: LevelSet) -> tuple[jax.Array, jax.Array]:
    """The best unit of one row, by exclusion of intervals.

    Returns:
      The unit, and by how much of itself the best P^2 / D may at most be larger than the one
      found, but for rounding.
    """
    sums = _sums(u, c, levels)
    largest = jnp.max(u)
    some, all_codes = sums(jnp.stack([largest / levels.top, jnp.zeros_like(largest)]))
    floor = score(some, all_codes)[0]
    # G(s) <= 2 s top sum(c u), and that is below `floor` for smaller s
    low = floor * reciprocal(2 * levels.top * some[1])
    high = _largest_place(u, levels)
    low = jnp.where(low > 0, low, 1)
    ends = low * (jnp.maximum(high, low) / low) ** jnp.linspace(
        0, 1, INTERVALS + 1, dtype=u.dtype
    )

    def survivors(points, found):
        """Of intervals between neighbours in each row of points; and the best so far."""
        p, d = (s.reshape(points.shape) for s in sums(points.ravel()))
        gains = score(p, d)
        where = jnp.unravel_index(jnp.argmax(gains), gains.shape)
        better = gains[where] > found[0]
        found = jax.tree.map(
            lambda new, old: jnp.where(better, new, old),
            (gains[where], p[where] * reciprocal(d[where])),
            found,
        )
        bounds, a, b = (x.ravel() for x in _bounded(points, p, d))
        bounds, kept = jax.lax.top_k(bounds, KEPT + 1)
        return (a[kept[:-1]], b[kept[:-1]], bounds[0], bounds[-1]), found

    def cut(carry):
        (a, b, _, dropped), found, most_dropped, rounds = carry
        share = jnp.linspace(0, 1, PARTS + 1, dtype=u.dtype)
        points = a[:, None] + (b - a)[:, None] * share
        state, found = survivors(points, found)
        return state, found, jnp.maximum(most_dropped, dropped), rounds + 1

    def open_(carry):
        (_, _, bound, _), found, _, rounds = carry
        return (bound > found[0] * (1 + tolerance)) & (rounds < MOST_ROUNDS)

    tolerance = 8 * jnp.finfo(u.dtype).eps
    zero = jnp.zeros((), u.dtype)
    state, found = survivors(ends[None], (zero, zero))
    (_, _, bound, dropped), found, most_dropped, _ = jax.lax.while_loop(
        open_, cut, (state, found, zero, 0)
    )
    bound = jnp.maximum(jnp.maximum(bound, dropped), most_dropped)
    return found[1], jnp.maximum(bound * reciprocal(found[0]) - 1, 0)


def _largest_place(u, levels):
    """Above it no unit is better.

    Of linear levels because all codes are 0, of logarithmic ones because the top level is
    idle: half of the unit has the same levels and one more.
    """
    middle = levels.midpoints()
    # a Python number, which does not make float64 of float32 under x64
    return jnp.max(u) / float(middle[-1] if levels.levels == "log" else middle[0])


def _jumps(levels, dtype):
    """Midpoints, and by how much level and squared level grow there."""
    values = levels.values()
    jumps = (levels.midpoints(), np.diff(values), np.diff(values**2))
    return tuple(jnp.asarray(one, dtype) for one in jumps)


def _sums(u, c, levels):
    """A function from units (k,) to P and D of each."""
    middle, by_p, by_d = _jumps(levels, u.dtype)
    keys, c = jax.lax.sort((-to_bits(u), c), num_keys=1, is_stable=False)
    u = jax.lax.bitcast_convert_type(-keys, u.dtype)
    zero = jnp.zeros(1, u.dtype)
    above_p = jnp.concatenate([zero, jnp.cumsum(c * u)])
    above_d = jnp.concatenate([zero, jnp.cumsum(c)])

    def sums(units):
        thresholds = -to_bits(units[:, None] * middle)
        count = jnp.searchsorted(keys, thresholds.ravel(), side="right").reshape(
            thresholds.shape
        )
        return above_p[count] @ by_p, above_d[count] @ by_d

    return sums


def _bounded(points, p, d):
    """Upper bounds of G between neighbours along the last axis, and the ends of these."""
    gain = points * (2 * p - points * d)
    left, right = (slice(None, -1), slice(1, None))
    a, b = points[..., left], points[..., right]
    steepest, flattest = p[..., left], d[..., right]
    top = jnp.clip(jnp.where(flattest > 0, steepest * reciprocal(flattest), b), a, b)
    from_left = gain[..., left] + (top - a) * (2 * steepest - (top + a) * flattest)
    rise = (b - a) * (2 * p[..., right] - (a + b) * d[..., left])
    from_right = gain[..., right] - jnp.minimum(rise, 0)
    return jnp.minimum(from_left, from_right), a, b
