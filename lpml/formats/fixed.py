"""Fixed point: equally spaced values, stored as small integers."""

import dataclasses
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lpml.formats.float_bits import magnitude, to_bits
from lpml.formats.protocol import Elementwise, check_width
from lpml.formats.rounding import round_to_integer

MAX_BITS = 32


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fixed(Elementwise):
    """Two's complement fixed point: {scale * j : -2^(bits-1) <= j <= 2^(bits-1) - 1}.

    The range has one more negative than positive code (HALP, section 2: dom(delta, b)).
    A value outside is rounded first and clamped then, so the result is on the grid; so are
    infinities. NaN has no code: `round` keeps it, `encode` gives 0.

    Args:
      scale: spacing of the grid, > 0; a scale of 0 leaves the single value 0. May be traced,
        and may be an array that broadcasts against the values.
      bits: width, 2 to 32. May be traced: one compiled program then serves every width.
    """

    scale: jax.typing.ArrayLike = 1.0
    bits: int | jax.Array = 8

    def __post_init__(self):
        check_width("bits", self.bits)
        if isinstance(self.scale, (int, float)) and not self.scale >= 0:
            raise ValueError(f"scale = {self.scale} must be a number of at least 0")
        bits = self.static_bits
        if bits is not None and not 2 <= bits <= MAX_BITS:
            raise ValueError(f"bits = {bits} is outside of 2 to {MAX_BITS}")

    @classmethod
    def spanning(cls, radius: jax.typing.ArrayLike, bits: int | jax.Array) -> "Fixed":
        """The format of `bits` whose largest positive value is `radius` (> 0)."""
        if not isinstance(radius, jax.Array) and not np.asarray(radius) > 0:
            raise ValueError(f"radius = {radius} must be positive")
        unit = cls(1.0, bits)
        if unit.static_bits is None:
            return cls(radius / unit.limits(jnp.result_type(float))[1], bits)
        return cls(radius / (2 ** (unit.static_bits - 1) - 1), bits)

    @property
    def static_bits(self) -> int | None:
        """The width as a Python int, or None where it is traced."""
        try:
            return operator.index(self.bits)
        except TypeError:
            return None

    @property
    def code_dtype(self) -> jnp.dtype:
        """The smallest integer type that holds a code: int8, int16, else int32."""
        bits = self.static_bits or MAX_BITS
        return jnp.dtype(jnp.int8 if bits <= 8 else jnp.int16 if bits <= 16 else jnp.int32)

    def limits(self, dtype: jax.typing.DTypeLike = jnp.float32) -> tuple[jax.Array, jax.Array]:
        """Smallest and largest code, as floats of `dtype`.

        Where 2^(bits-1) - 1 is no number of `dtype` (float32 beyond 24 bits) the largest
        code is the next smaller number that is.
        """
        dtype = jnp.dtype(dtype)
        top = jnp.ldexp(jnp.ones((), dtype), jnp.asarray(self.bits, jnp.int32) - 1)
        gap = jnp.maximum(1, top * (jnp.finfo(dtype).eps / 2))
        return -top, top - gap

    def values(self) -> np.ndarray:
        """All values in ascending order, float64 of shape (2^bits,); static widths up to 16."""
        bits = self.static_bits
        if bits is None or bits > 16:
            raise ValueError("values() lists formats of a known width of at most 16 bits")
        return np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)) * float(np.asarray(self.scale))

    @property
    def largest(self) -> Any:
        """The largest value; a float where scale and width are known, else an array."""
        return self._times_scale(2.0 ** (self.bits - 1) - 1)

    @property
    def smallest(self) -> Any:
        """The smallest positive value: the spacing."""
        return self._times_scale(1.0)

    def _times_scale(self, code):
        known = self.static_bits is not None and np.ndim(self.scale) == 0
        if known and not isinstance(self.scale, jax.Array):
            return code * float(np.asarray(self.scale))
        return jnp.asarray(code, jnp.result_type(float)) * self.scale

    def _range(self, dtype):
        low, high = self.limits(dtype)
        scale = jnp.asarray(self.scale, dtype)
        return low * scale, high * scale

    def _round(self, x, mode, bits):
        values = self._float_codes(x, mode, bits) * jnp.asarray(self.scale, x.dtype)
        # The choice keeps compilers from fusing this product with a sum that the caller
        # takes next: the fused result would be no sum of values of the format.
        return jnp.where(jnp.isnan(x), x, values)

    def _encode(self, x, mode, bits):
        codes = self._float_codes(x, mode, bits)
        return jnp.where(jnp.isnan(codes), 0, codes)

    def _decode(self, codes, dtype):
        values = codes.astype(dtype) * jnp.asarray(self.scale, dtype)
        return jnp.where(codes == 0, 0, values)  # as in _round

    def _float_codes(self, x, mode, bits):
        scale = jnp.asarray(self.scale, x.dtype)
        steps = x / jnp.where(scale > 0, scale, 1)
        # x / scale can miss its integer by an ulp: values of the format must stay as they are
        whole = jnp.round(steps)
        steps = jnp.where(whole * scale == x, whole, steps)
        if mode in ("away", "odd"):
            # what the division flushed to zero is still no value of the format
            lost = (steps == 0) & (magnitude(to_bits(x)) > 0)
            tiny = jnp.copysign(jnp.finfo(x.dtype).tiny, x)
            steps = jnp.where(lost, tiny, steps)
        steps = jnp.where((scale > 0) | jnp.isnan(x), steps, 0)
        low, high = self.limits(x.dtype)
        return jnp.clip(round_to_integer(steps, mode, bits=bits), low, high)
