"""Posits: a float whose exponent takes the more bits the further it is from 1."""

import dataclasses
import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lpml.formats import posit_bits
from lpml.formats.float_bits import from_bits, layout_of, magnitude, power_of_two, to_bits
from lpml.formats.protocol import Elementwise, check_width

MIN_BITS, MAX_BITS = 3, 32
MOST_EXPONENT_BITS = 4
FLOAT32_EXPONENT = 126  # posits beyond 2^126 or below 2^-126 are left to float64


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Posit(Elementwise):
    """Posits of the 2022 standard, with any width and any number of exponent bits.

    A code is a sign, a regime (a run of equal bits that ends with the opposite bit), up to
    `es` exponent bits and a fraction; x = 2^(2^es regime + exponent) (1 + fraction). Codes
    are two's complement integers in the order of their values. There is one zero, and one
    code, -2^(bits-1), for "not a real" (NaR), which is NaN here.

    Rounding to nearest is the standard's: the bit string of |x| is cut, ties to even codes.
    So a number that is not 0 never becomes 0, nor more than the largest posit; and where
    exponent bits are cut, the border between two posits is their geometric mean. "half_up"
    is the same with ties upwards. "zero" is 0 below the smallest posit. "stochastic" is
    unbiased in value, so that below the smallest posit it is that one or 0. All modes
    saturate at the largest posit.

    `round` of float32 needs no x64 for any width: what a float32 is rounded to is a float32.
    `decode` is exact in float64, and in float32 for widths up to 26 + es bits; of longer
    codes it gives the nearest float32. It takes codes with or without sign extension.

    Args:
      bits: width, 3 to 32. May be traced: one compiled program then serves every width.
      es: exponent bits, 0 to 4; the standard's is 2. May be traced.
      saturate: infinities become the largest posit; if False NaR, as in the standard.

    Raises:
      ValueError: widths out of range; in use, posits that float32 does not reach, such as
        those of 16 bits with es = 4, unless computed in float64 under x64.
    """

    bits: int | jax.Array = 16
    es: int | jax.Array = 2
    saturate: bool = dataclasses.field(default=True, kw_only=True, metadata={"static": True})

    def __post_init__(self):
        check_width("bits", self.bits)
        check_width("es", self.es)
        bits, es = self.static_bits, _static(self.es)
        if bits is not None and not MIN_BITS <= bits <= MAX_BITS:
            raise ValueError(f"bits = {bits} is outside of {MIN_BITS} to {MAX_BITS}")
        if es is not None and not 0 <= es <= MOST_EXPONENT_BITS:
            raise ValueError(f"es = {es} is outside of 0 to {MOST_EXPONENT_BITS}")

    @property
    def static_bits(self) -> int | None:
        """The width as a Python int, or None where it is traced."""
        return _static(self.bits)

    @property
    def widths(self) -> posit_bits.Widths:
        """Width and exponent bits, as `posit_bits` takes them."""
        return posit_bits.Widths(self.bits, self.es)

    @property
    def width(self) -> int:
        """Storage bits; 32 where the width is traced."""
        return self.static_bits or MAX_BITS

    @property
    def code_dtype(self) -> jnp.dtype:
        """The smallest integer type that holds a code: int8, int16, else int32."""
        return jnp.dtype(
            jnp.int8 if self.width <= 8 else f"int{16 if self.width <= 16 else 32}"
        )

    @property
    def largest(self) -> Any:
        """The largest value, 2^((bits - 2) 2^es); a float32 array where it is traced."""
        end = self.widths.last
        return power_of_two(end) if _static(end) is None else 2.0**end

    @property
    def smallest(self) -> Any:
        """The smallest positive value, 1 / largest."""
        return 1 / self.largest

    def values(self) -> np.ndarray:
        """All values but NaR, ascending, float64 (2^bits - 1,); static widths up to 16."""
        bits, es = self.static_bits, _static(self.es)
        if bits is None or es is None or bits > 16:
            raise ValueError("values() lists formats of a known width of at most 16 bits")
        codes = np.arange(1, 2 ** (bits - 1))
        runs = [_leading_run(int(code), bits) for code in codes]
        regime = np.array([run - 1 if ones else -run for ones, run in runs])
        left = np.maximum(bits - 2 - np.array([run for _, run in runs]), 0)
        tail = (codes & ((1 << left) - 1)) / 2.0**left * 2**es
        exponent = np.floor(tail).astype(int)
        positive = np.ldexp(1 + tail - exponent, regime * 2**es + exponent)
        return np.concatenate([-positive[::-1], [0.0], positive])

    def _range(self, dtype):
        high = power_of_two(self.widths.last, dtype)
        return -high, high

    def _round(self, x, mode, bits):
        self._check_reach(x.dtype)
        return _round(x, self.widths, bits, mode, self.saturate)

    def _encode(self, x, mode, bits):
        self._check_reach(x.dtype)
        return _encode(x, self.widths, bits, mode, self.saturate)

    def _decode(self, codes, dtype):
        self._check_reach(dtype)
        return _decode(codes, self.widths, dtype)

    def _check_reach(self, dtype):
        end = _static(self.widths.last)
        if dtype == jnp.float32 and end is not None and end > FLOAT32_EXPONENT:
            raise ValueError(
                f"posits of {self.bits} bits with es = {self.es} reach 2^{end}, beyond float32:"
                " compute in float64, under jax_enable_x64"
            )


