"""Rounding modes: the one place where they become arithmetic, on floats and on integers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from lpml.formats.randomness import random_bits

MODES = ("nearest", "half_up", "stochastic", "zero", "away", "odd")


def round_to_integer(
    x: Float[Array, "*shape"],
    mode: str = "nearest",
    *,
    key: jax.Array | None = None,
    bits: UInt32[Array, "*shape"] | None = None,
) -> Float[Array, "*shape"]:
    """Rounds to integers, kept in the floating dtype of `x`.

    Args:
      x: values of any shape; NaN stays NaN, infinities stay.
      mode: `"nearest"` (ties to even, IEEE 754's default), `"half_up"` (ties upwards,
        floor(x + 1/2): the "biased" rounding of the HALP code), `"stochastic"` (up with
        probability x - floor(x), so that the expectation is x), `"zero"` (towards zero),
        `"away"` (away from zero) or `"odd"` (to the odd neighbour).
      key: PRNG key of the stochastic mode.
      bits: uniform 32-bit words in place of a key, shaped like `x`; the upper 23 count.

    Raises:
      ValueError: unknown mode, or stochastic rounding with neither key nor bits.
    """
    check_mode(mode)
    if mode == "nearest":
        return jnp.round(x)
    if mode == "half_up":
        return jnp.floor(x + 0.5)
    if mode == "zero":
        return jnp.trunc(x)
    if mode == "away":
        return jnp.where(x > 0, jnp.ceil(x), jnp.floor(x))
    low = jnp.floor(x)
    if mode == "odd":
        return low + ((x != low) & is_even(low)).astype(x.dtype)
    words = needed_bits(mode, x.shape, key, bits)
    # the upper 23 bits, as jax.random.uniform takes them: half the cost of float64 noise
    noise = (words >> 9).astype(jnp.float32) * np.float32(2**-23)
    # Comparing with the exact fraction, where floor(x + u) would round x + u first and so
    # bias large x, and would move numbers that are integers already.
    return low + (noise < x - low).astype(x.dtype)


def round_magnitude(
    y: jax.Array, mode: str, bits: Any, *, negative: Any, positive: Any
) -> jax.Array:
    """Rounds magnitudes to integers, kept as floats: `y` >= 0 in steps of a grid.

    Args:
      y: magnitudes; not NaN.
      mode: any mode that was checked.
      bits: words of the stochastic mode, resolved to 2^-31.
      negative: where the number is below zero (it decides ties upwards).
      positive: where the magnitude is above zero, also where `y` was flushed to zero.
    """
    if mode == "nearest":
        return jnp.round(y)
    low = jnp.floor(y)
    if mode == "zero":
        return low
    if mode in ("away", "odd"):
        inexact = positive & ((y != low) | (y == 0))
        return low + (inexact & (is_even(low) | (mode == "away"))).astype(y.dtype)
    rest = y - low
    if mode == "half_up":
        return low + ((rest > 0.5) | ((rest == 0.5) & ~negative)).astype(y.dtype)
    return low + goes_up(rest, bits).astype(y.dtype)


def goes_up(share: jax.Array, bits: jax.Array) -> jax.Array:
    """True with probability `share` in [0, 1), to within 2^-31; never where `share` is 0."""
    return (bits >> 1).astype(jnp.int32) < (share * 2.0**31).astype(jnp.int32)


def is_even(whole: jax.Array) -> jax.Array:
    """Whether integers kept as floats are even."""
    half = whole * 0.5
    return half == jnp.floor(half)


def round_pattern(
    pattern: jax.Array, drop: Any, mode: str, bits: Any, *, negative: Any
) -> jax.Array:
    """pattern >> drop, rounded: integers >= 0 of 32 or 64 bits, 0 <= drop below the width - 1.

    Ties go to even results. `drop` may be an array; `bits` and `negative` are as in
    `round_magnitude`, probabilities exact up to 32 dropped bits and within 2^-32 above.
    """
    if mode == "zero":
        return pattern >> drop
    one = pattern.dtype.type(1)
    below = (one << drop) - 1
    half = (one << drop) >> 1
    if mode == "away":
        return (pattern + below) >> drop
    if mode == "half_up":
        return (pattern + jnp.maximum(half - negative, 0)) >> drop
    if mode == "stochastic":
        return (pattern + _below(one, bits, drop)) >> drop
    low_bit = (pattern >> drop) & 1
    if mode == "odd":
        return (pattern + jnp.where(low_bit == 1, 0, below)) >> drop
    # with nothing to drop, half is 0 and nothing may be taken away either
    return (pattern + jnp.maximum(half - 1 + low_bit, 0)) >> drop


def _below(one, bits, drop):
    """Uniform integers of 0 to 2^drop - 1, of the type of `one`."""
    if one.dtype == np.int64:
        return (bits.astype(jnp.int64) << 31) >> (63 - drop)
    return (bits >> 1).astype(jnp.int32) >> (31 - drop)


def needed_bits(
    mode: str, shape: tuple[int, ...], key: jax.Array | None, bits: jax.Array | None
) -> Any:
    """The random words of `shape` that `mode` needs, from `key` unless given; else None.

    Raises:
      ValueError: stochastic rounding with neither, or with bits of another shape or type.
    """
    if mode != "stochastic":
        return None
    if bits is None:
        if key is None:
            raise ValueError("stochastic rounding needs a PRNG `key` or random `bits`")
        return random_bits(key, shape)
    if bits.shape != shape or bits.dtype != jnp.uint32:
        raise ValueError(
            f"bits are {bits.dtype} of shape {bits.shape}; make them uint32 of shape {shape}"
        )
    return bits


def check_mode(mode: str) -> None:
    """Raises ValueError, with the list, unless `mode` is a rounding mode."""
    if mode not in MODES:
        known = ", ".join(MODES)
        raise ValueError(f"rounding mode {mode!r} does not exist; choose from {known}")
