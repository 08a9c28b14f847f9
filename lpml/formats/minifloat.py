"""Small floating-point formats: FP8, FP6, FP4, FP16, bfloat16 and every other split."""

import dataclasses
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lpml.formats.float_bits import from_bits, layout_of, magnitude, power_of_two, to_bits
from lpml.formats.protocol import Elementwise, check_width
from lpml.formats.rounding import round_magnitude, round_pattern

SPECIALS = ("ieee", "fn", "finite")
MOST_EXPONENT_BITS = 8
MOST_MANTISSA_BITS = 23


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Minifloat(Elementwise):
    """Floating point of 1 + exponent_bits + mantissa_bits bits, with subnormals and both zeros.

    Codes are sign, exponent (bias 2^(exponent_bits - 1) - 1), mantissa: as integers without
    their sign they are in the order of the magnitudes. The sign of zero is kept.

    Args:
      exponent_bits: 1 to 8. May be traced, as `mantissa_bits`: one compiled program then
        serves every split.
      mantissa_bits: 0 to 23, not counting the implicit bit.
      special: what the highest codes mean. `"ieee"`: the top exponent is infinity and NaNs
        (infinity alone without mantissa bits: a NaN is then encoded as that);
        `"fn"`: the top code alone is NaN, no infinity (OCP's E4M3); `"finite"`: all codes are
        numbers (FP6, FP4); their `round` keeps a NaN visible, `encode` gives it 0.
      saturate: values beyond the largest, infinities too, become the largest. False: they
        become infinity, or NaN under `"fn"`, once they round beyond it; modes `"zero"` and
        `"odd"` leave finite numbers finite. Has no effect on `"finite"`.
    """

    exponent_bits: int | jax.Array
    mantissa_bits: int | jax.Array
    special: str = dataclasses.field(default="ieee", kw_only=True, metadata={"static": True})
    saturate: bool = dataclasses.field(default=True, kw_only=True, metadata={"static": True})

    def __post_init__(self):
        if self.special not in SPECIALS:
            known = ", ".join(SPECIALS)
            raise ValueError(f"special {self.special!r} does not exist; choose from {known}")
        check_width("exponent_bits", self.exponent_bits)
        check_width("mantissa_bits", self.mantissa_bits)
        wide, fine = _known(self.exponent_bits), _known(self.mantissa_bits)
        if wide is not None and not 1 <= wide <= MOST_EXPONENT_BITS:
            raise ValueError(f"exponent_bits = {wide} is outside of 1 to {MOST_EXPONENT_BITS}")
        if fine is not None and not 0 <= fine <= MOST_MANTISSA_BITS:
            raise ValueError(f"mantissa_bits = {fine} is outside of 0 to {MOST_MANTISSA_BITS}")
        if wide == MOST_EXPONENT_BITS and self.special != "ieee":
            raise ValueError(
                f'8 exponent bits with special="{self.special}" reach 2^128, which float32 '
                'does not hold; use special="ieee"'
            )
        if (wide, fine) == (1, 0) and self.special != "finite":
            raise ValueError(
                f'1 exponent bit, no mantissa and special="{self.special}" leave no value but '
                '0; use special="finite"'
            )

    @property
    def static_bits(self) -> int | None:
        """The width as a Python int, or None where a part of it is traced."""
        wide, fine = _known(self.exponent_bits), _known(self.mantissa_bits)
        return None if wide is None or fine is None else 1 + wide + fine

    @property
    def largest(self) -> Any:
        """The largest finite value; a float for a known width, else a float32 array."""
        if self.static_bits is None:
            return self._range(jnp.float32)[1]
        top = _constants(self, jnp.float64).top
        return float(_decoded(self, np.array(top)))

    @property
    def smallest(self) -> Any:
        """The smallest positive value; a float for a known width, else a float32 array."""
        if self.static_bits is None:
            return from_bits(_to_float_pattern(_constants(self, jnp.float32), 1))
        return float(_decoded(self, np.array(1)))

    def values(self) -> np.ndarray:
        """All finite values, ascending, zero once, float64; widths up to 16 bits."""
        if self.static_bits is None or self.static_bits > 16:
            raise ValueError("values() lists formats of a known width of at most 16 bits")
        positive = _decoded(self, np.arange(1, _constants(self, jnp.float64).top + 1))
        return np.concatenate([-positive[::-1], [0.0], positive])

    def _range(self, dtype):
        constants = _constants(self, dtype)
        high = from_bits(_to_float_pattern(constants, constants.top))
        return -high, high

    def _round(self, x, mode, bits):
        c = _constants(self, x.dtype)
        pattern = to_bits(x)
        size = magnitude(pattern)
        normal, steps = _rounded(c, x, size, mode, bits)
        rounded = normal << c.drop
        if steps is not None:
            near_zero = to_bits(steps * power_of_two(c.unit, x.dtype))
            rounded = jnp.where(size < c.normal_from, near_zero, rounded)
        top = _to_float_pattern(c, c.top)
        beyond = c.layout.infinity + (self.special == "fn")  # after infinity come the NaNs
        rounded = self._limited(rounded, size, top, beyond, c, mode)
        rounded = jnp.where(size > c.layout.infinity, size, rounded)
        return from_bits(rounded | (pattern ^ size))

    def _encode(self, x, mode, bits):
        c = _constants(self, x.dtype)
        pattern = to_bits(x)
        size = magnitude(pattern)
        normal, steps = _rounded(c, x, size, mode, bits)
        code = normal - c.offset
        if steps is not None:
            code = jnp.where(size < c.normal_from, steps.astype(code.dtype), code)
        code = self._limited(code, size, c.top, c.top + 1, c, mode)
        negative = (pattern < 0).astype(code.dtype)
        code = code.astype(jnp.uint32) | (negative.astype(jnp.uint32) << c.sign_at)
        return jnp.where(size > c.layout.infinity, np.uint32(0) + c.nan, code)

    def _decode(self, codes, dtype):
        c = _constants(self, dtype)
        codes = codes.astype(jnp.uint32)
        below_sign = (np.uint32(1) << c.sign_at) - 1
        code = (codes & below_sign).astype(c.layout.integer)
        negative = ((codes >> c.sign_at) & 1).astype(c.layout.integer)
        pattern = _to_float_pattern(c, code)
        if self.special == "ieee":
            pattern = jnp.where(code == c.top + 1, c.layout.infinity, pattern)
        if self.special != "finite":
            nan = c.layout.infinity + (c.layout.integer(1) << (c.layout.mantissa - 1))
            pattern = jnp.where(code > c.top + (self.special == "ieee"), nan, pattern)
        return from_bits(pattern | (negative << (c.layout.width - 1)))

    def _limited(self, rounded, size, top, beyond, c, mode):
        """Patterns or codes beyond `top` become it, or `beyond` where nothing saturates."""
        limited = jnp.minimum(rounded, top)
        if self.saturate or self.special == "finite":
            return limited
        over = size >= c.layout.infinity
        if mode not in ("zero", "odd"):
            over |= rounded > top
        return jnp.where(over, beyond, limited)


