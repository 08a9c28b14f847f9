"""Sums of three float32 numbers rounded once, by float32 arithmetic alone.

A sum and its rounding error are two floats ("two-sum"); where a further rounding follows, the
one before it goes to the odd neighbour, so that the last is as if of the exact number (Boldo
and Melquiond: two more bits suffice). Compilers may fuse the products here with sums: the
products are exact, so that changes nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lpml.formats.float_bits import FLOAT32, from_bits, magnitude, power_of_two, to_bits

# Two terms that are no zero are at least 2^-74 in multiples, so a third below LEAST decides
# no more than the direction of a tie.
LEAST = 2.0**-100


class Pair(NamedTuple):
    """An exact sum, high + low + lower bits, of which `low` was rounded to odd."""

    high: jax.Array
    low: jax.Array


def two_sum(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x + y as a rounded sum and its exact error."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def odd_sum(x: jax.Array, y: jax.Array) -> jax.Array:
    """x + y; where it is no float, its neighbour with the odd pattern."""
    total, error = two_sum(x, y)
    pattern = to_bits(total)
    outwards = (to_bits(error) ^ pattern) >= 0  # equal signs
    step = jnp.where(outwards, 1, -1)
    even = pattern & 1 == 0
    return from_bits(jnp.where((error != 0) & even, pattern + step, pattern))


def exact_sum(x: jax.Array, y: jax.Array, z: jax.Array) -> Pair:
    """x + y + z, to be rounded once; finite, no part of it and no sum below 2^-125 but 0."""
    upper, lower = two_sum(y, z)
    high, low = two_sum(x, upper)
    return Pair(high, odd_sum(low, lower))


def nearest(pair: Pair) -> jax.Array:
    """The float32 nearest to the sum, ties to even."""
    # -0 + 0 would lose the sign
    return jnp.where(pair.low == 0, pair.high, pair.high + pair.low)


def odd(pair: Pair) -> jax.Array:
    """The sum rounded to odd: any rounding to 22 bits or fewer may follow."""
    return jnp.where(pair.low == 0, pair.high, odd_sum(pair.high, pair.low))


def sum_with_accumulator(x: jax.Array, y: jax.Array, e: jax.Array) -> Pair:
    """x + y + e, to be rounded once, where x and y are multiples of 2^-74 below 2^120.

    `e` is any finite float32, subnormal ones too, which XLA takes for zeros in sums.
    """
    size = magnitude(to_bits(e))
    tiny = (size > 0) & (size < to_bits(jnp.float32(LEAST)))
    sticky = from_bits(to_bits(jnp.float32(LEAST)) | (to_bits(e) ^ size))
    pair = exact_sum(x, y, jnp.where(tiny, sticky, e))
    alone = tiny & (x + y == 0)
    return Pair(jnp.where(alone, e, pair.high), jnp.where(alone, 0, pair.low))


class Scaled(NamedTuple):
    """significand 2^exponent: floats whose products float32 does not hold."""

    significand: jax.Array  # of magnitude 1 to below 4; or 0, infinite, NaN
    exponent: jax.Array  # int32; FAR_BELOW for 0


FAR_BELOW = -2000
TOP = 60  # exponent at which the largest term is summed


def split(x: Float[Array, "*shape"]) -> Scaled:
    """Significand of magnitude 1 to below 2 and exponent of float32, subnormal ones too."""
    pattern = to_bits(x)
    size = magnitude(pattern)
    # the size of a subnormal number, as an integer, is what it counts 2^-149
    counted = to_bits(size.astype(jnp.float32)) - ((FLOAT32.bias - 1 + 23) << 23)
    normal = size >> 23 > 0
    aligned = jnp.where(normal, size, counted)
    exponent = (aligned >> 23) - FLOAT32.bias
    one = FLOAT32.bias << 23
    unit = from_bits((aligned & (2**23 - 1)) | one | (pattern ^ size))
    keep = (size == 0) | (size >= FLOAT32.infinity)
    return Scaled(jnp.where(keep, x, unit), jnp.where(size == 0, FAR_BELOW, exponent))


def scaled_product(x: Scaled, y: Scaled) -> Scaled:
    """x y, exact for significands of at most 12 bits."""
    return Scaled(x.significand * y.significand, x.exponent + y.exponent)


def scaled_sum(x: Scaled, y: Scaled, z: Scaled) -> jax.Array:
    """The float32 nearest to x + y + z: overflow to infinity, underflow to subnormals.

    Terms that lie further apart than the bits of a result move closer: they then decide no
    more than the direction of a tie, and that only by their sign.
    """
    x, y = _ordered(x, y)
    y, z = _ordered(y, z)
    x, y = _ordered(x, y)
    first = TOP - jnp.minimum(x.exponent - y.exponent, 100)
    second = first - jnp.minimum(y.exponent - z.exponent, 60)
    terms = (
        x.significand * jnp.float32(2.0**TOP),
        y.significand * power_of_two(first),
        z.significand * power_of_two(second),
    )
    pair = exact_sum(*terms)
    alone = terms[0] + terms[1] == 0
    high = jnp.where(alone, z.significand * jnp.float32(2.0**TOP), pair.high)
    pair = Pair(high, jnp.where(alone, 0, pair.low))
    found = times_power(pair, jnp.where(alone, z.exponent, x.exponent) - TOP)
    plain = x.significand + y.significand + z.significand
    # a sum of 0 is +0 unless all terms are -0
    found = jnp.where((pair.high == 0) & (x.significand != 0), 0, found)
    return jnp.where((x.significand == 0) | ~jnp.isfinite(plain), plain, found)


def _ordered(x, y):
    swap = y.exponent > x.exponent
    larger, smaller = (
        Scaled(*(jnp.where(swap, q, p) for p, q in zip(*pair))) for pair in ((x, y), (y, x))
    )
    return larger, smaller


def times_power(
    pair: Pair, exponent: jax.Array, rounding: Callable[[Pair], jax.Array] = nearest
) -> jax.Array:
    """A sum times 2^exponent, rounded once: overflow to infinity, underflow to subnormals.

    The sum is of magnitude 2^-60 to 2^64, or 0; `rounding` is `nearest` or `odd`.
    """
    rounded = rounding(pair)
    pattern = to_bits(rounded)
    size = magnitude(pattern)
    biased = (size >> 23) + exponent
    normal = size + (jnp.clip(exponent, -300, 300 - (size >> 23)) << 23)
    normal = jnp.where(biased > 2 * FLOAT32.bias, FLOAT32.infinity, normal)
    # Added to a number whose last bit is worth the least subnormal, the sum is rounded there;
    # the bits that it then has below its first are the pattern of the result.
    place = power_of_two(jnp.minimum(-126 - exponent, 120))
    sign = jnp.where(pair.high < 0, -1.0, 1.0).astype(jnp.float32)
    count = to_bits(rounding(exact_sum(place, sign * pair.high, sign * pair.low)))
    subnormal = count - to_bits(place)
    found = jnp.where(biased > 0, normal, subnormal)
    return from_bits(found | (pattern ^ size))
