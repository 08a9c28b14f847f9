"""Exact numbers in one machine word, between posit codes and posit codes.

A significand never loses what matters: what falls off the end of the word leaves a 1 in
its last bit ("sticky"), far below the last bit of a posit, so that one rounding at the end
is the rounding of the exact number.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, Integer

from lpml.formats import posit_bits
from lpml.formats.posit import Posit
from lpml.formats.posit_bits import Widths

Mask = Bool[Array, "*shape"]


class Number(NamedTuple):
    """(-1)^negative significand 2^(exponent - lead), where `lead` is `lead_of(word)`."""

    negative: jax.Array
    exponent: jax.Array
    significand: jax.Array  # 0, or in [2^lead, 2^(lead + 1)) where operations need it
    nar: jax.Array


def x64_enabled() -> bool:
    """Whether 64-bit numbers exist here."""
    return jnp.result_type(float) == jnp.float64


def word_of(posit: Posit) -> jnp.dtype:
    """The integers that exact results of a format need: int32, or int64 under x64.

    Raises:
      ValueError: more than 16 bits, or a traced width, without x64.
    """
    if posit.width <= 16:
        return jnp.dtype(jnp.int32)
    if not x64_enabled():
        raise ValueError(
            f"exact results of posits of {posit.static_bits or 'traced'} bits need 64-bit"
            " integers: set jax_enable_x64, or take at most 16 bits"
        )
    return jnp.dtype(jnp.int64)


def lead_of(word: jnp.dtype) -> int:
    """The place of a significand's first bit; a sum needs the bit above, the sign the next."""
    return jnp.iinfo(word).bits - 3


def operand_bits(word: jnp.dtype) -> int:
    """Bits of a posit's significand: one more than the longest has, so that products end in 00.

    A sum of a product and a posit is then exact, but for stickiness where they lie apart.
    """
    return jnp.iinfo(word).bits // 2 - 1


def from_codes(codes: Integer[Array, "*shape"], widths: Widths, word: jnp.dtype) -> Number:
    """The exact numbers of codes."""
    fraction = 23 if word == jnp.int32 else 52
    negative, magnitude = posit_bits.split_sign(codes, widths.bits)
    v = posit_bits.unpack(magnitude, widths, fraction=fraction, dtype=word)
    nar = magnitude == jnp.abs(posit_bits.not_real(widths.bits))
    return from_log(v, fraction, negative, zero=magnitude == 0, nar=nar)


def from_log(
    v: Int[Array, "*shape"], fraction: int, negative: Mask, *, zero: Mask, nar: Mask
) -> Number:
    """The exact numbers of logarithms, see `posit_bits`."""
    one = jnp.ones((), v.dtype) << fraction
    significand = (v & (one - 1)) | one
    shift = lead_of(v.dtype) - fraction
    significand = significand << shift if shift > 0 else significand >> -shift
    return Number(negative, v >> fraction, jnp.where(zero, 0, significand), nar)


def rounded(x: Number, widths: Widths) -> tuple[jax.Array, int]:
    """The logarithm of the nearest posit's magnitude, and its fraction bits; any where 0."""
    word = x.significand.dtype
    top = lead_of(word) + 1
    shift = lax.clz(jnp.maximum(x.significand, 1)) - 1
    significand = x.significand << shift
    exponent = x.exponent + 1 - shift
    fraction = top - 10  # leaves the exponent 12 bits: that of any product or sum
    tail = significand - (jnp.ones((), word) << top)
    tail = (tail >> 10) | ((tail & 1023) != 0)
    v = (exponent << fraction) + tail
    v = posit_bits.round_log(v, widths, "nearest", fraction=fraction)
    return v, fraction


def to_codes(x: Number, widths: Widths) -> Int[Array, "*shape"]:
    """Codes of the nearest posits, int32."""
    v, fraction = rounded(x, widths)
    codes = posit_bits.pack(v, widths, fraction=fraction)
    codes = jnp.where(x.negative, -codes, codes)
    codes = jnp.where(x.significand == 0, 0, codes)
    return jnp.where(x.nar, posit_bits.not_real(widths.bits), codes)


def to_posit(x: Number, widths: Widths) -> Number:
    """The nearest posits, as numbers: `from_codes(to_codes(x))` without the codes."""
    v, fraction = rounded(x, widths)
    return from_log(v, fraction, x.negative, zero=x.significand == 0, nar=x.nar)


def product(x: Number, y: Number) -> Number:
    """x y exactly, normalised, of posits."""
    word = x.significand.dtype
    bits, lead = operand_bits(word), lead_of(word)
    drop = lead + 1 - bits
    exact = (x.significand >> drop) * (y.significand >> drop)
    small = exact >> lead == 0  # it has 2 bits - 1 or 2 bits of them
    exact = jnp.where(small, exact << 1, exact)
    exponent = x.exponent + y.exponent + jnp.where(small, 0, 1).astype(word)
    return Number(x.negative ^ y.negative, exponent, exact, x.nar | y.nar)


def total(x: Number, y: Number) -> Number:
    """x + y, exact but for the sticky bit, of normalised numbers; not normalised itself."""
    least = jnp.iinfo(x.exponent.dtype).min // 4
    at_x = jnp.where(x.significand == 0, least, x.exponent)
    at_y = jnp.where(y.significand == 0, least, y.exponent)
    first = at_x >= at_y
    big, small = jnp.where(first, *_signed(x, y)), jnp.where(first, *_signed(y, x))
    apart = jnp.minimum(jnp.abs(at_x - at_y), lead_of(x.exponent.dtype) + 1)
    found = big + _shifted(small, apart)
    return Number(found < 0, jnp.maximum(at_x, at_y), jnp.abs(found), x.nar | y.nar)


def _signed(x, y):
    return tuple(jnp.where(z.negative, -z.significand, z.significand) for z in (x, y))


def _shifted(signed, by):
    """signed / 2^by towards minus infinity, with the sticky bit."""
    lost = signed & ((jnp.ones((), signed.dtype) << by) - 1)
    return (signed >> by) | (lost != 0)
