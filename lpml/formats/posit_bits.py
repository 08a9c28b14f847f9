"""Posit rounding, packing and unpacking on integers: no tables, no floating-point arithmetic.

Everything works on a *binary logarithm* `v` of a magnitude: an int32 or int64 that holds
floor(log2 |x|) above `fraction` bits of the significand (its leading 1 left out). A float's
bits without sign and bias are such a number, with 23 or 52 fraction bits. Adding to `v`
carries from the fraction into the exponent and the regime, as it does in a posit's code.
Widths and exponent sizes may be Python ints or traced.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, Integer, UInt

from lpml.formats.float_bits import FLOAT32, FLOAT64, from_bits


class Widths(NamedTuple):
    """What makes a posit format; Python ints, or arrays of the dtype of `v`."""

    bits: Any
    es: Any

    def of(self, dtype: jax.typing.DTypeLike) -> "Widths":
        """The same, as arrays of `dtype`."""
        return Widths(jnp.asarray(self.bits, dtype), jnp.asarray(self.es, dtype))

    @property
    def last(self) -> Any:
        """log2 of the largest posit; the smallest one's is its negative."""
        return (self.bits - 2) << self.es


class Cut(NamedTuple):
    """Where a posit's bit string ends inside of `v`."""

    mask: jax.Array  # ones on the bits of v that do not fit
    odd: jax.Array  # 1 where the last bit that fits is set, else 0


def cut(v: Int[Array, "*shape"], widths: Widths, *, fraction: int) -> Cut:
    """The bits of `v` beyond the end of a posit, and its last bit."""
    bits, es = widths.of(v.dtype)
    negative = v >> (8 * v.dtype.itemsize - 1)  # -1 or 0
    regime = v >> (es + fraction)
    run = (regime ^ negative) + 2  # regime + 2 or 1 - regime: the closing bit included
    drop = jnp.clip(run + (fraction + 1 + es) - bits, 0, fraction + es)
    # without exponent bits the last bit is the one that closes the regime
    odd = jnp.where(run >= bits - 1, -negative, (v >> drop) & 1)
    return Cut(jnp.left_shift(jnp.ones((), v.dtype), drop) - 1, odd)


def round_log(
    v: Int[Array, "*shape"],
    widths: Widths,
    mode: str,
    *,
    fraction: int,
    negative: Int[Array, "*shape"] | int = 0,
) -> Int[Array, "*shape"]:
    """`v` rounded to a posit's, by any deterministic mode; saturates at both ends.

    Args:
      v: magnitudes, see the module; those below the smallest posit may be any such `v`.
      widths: of the posit.
      mode: a deterministic mode; "zero" too gives the smallest posit where it means 0.
      fraction: fraction bits of `v`.
      negative: 1 where the number is negative, else 0; only for "half_up".
    """
    mask, odd = cut(v, widths, fraction=fraction)
    if mode == "nearest":
        moved = (v + (mask >> 1) + (odd & mask)) & ~mask
    elif mode == "half_up":
        moved = (v + (mask >> 1) + ((1 - negative) & mask)) & ~mask
    elif mode == "away":
        moved = (v + mask) & ~mask
    elif mode == "odd":
        moved = (v & ~mask) + jnp.where((v & mask) != 0, (1 - odd) * (mask + 1), 0)
    else:
        moved = v & ~mask
    return clamp(moved, widths, fraction=fraction)


def draw_log(
    v: Int[Array, "*shape"], widths: Widths, random: UInt[Array, "*shape"], *, fraction: int
) -> tuple[Int[Array, "*shape"], Bool[Array, "*shape"]]:
    """`v` rounded to a neighbouring posit's so that the expected *value* is x, and zeros.

    Where exponent bits are cut, the neighbours are powers of two with others between them:
    adding random bits to `v` would be fair to log2 x and unfair to x (0.59 for 0.3).

    Args:
      v: magnitudes, see the module.
      widths: of the posit.
      random: uniform uint32, shaped like `v`.
      fraction: fraction bits of `v`.

    Returns:
      The rounded `v`, and where it is 0 instead: below the smallest posit the neighbours are
      that one and 0. Above the largest it saturates.
    """
    mask, _ = cut(v, widths, fraction=fraction)
    low = v & ~mask
    # all three divided by a power of two, so that no difference is subnormal
    scale = (low >> fraction) << fraction
    at, below, above = (_power(w - scale, fraction) for w in (v, low, low + mask + 1))
    end = widths.of(v.dtype).last << fraction
    tiny = v < -end
    odds = jnp.where(tiny, _power(v + end, fraction), (at - below) / (above - below))
    up = random < (odds * 2.0**32).astype(jnp.uint32)
    moved = clamp(jnp.where(up, low + mask + 1, low), widths, fraction=fraction)
    return moved, tiny & ~up


