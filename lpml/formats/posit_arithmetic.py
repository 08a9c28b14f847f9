"""Posit arithmetic on codes, correctly rounded: exact integers, then one rounding.

Widths up to 16 bits compute in int32, wider ones in int64, so under x64 only. NaR gives
NaR, and so do x / 0 and the root of a negative number. Operands broadcast; results have the
format's `code_dtype`.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Integer

from lpml.formats import posit_bits
from lpml.formats.posit import Posit
from lpml.formats.posit_numbers import (
    Number,
    from_codes,
    lead_of,
    operand_bits,
    product,
    to_codes,
    total,
    word_of,
)

Codes = Integer[Array, "..."]


def add(posit: Posit, a: Codes, b: Codes) -> Codes:
    """Codes of a + b."""
    return _run(_add, posit, a, b)


def sub(posit: Posit, a: Codes, b: Codes) -> Codes:
    """Codes of a - b."""
    return _run(_sub, posit, a, b)


def mul(posit: Posit, a: Codes, b: Codes) -> Codes:
    """Codes of a b."""
    return _run(product, posit, a, b)


def div(posit: Posit, a: Codes, b: Codes) -> Codes:
    """Codes of a / b; NaR where b is 0."""
    return _run(_div, posit, a, b)


def fma(posit: Posit, a: Codes, b: Codes, c: Codes) -> Codes:
    """Codes of a b + c, rounded once."""
    return _run(_fma, posit, a, b, c)


def sqrt(posit: Posit, a: Codes) -> Codes:
    """Codes of the square root; NaR where a < 0."""
    return _run(_sqrt, posit, a)


def neg(posit: Posit, a: Codes) -> Codes:
    """Codes of -a, the two's complement; NaR stays NaR."""
    a = _extended(posit, a)
    return jnp.where(a == posit_bits.not_real(posit.bits), a, -a).astype(posit.code_dtype)


def absolute(posit: Posit, a: Codes) -> Codes:
    """Codes of |a|; NaR stays NaR."""
    a = _extended(posit, a)
    keep = (a >= 0) | (a == posit_bits.not_real(posit.bits))
    return jnp.where(keep, a, -a).astype(posit.code_dtype)


def compare(posit: Posit, a: Codes, b: Codes) -> Codes:
    """-1, 0, 1 (int8) where a < b, a = b, a > b: the order of codes, NaR least and itself."""
    a, b = _extended(posit, a), _extended(posit, b)
    return (a > b).astype(jnp.int8) - (a < b).astype(jnp.int8)


def _run(operation, posit, *operands):
    word = word_of(posit)
    return _rounded(operation, word, posit.widths, *operands).astype(posit.code_dtype)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _rounded(operation, word, widths, *operands):
    exact = operation(*(from_codes(codes, widths, word) for codes in operands))
    return to_codes(exact, widths)


def _add(x, y):
    return total(x, y)


def _sub(x, y):
    return total(x, y._replace(negative=~y.negative))


def _fma(x, y, z):
    return total(product(x, y), z)


def _div(x, y):
    word, bits = x.significand.dtype, operand_bits(x.significand.dtype)
    drop = lead_of(word) + 1 - bits
    above = (x.significand >> drop) << bits
    below = jnp.maximum(y.significand >> drop, 1)
    whole = above // below
    # 2^bits is the quotient 1, and a last bit is added for the remainder
    significand = (whole << 1) | (above != whole * below)
    exponent = x.exponent - y.exponent + (lead_of(word) - bits - 1)
    nar = x.nar | y.nar | (y.significand == 0)
    return Number(x.negative ^ y.negative, exponent, significand, nar)


def _sqrt(x):
    word, bits = x.significand.dtype, operand_bits(x.significand.dtype)
    odd = x.exponent & 1
    square = (x.significand >> (lead_of(word) + 1 - bits)) << (bits - 1 + odd)
    kind = jnp.float32 if word == jnp.int32 else jnp.float64
    root = jnp.sqrt(square.astype(kind)).astype(word)  # at most one off
    root = root - (root * root > square)
    root = root + ((root + 1) * (root + 1) <= square)
    significand = (root << 1) | (root * root != square)
    exponent = ((x.exponent - odd) >> 1) + (lead_of(word) - bits)
    nar = x.nar | (x.negative & (x.significand != 0))
    return Number(jnp.zeros_like(x.negative), exponent, significand, nar)


def _extended(posit, codes):
    """Codes with their sign bit extended to int32."""
    negative, magnitude = posit_bits.split_sign(codes, posit.bits)
    return jnp.where(negative, -magnitude, magnitude)
