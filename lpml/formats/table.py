"""Any finite set of numbers: codebooks such as NormalFloat, logarithmic grids."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lpml.formats.float_bits import magnitude, to_bits
from lpml.formats.protocol import Elementwise
from lpml.formats.rounding import goes_up

MOST_VALUES = 2**16
# Between these, sums of two values and their rounding errors are normal float32 numbers.
LEAST, MOST = 2.0**-100, 2.0**120


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Table(Elementwise):
    """The values of a list; the code of a value is its position, so code order is value order.

    Nearest is by arithmetic midpoints, decided exactly, ties to the even position; values
    outside become the nearest end. `round` keeps NaN; `encode` gives it the code after the
    last where `code_dtype` has one left (it decodes to NaN), else 0.

    Each value costs about log2(number of values) steps of a search: for grids with a formula
    the other formats are far faster.

    Args:
      points: (n,), 2 to 2^16 finite numbers, ascending and distinct in float32; those that
        are not 0 have magnitudes of 2^-100 to 2^120. May be traced (then unchecked). In
        float32 the values are their float32 roundings.
    """

    points: Any

    def __post_init__(self):
        if isinstance(self.points, (int, float, str)):
            raise ValueError(f"points = {self.points!r} must be a list of numbers")
        if isinstance(self.points, (list, tuple, np.ndarray)):
            object.__setattr__(self, "points", _checked(np.asarray(self.points, np.float64)))

    @property
    def static_bits(self) -> int:
        """The width of a code."""
        return max(1, (self.points.shape[-1] - 1).bit_length())

    @property
    def largest(self) -> Any:
        """The last value; a float unless the points are traced or on a device."""
        return float(self.points[-1]) if self._known else self.points[-1]

    @property
    def smallest(self) -> Any:
        """The smallest positive value, infinity if there is none."""
        if self._known:
            return float(min(self.points[self.points > 0], default=np.inf))
        return jnp.min(self.points, where=self.points > 0, initial=jnp.inf)

    def values(self) -> np.ndarray:
        """All values, ascending, float64 of shape (n,)."""
        return np.asarray(self.points, np.float64)

    @property
    def _known(self):
        return isinstance(self.points, np.ndarray)

    @property
    def _nan_code(self):
        count = self.points.shape[-1]
        return count if count <= jnp.iinfo(self.code_dtype).max else 0

    def _range(self, dtype):
        points = jnp.asarray(self.points, dtype)
        return points[0], points[-1]

    def _round(self, x, mode, bits):
        points = jnp.asarray(self.points, x.dtype)
        return jnp.where(jnp.isnan(x), x, points[self._position(x, points, mode, bits)])

    def _encode(self, x, mode, bits):
        points = jnp.asarray(self.points, x.dtype)
        return jnp.where(jnp.isnan(x), self._nan_code, self._position(x, points, mode, bits))

    def _decode(self, codes, dtype):
        points = jnp.asarray(self.points, dtype)
        codes = codes.astype(jnp.int32)
        last = points.shape[0] - 1
        return jnp.where(codes > last, jnp.nan, points[jnp.minimum(codes, last)])

    def _position(self, x, points, mode, bits):
        x = jnp.clip(_without_subnormals(x), points[0], points[-1])
        below = jnp.searchsorted(points, x, side="right").astype(jnp.int32) - 1
        below = jnp.clip(below, 0, points.shape[0] - 2)
        low, high = points[below], points[below + 1]
        up = _chooses_upper(x, low, high, below, mode, bits)
        return below + ((x == high) | ((x > low) & up))


def _chooses_upper(x, low, high, below, mode, bits):
    """Whether x, strictly between its neighbours, goes to the upper one."""
    if mode == "zero":
        return x < 0
    if mode == "away":
        return x > 0
    if mode == "odd":
        return below % 2 == 0
    if mode == "stochastic":
        return goes_up((x - low) / (high - low), bits)
    # 2 x against low + high, the latter as a sum and its exact rounding error
    total = low + high
    part = total - low
    error = (low - (total - part)) + (high - part)
    above = (2 * x > total) | ((2 * x == total) & (error < 0))
    tie = (2 * x == total) & (error == 0)
    return above | (tie & ((below % 2 == 1) | (mode == "half_up")))


def _without_subnormals(x):
    """Subnormal numbers, that compare as 0 where they are flushed, become the least normal.

    No value but 0 is as small, so this crosses none.
    """
    size = magnitude(to_bits(x))
    least = jnp.asarray(jnp.finfo(x.dtype).tiny, x.dtype)
    flushed = (size > 0) & (size < to_bits(least))
    return jnp.where(flushed, jnp.where(to_bits(x) < 0, -least, least), x)


def _checked(points):
    if points.ndim != 1 or not 2 <= len(points) <= MOST_VALUES:
        raise ValueError(f"a Table takes a list of 2 to {MOST_VALUES} numbers")
    if not np.isfinite(points).all():
        raise ValueError("the values of a Table must be finite")
    size = np.abs(points[points != 0])
    if (size < LEAST).any() or (size > MOST).any():
        raise ValueError("the values of a Table must be 0 or of magnitude 2^-100 to 2^120")
    if not (np.diff(points.astype(np.float32)) > 0).all():
        raise ValueError("the values of a Table must ascend and be distinct in float32")
    return points