class _Constants(NamedTuple):
    """A format as seen from a float layout; ints, or arrays of its integer where traced."""

    layout: Any
    mantissa: Any  # mantissa bits
    drop: Any  # mantissa bits that the format lacks
    unit: Any  # the exponent of the smallest positive value
    offset: Any  # code of a normal number = its pattern >> drop, minus this
    normal_from: Any  # pattern of the smallest normal value; 0 where the patterns coincide
    top: Any  # code of the largest finite value
    nan: Any  # code of NaN
    sign_at: Any  # uint32: position of the sign in a code


def _constants(fmt, dtype):
    layout = layout_of(dtype)
    e, m = _known(fmt.exponent_bits), _known(fmt.mantissa_bits)
    if e is None or m is None:
        e = jnp.asarray(fmt.exponent_bits, layout.integer)
        m = jnp.asarray(fmt.mantissa_bits, layout.integer)
    lowest = 2 - (1 << (e - 1))  # exponent of the smallest normal value
    biased = lowest + layout.bias
    # 8 exponent bits are float32's own: subnormals of both are the same numbers, and raw
    # patterns round them without arithmetic that would flush them
    keep = (e < layout.width - layout.mantissa - 1) * 1
    codes = 1 << (e + m)
    top = {"ieee": codes - (1 << m) - 1, "fn": codes - 2, "finite": codes - 1}[fmt.special]
    nan = {"ieee": codes - (1 << m) // 2 - (m == 0), "fn": codes - 1, "finite": 0 * codes}
    return _Constants(
        layout=layout,
        mantissa=m,
        drop=layout.mantissa - m,
        unit=lowest - m,
        offset=(biased - 1) << m,
        normal_from=keep * (biased << layout.mantissa),
        top=top,
        nan=nan[fmt.special],
        sign_at=jnp.asarray(e + m, jnp.uint32),
    )


def _rounded(c, x, size, mode, bits):
    """What `x` rounds to: if normal, as pattern >> drop; if not, in smallest values."""
    negative = to_bits(x) < 0
    normal = round_pattern(size, c.drop, mode, bits, negative=negative)
    if isinstance(c.normal_from, int) and c.normal_from == 0:
        return normal, None
    steps = jnp.abs(x) * power_of_two(-c.unit, x.dtype)
    return normal, round_magnitude(steps, mode, bits, negative=negative, positive=size > 0)


def _to_float_pattern(c, code):
    """The float's pattern of codes without sign, specials read as numbers."""
    code = jnp.asarray(code, c.layout.integer)
    pattern = (code + c.offset) << c.drop
    if isinstance(c.normal_from, int) and c.normal_from == 0:
        return pattern
    near_zero = to_bits(code.astype(c.layout.dtype) * power_of_two(c.unit, c.layout.dtype))
    return jnp.where(code < (1 << c.mantissa) * (c.normal_from > 0), near_zero, pattern)


def _decoded(fmt, codes):
    """Values of codes without sign, float64, of a known width: numpy, for lists and limits."""
    e, m = _known(fmt.exponent_bits), _known(fmt.mantissa_bits)
    field, fraction = codes >> m, codes & ((1 << m) - 1)
    significand = np.where(field > 0, fraction + (1 << m), fraction).astype(np.float64)
    return np.ldexp(significand, np.maximum(field, 1) + 1 - 2 ** (e - 1) - m)


def _known(bits):
    """A width as a Python int, or None where it is traced."""
    try:
        return operator.index(bits)
    except TypeError:
        return None


E4M3FN = Minifloat(4, 3, special="fn")
E5M2 = Minifloat(5, 2)
E4M3 = Minifloat(4, 3)
E3M4 = Minifloat(3, 4)
E2M3 = Minifloat(2, 3, special="finite")
E3M2 = Minifloat(3, 2, special="finite")
E2M1 = Minifloat(2, 1, special="finite")
FLOAT16 = Minifloat(5, 10)
BFLOAT16 = Minifloat(8, 7)
