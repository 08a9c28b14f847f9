"""Fixed point: equally spaced values, stored as small integers."""

import dataclasses
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from lpml.formats.rounding import round_to_integer

MAX_BITS = 32


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fixed:
    """Two's complement fixed point: {scale * j : -2^(bits-1) <= j <= 2^(bits-1) - 1}.

    The range has one more negative than positive code (HALP, section 2: dom(delta, b)).
    A value outside is rounded first and clamped then, so the result is on the grid.

    Args:
      scale: spacing of the grid, > 0; a scale of 0 leaves the single value 0. May be traced,
        and may be an array that broadcasts against the values.
      bits: width, 2 to 32. May be traced: one compiled program then serves every width.
    """

    scale: jax.typing.ArrayLike = 1.0
    bits: int | jax.Array = 8

    def __post_init__(self):
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

    def round(
        self,
        x: Float[Array, "*shape"],
        mode: str = "nearest",
        *,
        key: jax.Array | None = None,
        noise: Float[Array, "*shape"] | None = None,
    ) -> Float[Array, "*shape"]:
        """The value of the format that `x` is rounded to, in the dtype of `x`.

        Args:
          x: values to round; NaN stays NaN, infinities saturate.
          mode: see `lpml.formats.round_to_integer`.
          key: PRNG key of the stochastic mode.
          noise: uniform numbers in [0, 1) in place of a key.
        """
        scale = jnp.asarray(self.scale, x.dtype)
        codes = self._float_codes(x, mode, key, noise)
        return codes * scale

    def encode(
        self,
        x: Float[Array, "*shape"],
        mode: str = "nearest",
        *,
        key: jax.Array | None = None,
        noise: Float[Array, "*shape"] | None = None,
    ) -> Int[Array, "*shape"]:
        """Integer codes of `code_dtype`; arguments as in `round`. NaN gives 0."""
        codes = self._float_codes(x, mode, key, noise)
        return jnp.where(jnp.isnan(codes), 0, codes).astype(self.code_dtype)

    def decode(
        self, codes: Int[Array, "*shape"], dtype: jax.typing.DTypeLike = jnp.float32
    ) -> Float[Array, "*shape"]:
        """The values of integer codes, as floats of `dtype`."""
        return codes.astype(dtype) * jnp.asarray(self.scale, dtype)

    def values(self) -> np.ndarray:
        """All values in ascending order, float64 of shape (2^bits,); static widths up to 16."""
        bits = self.static_bits
        if bits is None or bits > 16:
            raise ValueError("values() lists formats of a known width of at most 16 bits")
        return np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)) * float(np.asarray(self.scale))

    def _float_codes(self, x, mode, key, noise):
        scale = jnp.asarray(self.scale, x.dtype)
        steps = x / jnp.where(scale > 0, scale, 1)
        # x / scale can miss its integer by an ulp: values of the format must stay as they are
        whole = jnp.round(steps)
        steps = jnp.where(whole * scale == x, whole, steps)
        steps = jnp.where((scale > 0) | jnp.isnan(x), steps, 0)
        low, high = self.limits(x.dtype)
        return jnp.clip(round_to_integer(steps, mode, key=key, noise=noise), low, high)
