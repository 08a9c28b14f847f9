"""Expanding dot products: operands of a narrow float format, sums in a wider one.

The ExSdotp unit (Bertaccini et al., ARITH 2022) computes a b + c d + e exactly and rounds
once, to nearest, ties to even; the cascade it replaces is two expanding fused multiply-adds,
each of which rounds. Numbers are float32 arrays here, of values of their formats.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lpml.formats import error_free
from lpml.formats.contraction import check_shapes
from lpml.formats.minifloat import FLOAT16, Minifloat
from lpml.formats.protocol import Format

FLOAT32 = Minifloat(8, 23)
MOST_SOURCE_BITS = 12  # of a significand: products of longer ones are no float32
MOST_ROUNDED_BITS = 22  # of a result's significand that is not float32
UNITS = ("exsdotp", "exfma")

Values = Float[Array, "..."]


def exsdotp(
    a: Values,
    b: Values,
    c: Values,
    d: Values,
    e: Values,
    *,
    source: Format,
    into: Format | None = None,
) -> Values:
    """a b + c d + e, rounded once: exact three-term sum, to nearest. Operands broadcast.

    Correctly rounded for all operands, subnormal ones too, without x64. Overflow gives
    infinity, as in the unit; infinities and NaN do as IEEE 754 has it. A sum of exactly 0 is
    +0, or -0 where every term is -0.

    Args:
      a, b, c, d: values of `source`.
      e: values of `into`.
      source: format of the operands, of at most 12 significant bits: FP8 (`E5M2`), FP8alt
        (`E4M3`; also `E4M3FN`), `FLOAT16`, `BFLOAT16` (FP16alt).
      into: format of `e` and of the result, IEEE-like: `FLOAT16`, `BFLOAT16`, or float32,
        `Minifloat(8, 23)`. By default FLOAT16 for sources of 8 bits, else float32.

    Raises:
      ValueError: formats that the operation does not support.
    """
    return _exsdotp(unit_of(source, into), a, b, c, d, e)


def exfma(
    a: Values,
    b: Values,
    e: Values,
    *,
    source: Format,
    into: Format | None = None,
) -> Values:
    """a b + e, rounded once: the expanding fused multiply-add. Arguments as of `exsdotp`."""
    return _exfma(unit_of(source, into), a, b, e)


def expanding_matmul(
    a: Values,
    b: Values,
    *,
    source: Format,
    into: Format | None = None,
    unit: str = "exsdotp",
) -> Float[Array, "m n"]:
    """The product of matrices (m, k), (k, n), accumulated along k in `into`, from 0.

    `unit` `"exsdotp"` takes k two by two (an odd k has a last product of zeros) and rounds
    once for both; `"exfma"` rounds for each. Formats and errors as of `exsdotp`.
    """
    if unit not in UNITS:
        raise ValueError(f"unit {unit!r} does not exist; choose from {', '.join(UNITS)}")
    check_shapes(a, b)
    return _matmul(unit_of(source, into), a, b, 2 if unit == "exsdotp" else 1)


def default_accumulator(source: Minifloat) -> Minifloat:
    """FLOAT16 for sources of up to 8 bits, float32 for longer ones."""
    return FLOAT16 if (source.static_bits or 32) <= 8 else FLOAT32


class Unit(NamedTuple):
    """A pair of formats, and whether float32 holds the products of the narrow one."""

    into: Minifloat
    scaled: bool

    def operand(self, x: Values) -> Any:
        """What `product` takes."""
        x = jnp.asarray(x, jnp.float32)
        return error_free.split(x) if self.scaled else x

    @property
    def product(self) -> Callable[[Any, Any], Any]:
        """Of two operands, exact."""
        return error_free.scaled_product if self.scaled else jnp.multiply

    def total(self, x: Any, y: Any, e: Values) -> Values:
        """x + y + e rounded once, of products and an accumulator."""
        if self.scaled:
            return error_free.scaled_sum(x, y, error_free.split(e))
        pair = error_free.sum_with_accumulator(x, y, e)
        wide = self.into.mantissa_bits == FLOAT32.mantissa_bits
        exact = error_free.nearest(pair) if wide else error_free.odd(pair)
        plain = x + y + e
        exact = jnp.where(jnp.isfinite(plain), exact, plain)
        return exact if wide else self.into.round(exact, gradient="none")


def unit_of(source: Format, into: Format | None = None) -> Unit:
    """How to compute with a pair of formats, or a ValueError that says what is supported."""
    supported = (
        "; supported are a Minifloat of at most 12 significant bits, and into a wider"
        " IEEE-like one of at most 22, or float32"
    )
    if not isinstance(source, Minifloat) or source.static_bits is None:
        raise ValueError(f"expanding dot products of {source} do not exist{supported}")
    into = default_accumulator(source) if into is None else into
    if not isinstance(into, Minifloat) or into.static_bits is None:
        raise ValueError(f"expanding dot products into {into} do not exist{supported}")
    # every finite number is below 2^above and a multiple of 2^-below
    above, below = math.log2(source.largest), -math.log2(source.smallest)
    scaled = above > 60 or below > 37
    float32 = (into.exponent_bits, into.mantissa_bits) == (8, 23)
    if (
        source.mantissa_bits >= MOST_SOURCE_BITS
        or into.special != "ieee"
        or into.mantissa_bits < source.mantissa_bits
        or into.exponent_bits < source.exponent_bits
        or not (float32 or (into.mantissa_bits < MOST_ROUNDED_BITS and not scaled))
    ):
        raise ValueError(f"{source} into {into} is no expanding dot product{supported}")
    # IEEE's overflow: saturation is of rounding tensors, the unit has none
    return Unit(Minifloat(into.exponent_bits, into.mantissa_bits, saturate=False), scaled)


@functools.partial(jax.jit, static_argnums=0)
def _exsdotp(unit, a, b, c, d, e):
    a, b, c, d = map(unit.operand, (a, b, c, d))
    return unit.total(unit.product(a, b), unit.product(c, d), jnp.asarray(e, jnp.float32))


@functools.partial(jax.jit, static_argnums=0)
def _exfma(unit, a, b, e):
    found = unit.product(unit.operand(a), unit.operand(b))
    return unit.total(found, _nothing(found), jnp.asarray(e, jnp.float32))


def _nothing(term):
    """The zero that changes no sum: -0."""
    if isinstance(term, error_free.Scaled):
        far = jnp.full_like(term.exponent, error_free.FAR_BELOW)
        return error_free.Scaled(jnp.full_like(term.significand, -0.0), far)
    return jnp.full_like(term, -0.0)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _matmul(unit, a, b, together):
    odd = a.shape[1] % together
    a, b = jnp.pad(a, ((0, 0), (0, odd))), jnp.pad(b, ((0, odd), (0, 0)))
    # one array for each operand: XLA computes a slice of a slice anew for each of its uses
    operands = [
        (unit.operand(a.T[i::together, :, None]), unit.operand(b[i::together, None, :]))
        for i in range(together)
    ]

    def step(so_far, taken):
        terms = [unit.product(*pair) for pair in taken]
        terms = terms if together == 2 else [*terms, _nothing(terms[0])]
        return unit.total(*terms, so_far), None

    start = jnp.zeros((a.shape[0], b.shape[1]), jnp.float32)
    return jax.lax.scan(step, start, operands)[0]
