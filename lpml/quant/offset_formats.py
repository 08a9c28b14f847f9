"""What offsets are held in between two operations: floats, or few bits and a scale."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from lpml.formats import BFLOAT16, E4M3FN, E5M2, FLOAT16, Fixed, Minifloat, by_name
from lpml.formats.block_scales import power_exponents
from lpml.formats.branches import computed_once
from lpml.formats.float_bits import layout_of, magnitude, power_of_two, to_bits
from lpml.formats.protocol import wide_dtype

# The machine's own types: a value that was rounded by its pattern is cast without loss.
NATIVE = {
    FLOAT16: jnp.float16,
    BFLOAT16: jnp.bfloat16,
    E4M3FN: jnp.float8_e4m3fn,
    E5M2: jnp.float8_e5m2,
}


class Held(NamedTuple):
    """An offset as it lies in memory: scale * codes."""

    codes: jax.Array
    scale: jax.Array | None  # () power of two; None: 1


class OffsetFormat(Protocol):
    """How an offset is held, and read for the next operation."""

    def hold(self, offset: jax.Array) -> Held:
        """The offset, rounded to nearest."""
        ...

    def read(self, held: Held, dtype: jax.typing.DTypeLike) -> jax.Array:
        """Its value, in the dtype that is computed in."""
        ...


class Unrounded:
    """Offsets as they were computed."""

    def hold(self, offset: jax.Array) -> Held:
        """As it is."""
        return Held(offset, None)

    def read(self, held: Held, dtype: jax.typing.DTypeLike) -> jax.Array:
        """As it is."""
        return held.codes.astype(dtype)


class FewBits(NamedTuple):
    """Offsets in a format, in units of a power of two of each tensor's own.

    The unit is the least one under which the tensor's largest magnitude does not saturate, as
    a gradient's offsets shrink far below the range of most formats while training converges.
    Formats that reach as far as float32 (bfloat16) have none. Rounding one tensor x then costs
    at most u max |x| for each entry, with the u of `unit_roundoff`, while max |x| is a normal
    float32 well inside of its range (about 1e-37 to 1e38).

    Args:
      element: a minifloat, or fixed point whose spacing is 1.
    """

    element: Any

    def hold(self, offset: jax.Array) -> Held:
        """Rounded to nearest; NaN and infinity stay, or make the whole tensor NaN."""
        wide = offset.astype(wide_dtype(offset.dtype))
        if self.element == BFLOAT16:
            # infinity must not saturate: an overflow is to be seen
            codes = jnp.where(jnp.isfinite(wide), self.element.round(wide), wide)
            return Held(codes.astype(jnp.bfloat16), None)
        size = jnp.max(magnitude(to_bits(wide)), initial=0)
        exponent = jnp.where(size == 0, 0, power_exponents(size, "rceil", self.element))
        broken = size >= layout_of(wide.dtype).infinity
        scale = jnp.where(broken, jnp.nan, power_of_two(exponent, wide.dtype))
        unit = power_of_two(-exponent, wide.dtype)
        # an offset has many readers, who would each round it anew
        return Held(computed_once(lambda x, unit: self._stored(x * unit), wide, unit), scale)

    def read(self, held: Held, dtype: jax.typing.DTypeLike) -> jax.Array:
        """scale * codes."""
        if self.element in NATIVE:
            values = held.codes.astype(dtype)
        else:
            values = self.element.decode(held.codes, dtype)
        return values if held.scale is None else values * held.scale.astype(dtype)

    def _stored(self, values):
        if self.element in NATIVE:
            return self.element.round(values).astype(NATIVE[self.element])
        return self.element.encode(values)


def offset_format(name: str | None) -> OffsetFormat:
    """The format that a setting names.

    Args:
      name: `"float32"` or None: as offsets are computed; else a minifloat or fixed point of
        `lpml.formats.by_name` ("float16", "bfloat16", "e4m3fn", "e5m2", "int8"), in units of
        a power of two per tensor. The spacing of fixed point counts for nothing then.

    Raises:
      ValueError: no such format, or one of another kind. Posits are most accurate in the middle
        of their range, where such units do not put the largest entries.
    """
    if name is None or name == "float32":
        return Unrounded()
    try:
        element: Any = by_name(name)
    except ValueError as error:
        raise ValueError(f"offsets in {name!r}: {error}") from error
    if not isinstance(element, Fixed | Minifloat):
        raise ValueError(f"offsets are held in a minifloat or fixed point, not in {name}")
    if isinstance(element, Fixed):
        element = Fixed(1.0, element.bits)
    return FewBits(element)


def unit_roundoff(name: str) -> float:
    """u: an offset x in a format is at most u max |x| away from what it was.

    Half a gap of a float below the largest one, relative to it; of fixed point, whose unit may
    be twice what the largest magnitude needs, 1 / (2^(bits-1) - 1).
    """
    fmt = offset_format(name)
    if not isinstance(fmt, FewBits):
        return float(jnp.finfo(jnp.float32).eps) / 2
    if isinstance(fmt.element, Fixed):
        return 1 / float(fmt.element.largest)
    return 2.0 ** -(fmt.element.mantissa_bits + 1)
