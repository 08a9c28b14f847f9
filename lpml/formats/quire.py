"""Sums of products of posits: exact with one rounding (the quire), or rounded at every step.

The exact sum is made of exact matrix products. Every posit is an integer times a power of
two; operands are cut into digits of a few bits, so small that a float matmul of digits has
no rounding, in any order of summation. The products of digits are carried into one long
integer, low digits first, of which the sign, the leading bits and a sticky bit are kept.
Only the digits that the data span are computed.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, Integer

from lpml.formats.posit import Posit
from lpml.formats.posit_numbers import (
    Number,
    from_codes,
    lead_of,
    operand_bits,
    product,
    to_codes,
    to_posit,
    total,
    word_of,
    x64_enabled,
)

FEWEST_DIGIT_BITS, MOST_DIGIT_BITS = 4, 22


def quire_matmul(
    posit: Posit, a: Integer[Array, "..."], b: Integer[Array, "..."]
) -> Int[Array, "m n"]:
    """Codes (m, n) of the product of codes (m, k), (k, n): exact sums, rounded once to nearest.

    Exact for all values and every k up to 2^16 (any k under x64, where it is also faster);
    wider than 16 bits needs x64. A row or column with NaR gives NaR.

    Raises:
      ValueError: more than 2^16 terms, more than 16 bits or a traced width without x64.
    """
    _check_shapes(a, b)
    word = jnp.dtype(jnp.int64) if x64_enabled() else word_of(posit)
    return _quire_matmul(posit.widths, a, b, word, _digit_bits(a.shape[1], word)).astype(
        posit.code_dtype
    )


def quire_dot(posit: Posit, a: Integer[Array, " k"], b: Integer[Array, " k"]) -> Int[Array, ""]:
    """The code of the inner product of codes, rounded once; see `quire_matmul`."""
    return quire_matmul(posit, a[None, :], b[:, None])[0, 0]


def rounded_matmul(
    posit: Posit, a: Integer[Array, "..."], b: Integer[Array, "..."]
) -> Int[Array, "m n"]:
    """Codes of the product (m, k) (k, n) without a quire: each product and each sum rounded.

    Summed in the order of the index k. Wider than 16 bits needs x64.
    """
    _check_shapes(a, b)
    return _rounded_matmul(posit.widths, a, b, word_of(posit)).astype(posit.code_dtype)


def _check_shapes(a, b):
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(
            f"shapes {a.shape} and {b.shape} do not multiply: pass codes of shapes (m, k) and"
            " (k, n), and batches by jax.vmap"
        )


def _digit_bits(terms, word):
    """The longest digits whose products add up without rounding.

    Sums of `terms` products of two digits fit a float's significand. Those of all pairs of
    digits of one weight, with a carry, fit the word: of 16 bits with es = 4 there are 114
    pairs at most, of 4-bit digits, and 114 (2^4 - 1)^2 2^16 < 2^31.
    """
    exact = 24 if word == jnp.int32 else 53
    digit = min((exact - max(terms - 1, 1).bit_length()) // 2, MOST_DIGIT_BITS)
    if digit < FEWEST_DIGIT_BITS:
        raise ValueError(
            f"sums of {terms} products need 64-bit integers: set jax_enable_x64, or take at"
            f" most {2 ** (exact - 2 * FEWEST_DIGIT_BITS)} terms"
        )
    return digit


class Digits(NamedTuple):
    """A matrix of integers times 2^exponent, read in digits of weight 2^(base + digit i)."""

    negative: jax.Array
    integer: jax.Array
    exponent: jax.Array
    base: jax.Array  # exponent of the lowest bit of all
    length: jax.Array  # digits that all of them span; 0 for a matrix of zeros


def _digits(x: Number, digit: int) -> Digits:
    word = x.significand.dtype
    drop = lead_of(word) + 1 - operand_bits(word)
    integer = x.significand >> drop
    exponent = x.exponent - (operand_bits(word) - 1)
    trailing = lax.population_count((integer & -integer) - 1)
    far = jnp.iinfo(word).max // 4
    zero = integer == 0
    base = jnp.min(jnp.where(zero, far, exponent + trailing), initial=far)
    top = jnp.max(jnp.where(zero, -far, x.exponent), initial=-far)
    count = jnp.where(top < base, 0, (top - base) // digit + 1)
    return Digits(x.negative, integer, exponent, jnp.where(top < base, 0, base), count)


def _digit(x: Digits, i: Int[Array, ""], digit: int) -> jax.Array:
    """Digit i with its number's sign, as floats that multiply exactly."""
    word = x.integer.dtype
    right = x.base + i.astype(word) * digit - x.exponent
    last = jnp.iinfo(word).bits - 1
    found = jnp.where(
        right >= 0,
        x.integer >> jnp.clip(right, 0, last),
        jnp.where(right > -digit, x.integer << jnp.clip(-right, 0, digit), 0),
    )
    found = found & (2**digit - 1)
    kind = jnp.float32 if word == jnp.int32 else jnp.float64
    return jnp.where(x.negative, -found, found).astype(kind)