def _power(v, fraction):
    """The float whose logarithm is `v`; the smallest normal one in the place of smaller."""
    bias = FLOAT32.bias if v.dtype == jnp.int32 else FLOAT64.bias
    return from_bits(jnp.maximum(v + (bias << fraction), 1 << fraction))


def clamp(v: Int[Array, "*shape"], widths: Widths, *, fraction: int) -> Int[Array, "*shape"]:
    """`v` within the smallest and the largest posit."""
    end = widths.of(v.dtype).last << fraction
    return jnp.clip(v, -end, end)


def pack(v: Int[Array, "*shape"], widths: Widths, *, fraction: int) -> Int[Array, "*shape"]:
    """Codes, int32 in [1, 2^(bits-1) - 1], of the magnitudes `v` of posits."""
    bits, es = widths.of(v.dtype)
    regime = v >> (es + fraction)
    run = jnp.where(regime >= 0, regime + 2, 1 - regime)
    kept = bits - 1 - run  # exponent and fraction bits; -1 at the largest posit
    tail = v - (regime << (es + fraction))
    right = jnp.clip(es + fraction - kept, 0, es + fraction)
    left = jnp.clip(kept - es - fraction, 0, 31)
    tail = jnp.where(kept > 0, ((tail >> right) << left), 0).astype(jnp.int32)
    one, kept = jnp.ones((), jnp.int32), kept.astype(jnp.int32)
    ones = (one << jnp.asarray(bits - 1, jnp.int32)) - (one << (kept + 1))
    return jnp.where(regime >= 0, ones, one << jnp.maximum(kept, 0)) + tail


def unpack(
    magnitude: Int[Array, "*shape"], widths: Widths, *, fraction: int, dtype: Any
) -> Int[Array, "*shape"]:
    """The `v`, int32 or int64, of codes in [1, 2^(bits-1) - 1]; to nearest where longer."""
    bits, es = widths.of(dtype)
    word = lax.bitcast_convert_type(magnitude.astype(jnp.int32), jnp.uint32)
    word = word << jnp.asarray(33 - bits, jnp.uint32)  # the regime starts at the top
    ones = (word >> 31) == 1
    run = lax.clz(jnp.where(ones, ~word, word)).astype(jnp.int32)
    tail = (word << run.astype(jnp.uint32)) << 1
    regime = jnp.where(ones, run - 1, -run).astype(dtype)
    if fraction >= 32:
        low = tail.astype(dtype) << (fraction + es - 32)
    else:
        low = _shift_to_nearest(tail, 32 - fraction - es).astype(dtype)
    return (regime << (es + fraction)) + low


def _shift_to_nearest(word, by):
    """Unsigned word >> by, by >= 1, ties to even."""
    by = jnp.asarray(by, jnp.uint32)
    kept = word >> by
    half = jnp.ones((), jnp.uint32) << (by - 1)
    lost = word & ((half << 1) - 1)
    return kept + ((lost > half) | ((lost == half) & (kept & 1 == 1)))


def split_sign(
    codes: Integer[Array, "*shape"], bits: jax.typing.ArrayLike
) -> tuple[Bool[Array, "*shape"], Int[Array, "*shape"]]:
    """Signs (True where negative) and magnitudes, int32, of codes with or without extension.

    NaR keeps its code, -2^(bits-1), or the negative of that, as magnitude.
    """
    spare = jnp.asarray(32 - bits, jnp.int32)
    codes = (codes.astype(jnp.int32) << spare) >> spare
    return codes < 0, jnp.where(codes < 0, -codes, codes)


def not_real(bits: jax.typing.ArrayLike) -> jax.Array:
    """The int32 code of NaR."""
    return jnp.left_shift(jnp.asarray(-1, jnp.int32), jnp.asarray(bits - 1, jnp.int32))
