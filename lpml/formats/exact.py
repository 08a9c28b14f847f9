"""Matrix products of floats without rounding but at the end: a quire for minifloats."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from lpml.formats import error_free
from lpml.formats.contraction import check_shapes
from lpml.formats.minifloat import Minifloat
from lpml.formats.posit_numbers import Number, lead_of, operand_bits, x64_enabled
from lpml.formats.quire import Register, _digit, _digit_bits, _digits, _push

LONGEST_RESULT = 22  # significant bits of a result that is not float32


def exact_matmul(
    a: Float[Array, "..."],
    b: Float[Array, "..."],
    *,
    into: Minifloat,
    significand: int,
) -> Float[Array, "m n"]:
    """The product of float32 matrices (m, k), (k, n), exact, then rounded once to `into`.

    To nearest, ties to even; infinities and NaN do as IEEE 754 has it. Without x64 digits are
    shorter, which is slower.

    Args:
      a: values with at most `significand` significant bits, of any exponents.
      b: the same.
      into: format of the result: float32 or one of at most 22 significant bits.
      significand: at most 15; 24 under x64.

    Raises:
      ValueError: longer significands or more than 2^16 terms without x64, shapes that do not
        match.
    """
    check_shapes(a, b)
    wide = x64_enabled()
    word = jnp.dtype(jnp.int64 if wide else jnp.int32)
    if significand > min(operand_bits(word), 24):
        raise ValueError(
            f"exact products of {significand} significant bits need 64-bit integers: set"
            " jax_enable_x64, or take formats of at most 15"
        )
    digit = _digit_bits(a.shape[1], word)
    if not wide:
        # of the 30 bits kept of a sum, the first digit may fill one place of its own only;
        # the result's, one more and the sticky bit must be among the rest
        digit = min(digit, lead_of(word) - 1 - into.mantissa_bits)
    return _exact_matmul(a, b, into, digit, word)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _exact_matmul(a, b, into, digit, word):
    left, right = (_number(x, word) for x in (a, b))
    pair, exponent = _parts(exact_product(left, right, digit))
    float32 = into.mantissa_bits == 23
    rounding = error_free.nearest if float32 else error_free.odd
    found = error_free.times_power(pair, exponent, rounding)
    found = jnp.where(pair.high == 0, 0, found)
    plain = jnp.matmul(_without_size(a), _without_size(b), precision=lax.Precision.HIGHEST)
    found = jnp.where(jnp.isfinite(plain), found, plain)
    return found if float32 else into.round(found, gradient="none")


def exact_product(left: Number, right: Number, digit: int) -> Number:
    """The exact matrix product (m, k) (k, n), its low bits sticky, its first digit not 0.

    Args:
      left: numbers of at most `operand_bits` significant bits.
      right: the same.
      digit: bits of a digit, from `quire`'s rule.
    """
    word = left.significand.dtype
    shape = (left.significand.shape[0], right.significand.shape[1])
    nar = left.nar.any(axis=1)[:, None] | right.nar.any(axis=0)[None, :]
    a, b = _digits(left, digit), _digits(right, digit)

    def pair(i, state):
        level, added = state
        found = jnp.matmul(
            _digit(a, i, digit),
            _digit(b, level - i, digit),
            precision=lax.Precision.HIGHEST,
        )
        return level, added + found.astype(word)

    def step(level, registers):
        first = jnp.maximum(0, level - b.length + 1)
        last = jnp.minimum(level, a.length - 1)
        _, added = lax.fori_loop(first, last + 1, pair, (level, jnp.zeros(shape, word)))
        return tuple(_push(r, level, digit, s * added) for r, s in zip(registers, (1, -1)))

    start = Register(*(jnp.zeros(shape, word) for _ in range(4)))
    rest = -(-jnp.iinfo(word).bits // digit)
    levels = a.length + b.length - 1 + rest
    plus, minus = lax.fori_loop(0, levels, step, (start, start))
    negative = plus.carry < 0
    kept, level = (jnp.where(negative, m, p) for p, m in zip(plus[2:], minus[2:]))
    return Number(negative, a.base + b.base + level * digit + (digit - 1), kept, nar)


def _number(x, word):
    """Finite float32 as exact numbers, 0 for the others."""
    x = jnp.where(jnp.isfinite(x), jnp.asarray(x, jnp.float32), 0)
    parts = error_free.split(x)
    whole = jnp.abs(parts.significand) * 2.0**23
    significand = whole.astype(jnp.int32).astype(word) << (lead_of(word) - 23)
    exponent = jnp.where(significand == 0, 0, parts.exponent).astype(word)
    nar = jnp.zeros(x.shape, bool)
    return Number(parts.significand < 0, exponent, significand, nar)


def _parts(x):
    """A number as a sum of floats, to be rounded once, times 2^exponent."""
    word = x.significand.dtype
    size = x.significand
    if word == jnp.int32:
        high, low = size >> 15 << 15, size & (2**15 - 1)
        parts = [part.astype(jnp.float32) for part in (high, low)]
        pair = error_free.Pair(*error_free.two_sum(*parts))
    else:
        cuts = (size >> 42 << 42, (size >> 21 & (2**21 - 1)) << 21, size & (2**21 - 1))
        pair = error_free.exact_sum(*(part.astype(jnp.float32) for part in cuts))
    sign = jnp.where(x.negative, -1.0, 1.0).astype(jnp.float32)
    pair = error_free.Pair(sign * pair.high, sign * pair.low)
    return pair, (x.exponent - lead_of(word)).astype(jnp.int32)


def _without_size(x):
    """Signs, infinities and NaN: all that a sum's infinities and NaN depend on."""
    unit = jnp.sign(error_free.split(jnp.asarray(x, jnp.float32)).significand)
    return jnp.where(jnp.isfinite(x), unit, x)