class Register(NamedTuple):
    """What is kept of a long integer while its digits arrive, low ones first."""

    carry: jax.Array  # of the digits so far, signed
    window: jax.Array  # the last digits, the newest on top, and a sticky bit
    kept: jax.Array  # the window when its newest digit was last not 0
    level: jax.Array  # the place of that digit


def _push(
    register: Register, level: jax.Array, digit: int, added: Int[Array, "m n"]
) -> Register:
    """Takes the sum of all products of weight `level`."""
    word = register.carry.dtype
    carry = (register.carry >> digit) + added
    newest = carry & (2**digit - 1)
    lost = register.window & (2**digit - 1)
    window = (register.window >> digit) | (lost != 0)
    window = window | (newest << (lead_of(word) + 1 - digit))
    there = newest != 0
    kept = jnp.where(there, window, register.kept)
    return Register(carry, window, kept, jnp.where(there, level.astype(word), register.level))


@functools.partial(jax.jit, static_argnames=("word", "digit"))
def _quire_matmul(widths, a, b, word, digit):
    left, right = (from_codes(codes, widths, word) for codes in (a, b))
    nar = left.nar.any(axis=1)[:, None] | right.nar.any(axis=0)[None, :]
    left, right = _digits(left, digit), _digits(right, digit)

    def pair(i, state):
        level, added = state
        # all digits are exact in a GPU's fast float32 too, their sums are not
        found = jnp.matmul(
            _digit(left, i, digit),
            _digit(right, level - i, digit),
            precision=lax.Precision.HIGHEST,
        )
        return level, added + found.astype(word)

    def step(level, registers):
        first = jnp.maximum(0, level - right.length + 1)
        last = jnp.minimum(level, left.length - 1)
        zero = jnp.zeros((a.shape[0], b.shape[1]), word)
        _, added = lax.fori_loop(first, last + 1, pair, (level, zero))
        # the negated sum too: its sign is known only at the end
        return tuple(_push(r, level, digit, s * added) for r, s in zip(registers, (1, -1)))

    start = Register(*(jnp.zeros((a.shape[0], b.shape[1]), word) for _ in range(4)))
    rest = -(-jnp.iinfo(word).bits // digit)  # digits of a last carry
    levels = left.length + right.length - 1 + rest
    plus, minus = lax.fori_loop(0, levels, step, (start, start))
    negative = plus.carry < 0
    kept, level = (jnp.where(negative, m, p) for p, m in zip(plus[2:], minus[2:]))
    exponent = left.base + right.base + level * digit + (digit - 1)
    return to_codes(Number(negative, exponent, kept, nar), widths)


@functools.partial(jax.jit, static_argnames="word")
def _rounded_matmul(widths, a, b, word):

    def step(so_far, codes):
        column, row = (from_codes(c, widths, word) for c in codes)
        column, row = (
            jax.tree.map(lambda leaf, axis=axis: jnp.expand_dims(leaf, axis), x)
            for axis, x in ((1, column), (0, row))
        )
        term = to_posit(product(column, row), widths)
        return to_posit(total(so_far, term), widths), None

    zeros = jnp.zeros((a.shape[0], b.shape[1]), jnp.int32)
    start = from_codes(zeros, widths, word)
    found, _ = lax.scan(step, start, (a.T, b))
    return to_codes(found, widths)
