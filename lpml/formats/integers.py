"""Integers of a symmetric range: the elements of two-level scaled formats and of MXINT8."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from lpml.formats.fixed import Fixed
from lpml.formats.rounding import round_to_integer

DIRECTED = ("away", "odd")  # these see numbers that a product flushes to zero


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Symmetric(Fixed):
    """Fixed point without the most negative code, or without any negative one.

    Signed values are {scale * j : |j| <= 2^(bits-1) - 1}, so that a block and its negative
    are rounded alike; unsigned ones {scale * j : 0 <= j <= 2^bits - 1}, for what comes out
    of a ReLU: numbers below 0 become 0. All else is as in `Fixed`.

    Args:
      scale: spacing, > 0. May be traced.
      bits: width, 2 to 32; unsigned at most 31. May be traced.
      signed: whether there are negative values.
    """

    signed: bool = dataclasses.field(default=True, kw_only=True, metadata={"static": True})

    def __post_init__(self):
        super().__post_init__()
        if not self.signed and self.static_bits == 32:
            raise ValueError("unsigned integers of 32 bits do not exist here; use at most 31")

    @property
    def code_dtype(self) -> jnp.dtype:
        """int8, int16 or int32; unsigned integers of the same widths if not `signed`."""
        dtype = super().code_dtype
        return dtype if self.signed else jnp.dtype(f"u{dtype.name}")

    @property
    def _magnitude_bits(self):
        return self.bits - 1 if self.signed else self.bits

    def limits(self, dtype: jax.typing.DTypeLike = jnp.float32) -> tuple[jax.Array, jax.Array]:
        """Smallest and largest code, as floats of `dtype`; as in `Fixed` beyond 24 bits."""
        dtype = jnp.dtype(dtype)
        top = jnp.ldexp(jnp.ones((), dtype), jnp.asarray(self._magnitude_bits, jnp.int32))
        high = top - jnp.maximum(1, top * (jnp.finfo(dtype).eps / 2))
        return (-high if self.signed else jnp.zeros_like(high)), high

    def values(self) -> np.ndarray:
        """All values in ascending order, float64; static widths up to 16."""
        bits = self.static_bits
        if bits is None or bits > 16:
            raise ValueError("values() lists formats of a known width of at most 16 bits")
        top = 2**self._magnitude_bits - 1
        return np.arange(-top if self.signed else 0, top + 1) * float(np.asarray(self.scale))

    @property
    def largest(self):
        """The largest value; a float where scale and width are known, else an array."""
        return self._times_scale(2.0**self._magnitude_bits - 1)

    def _float_codes(self, x, mode, bits):
        # Fixed's detour is for numbers that the division by an odd scale moves off the grid
        if not isinstance(self.scale, float) or not _is_power(self.scale) or mode in DIRECTED:
            return super()._float_codes(x, mode, bits)
        low, high = self.limits(x.dtype)
        return jnp.clip(round_to_integer(x * (1 / self.scale), mode, bits=bits), low, high)


def _is_power(scale):
    return math.frexp(scale)[0] == 0.5 and 2.0**-64 <= scale <= 2.0**64