def _static(number: Any) -> int | None:
    try:
        return operator.index(number)
    except TypeError:
        return None


def _leading_run(code: int, bits: int) -> tuple[bool, int]:
    """Whether a code begins with ones after its sign, and with how many equal bits."""
    text = f"{code:0{bits - 1}b}"
    return text[0] == "1", len(text) - len(text.lstrip(text[0]))


@functools.partial(jax.jit, static_argnames=("mode", "saturate"))
def _round(x, widths, random, mode, saturate):
    layout = layout_of(x.dtype)
    v, zero = _rounded_log(x, widths, random, mode)
    pattern = to_bits(x)
    sign = pattern ^ magnitude(pattern)
    found = from_bits((v + (layout.bias << layout.mantissa)) | sign)
    return jnp.where(_no_number(x, saturate), jnp.nan, jnp.where(zero, 0, found))


@functools.partial(jax.jit, static_argnames=("mode", "saturate"))
def _encode(x, widths, random, mode, saturate):
    v, zero = _rounded_log(x, widths, random, mode)
    codes = posit_bits.pack(v, widths, fraction=layout_of(x.dtype).mantissa)
    codes = jnp.where(zero, 0, jnp.where(to_bits(x) < 0, -codes, codes))
    return jnp.where(_no_number(x, saturate), posit_bits.not_real(widths.bits), codes)


@functools.partial(jax.jit, static_argnames="dtype")
def _decode(codes, widths, dtype):
    layout = layout_of(dtype)
    negative, size = posit_bits.split_sign(codes, widths.bits)
    v = posit_bits.unpack(size, widths, fraction=layout.mantissa, dtype=layout.integer)
    found = from_bits(v + (layout.bias << layout.mantissa))
    found = jnp.where(size == 0, 0, jnp.where(negative, -found, found))
    nar = jnp.abs(posit_bits.not_real(widths.bits))  # of 32 bits, it is its own negative
    return jnp.where(size == nar, jnp.nan, found)


def _rounded_log(x, widths, random, mode):
    """The logarithm (see `posit_bits`) of what |x| is rounded to, and where that is 0."""
    layout = layout_of(x.dtype)
    fraction = layout.mantissa
    pattern = to_bits(x)
    v = magnitude(pattern) - (layout.bias << fraction)
    zero = magnitude(pattern) == 0
    if mode == "stochastic":
        v = _with_subnormal(v, magnitude(pattern), layout)
        v, vanished = posit_bits.draw_log(v, widths, random, fraction=fraction)
        return v, zero | vanished
    if mode == "zero":
        zero = v < -(widths.of(layout.integer).last << fraction)
    negative = (pattern < 0).astype(layout.integer)
    return posit_bits.round_log(v, widths, mode, fraction=fraction, negative=negative), zero


def _with_subnormal(v, size, layout):
    """`v`, with the logarithms of subnormal numbers, whose bits are none, by their size."""
    counted = to_bits(size.astype(layout.dtype)) - (layout.bias << layout.mantissa)
    counted -= (layout.bias - 1 + layout.mantissa) << layout.mantissa  # the exponent of size 1
    return jnp.where(size >> layout.mantissa == 0, counted, v)


def _no_number(x, saturate):
    return jnp.isnan(x) if saturate else ~jnp.isfinite(x)
