"""How a block's largest magnitude becomes its scale: each rule in one place.

Maxima come as integer patterns and powers of two leave as exponents: floor(log2(x)) is off
just below powers of two. Nothing is divided by a scale: XLA turns a division by whatever is
broadcast into a product with the reciprocal, but only where it sees the broadcast, so that
eager, jit and vmap would differ. Products with `inverse(scale)` are the same everywhere.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lpml.formats.float_bits import (
    from_bits,
    layout_of,
    magnitude,
    power_of_two,
    to_bits,
)

POWERS = ("floor", "ceil", "rceil", "even")
RULES = ("absmax", "four_over_six", *POWERS)
BIAS, NAN_CODE = 127, 255  # of E8M0
# Scales and their reciprocals stay normal numbers: XLA flushes subnormal ones to zero.
LEAST_EXPONENT, MOST_EXPONENT = -126, 126


class BlockScales(NamedTuple):
    """Scales of all blocks: as multiplied, as stored."""

    applied: jax.Array  # floats: what the elements are multiplied by, outer included
    unrounded: jax.Array  # floats: before rounding to the scale format
    codes: jax.Array  # of the scale format; uint8 for E8M0; floats without scale format
    outer: jax.Array | None  # floats that broadcast against `codes`


def counted(x: jax.Array, rule: str, signed: bool) -> jax.Array:
    """Patterns of the magnitudes that a block's maximum is taken of.

    Powers of two see everything: their scale has a NaN. All other rules pass over NaN and
    infinities, which would otherwise spoil the scale of the whole tensor.
    """
    pattern = to_bits(x)
    size = magnitude(pattern)
    if not signed:
        size = jnp.where(pattern < 0, 0, size)
    if rule in POWERS:
        return size
    return jnp.where(size < layout_of(x.dtype).infinity, size, 0)


def power_exponents(size: jax.Array, rule: str, element: Any) -> jax.Array:
    """Exponents of power-of-two scales for maxima `size` (patterns), -126 to 126.

    "floor" is OCP's: the largest value's exponent meets the element's, what is above the
    largest element saturates. "ceil" takes the next power of two, "rceil" the least one under
    which the maximum does not saturate, "even" OCP's after rounding the maximum to the
    element's mantissa.
    """
    dtype = jnp.float64 if size.dtype == jnp.int64 else jnp.float32
    layout = layout_of(dtype)
    largest = to_bits(jnp.asarray(element.largest, dtype))
    field, fraction = size >> layout.mantissa, size & ((1 << layout.mantissa) - 1)
    top_field = largest >> layout.mantissa
    if rule == "ceil":
        field += fraction > 0
    elif rule == "rceil":
        field += fraction > (largest & ((1 << layout.mantissa) - 1))
    elif rule == "even":
        below = element.round(from_bits(largest - 1), "zero")
        gap = to_bits(from_bits(largest) - below) >> layout.mantissa
        mantissa = top_field - gap  # bits of the element's mantissa at its largest value
        half = size.dtype.type(1) << (layout.mantissa - 1 - mantissa)
        field = (size + half) >> layout.mantissa
    return jnp.clip(field - top_field, LEAST_EXPONENT, MOST_EXPONENT)


def power_scales(size: jax.Array, rule: str, element: Any) -> BlockScales:
    """Scales in E8M0; a block with NaN or infinity has the scale NaN, one of zeros 1."""
    dtype = jnp.float64 if size.dtype == jnp.int64 else jnp.float32
    exponent = jnp.where(size == 0, 0, power_exponents(size, rule, element))
    broken = size >= layout_of(dtype).infinity
    codes = jnp.where(broken, NAN_CODE, exponent + BIAS).astype(jnp.uint8)
    applied = jax.lax.optimization_barrier(decoded_powers(codes, dtype))
    return BlockScales(applied, applied, codes, None)


def decoded_powers(codes: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Values of E8M0 codes; code 0 (2^-127) is read as 2^-126 in float32, never written."""
    value = power_of_two(codes.astype(jnp.int32) - BIAS, dtype)
    return jnp.where(codes == NAN_CODE, jnp.asarray(jnp.nan, dtype), value)


def inverse(scales: jax.Array) -> jax.Array:
    """1 / scales, rounded once; behind a barrier, or XLA may merge it with its product."""
    return jax.lax.optimization_barrier(1 / scales)


def float_scales(size: jax.Array, divisor: Any) -> jax.Array:
    """maximum times 1 / divisor, 2^-126 to 2^126; 1 for blocks of zeros."""
    # a little below the end of the range, which rounded reciprocals could overstep
    top = from_bits(size)
    end = float(jnp.finfo(top.dtype).max) * (1 - 2.0**-20)
    top = jnp.minimum(top, jnp.asarray(end, top.dtype))
    least, most = (power_of_two(e, top.dtype) for e in (LEAST_EXPONENT, MOST_EXPONENT))
    share = top * inverse(jnp.asarray(divisor, top.dtype))
    return jax.lax.optimization_barrier(jnp.where(top < least, 1, jnp.clip(share, least, most)))


def outer_scales(size: jax.Array, element: Any, most: Any) -> jax.Array:
    """The float above the block scales: that of the largest maximum is `most`."""
    return float_scales(to_bits(float_scales(size, element.largest)), most)


def coded_scales(
    size: jax.Array, outer: jax.Array | None, divisor: Any, *, scale_format: Any, mode: str
) -> BlockScales:
    """maximum / divisor in units of `outer`, rounded to `scale_format`, never below its least.

    A code of 0 would erase its block.
    """
    exact = float_scales(size, divisor)
    if scale_format is None:
        return BlockScales(exact, exact, exact, None)
    least = jnp.asarray(scale_format.smallest, exact.dtype)
    share = exact
    if outer is not None:
        # no product of codes and outer scale may be subnormal
        tiny = power_of_two(LEAST_EXPONENT, exact.dtype)
        outer = jax.lax.optimization_barrier(jnp.maximum(outer, tiny * inverse(least)))
        share = exact * inverse(outer)
    share = jnp.maximum(jnp.where(from_bits(size) > 0, share, least), least)
    codes = scale_format.encode(share, mode)  # compiled away where only values are wanted
    applied = scale_format.round(share, mode) * (1 if outer is None else outer)
    return BlockScales(jax.lax.optimization_barrier(applied), exact, codes, outer)


def room_for_both(most: Any) -> Any:
    """The largest power of two that 1.5 times still fits under `most` (E4M3: 256, not 448)."""
    pattern = to_bits(jnp.asarray(most, jnp.float32))
    fraction = pattern & np.int32(2**23 - 1)
    exponent = (pattern >> 23) - 127
    return power_of_two(exponent - (fraction < 2**22))
