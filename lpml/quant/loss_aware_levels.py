"""The levels of loss-aware weight quantisation: which exist, the nearest one, its code.

Levels are magnitudes in a unit such that they are exact in floats: the spacing for linear
ones, the largest level for logarithmic ones. The papers' alpha is the largest level.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from lpml.formats.float_bits import from_bits, layout_of, power_of_two, to_bits
from lpml.quant.activations import check_word

LEVELS = ("linear", "log")
MOST_BITS = 8


@dataclasses.dataclass(frozen=True)
class LevelSet:
    """Levels +-b of weights in `bits` bits; K = 2^(bits-1) - 1 positive ones.

    ============  =======================================  ==========================
    bits = 1      1; zero is no level                      code 1
    linear        0, 1, ..., K in units of alpha / K       code b
    log           0, 2^-(K-1), ..., 1/2, 1, times alpha    code 1 + j for 2^-j, 0 for 0
    ============  =======================================  ==========================

    Args:
      bits: 1 to 8.
      levels: "linear" or "log"; with 1 or 2 bits these are the same.

    Raises:
      ValueError: bits or levels that do not exist.
    """

    bits: int
    levels: str = "linear"

    def __post_init__(self):
        check_word("levels", self.levels, LEVELS)
        whole = isinstance(self.bits, (int, np.integer)) and not isinstance(self.bits, bool)
        if not whole or not 1 <= self.bits <= MOST_BITS:
            raise ValueError(
                f"bits = {self.bits!r} must be a whole number from 1 to {MOST_BITS}: weights "
                "are stored as int8"
            )

    @property
    def count(self) -> int:
        """K, the number of positive levels and the largest code."""
        return max(1, 2 ** (int(self.bits) - 1) - 1)

    @property
    def top(self) -> float:
        """The largest level, in units."""
        return 1.0 if self.levels == "log" else float(self.count)

    def values(self) -> np.ndarray:
        """All levels >= 0, ascending, float64, in units."""
        if self.bits == 1:
            return np.ones(1)
        if self.levels == "log":
            return np.append(0, 2.0 ** -np.arange(self.count - 1, -1, -1))
        return np.arange(self.count + 1.0)

    def midpoints(self) -> np.ndarray:
        """Where the nearest level changes, ascending, float64, in units; none with 1 bit."""
        values = self.values()
        return (values[1:] + values[:-1]) / 2

    def nearest(self, t: jax.Array) -> jax.Array:
        """The level nearest to each t >= 0 (in units), as a float; either one at a midpoint."""
        if self.bits == 1:
            return jnp.ones_like(t)
        if self.levels == "linear":
            return jnp.minimum(jnp.round(t), self.top)
        # Half a power of two added to the significand carries into the exponent from 1.5 on,
        # which is the midpoint of 1 and 2.
        layout = layout_of(t.dtype)
        carry = layout.integer(1 << (layout.mantissa - 1))
        exponent = layout.infinity
        power = from_bits((to_bits(jnp.minimum(t, 1)) + carry) & exponent)
        smallest = power_of_two(1 - self.count, t.dtype)
        half = power_of_two(-self.count, t.dtype)  # never subnormal: those are flushed
        return jnp.where(t < half, 0, jnp.maximum(power, smallest))

    def encode(self, b: jax.Array) -> jax.Array:
        """int32 codes 0..K of levels."""
        if self.levels == "linear" or self.bits == 1:
            return b.astype(jnp.int32)
        layout = layout_of(b.dtype)
        exponent = (to_bits(b) >> layout.mantissa).astype(jnp.int32)
        return jnp.where(b == 0, 0, 1 + layout.bias - exponent)

    def decode(self, codes: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
        """Signed levels, in units, of signed codes."""
        if self.levels == "linear" or self.bits == 1:
            return codes.astype(dtype)
        wide = codes.astype(jnp.int32)
        level = jnp.where(wide == 0, 0, power_of_two(1 - jnp.abs(wide), dtype))
        return jnp.where(wide < 0, -level, level)
