"""What every number format offers, and the checks and conversions that all formats share."""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, UInt32

from lpml.formats.eager import one_program
from lpml.formats.float_bits import opaque
from lpml.formats.gradients import attach_gradient, check_gradient
from lpml.formats.rounding import check_mode, needed_bits


@runtime_checkable
class Format(Protocol):
    """A finite set of numbers, how a real number becomes one of them, and their codes.

    Formats are frozen dataclasses and pytrees: numeric fields are leaves that may be traced
    where the mathematics allows (one compiled program then serves all widths), kinds and
    flags are static. Results are the same bits under eager, jit, vmap and sharding.
    """

    @property
    def static_bits(self) -> int | None:
        """Width of a code in bits, or None where it is traced."""
        ...

    @property
    def code_dtype(self) -> jnp.dtype:
        """Integer type of the codes; two's complement codes are signed, others unsigned."""
        ...

    @property
    def largest(self) -> Any:
        """The largest finite value."""
        ...

    @property
    def smallest(self) -> Any:
        """The smallest positive value."""
        ...

    def round(
        self,
        x: jax.Array,
        mode: str = "nearest",
        *,
        key: jax.Array | None = None,
        bits: jax.Array | None = None,
        gradient: str = "straight_through",
    ) -> jax.Array:
        """The values `x` is rounded to, in its shape and dtype. See `Elementwise.round`."""
        ...

    def encode(
        self,
        x: jax.Array,
        mode: str = "nearest",
        *,
        key: jax.Array | None = None,
        bits: jax.Array | None = None,
    ) -> Any:
        """The codes of the values `x` is rounded to, of `code_dtype`."""
        ...

    def decode(self, codes: Any, dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
        """The values of codes, as floats of `dtype`."""
        ...

    def values(self) -> np.ndarray:
        """All finite values, ascending, float64; formats of a known width up to 16 bits."""
        ...


class Elementwise:
    """Base of the formats that round each number by itself.

    A subclass provides `_round(x, mode, bits)`, `_encode(x, mode, bits)` and
    `_decode(codes, dtype)` for float32 and float64, and `_range(dtype)`, the lowest and
    highest value; modes are checked and `bits` are there where the mode needs them.
    """

    @one_program
    def round(
        self,
        x: Float[Array, "*shape"],
        mode: str = "nearest",
        *,
        key: jax.Array | None = None,
        bits: UInt32[Array, "*shape"] | None = None,
        gradient: str = "straight_through",
    ) -> Float[Array, "*shape"]:
        """The value of the format that `x` is rounded to, in the dtype of `x`.

        Args:
          x: float32, or under x64 float64 (rounded once, from all of its bits). bfloat16 and
            float16 are computed in float32 and cast back, which is exact unless the format's
            values have more bits than they. NaN stays NaN, also where the format has none.
          mode: `"nearest"` (ties to the even code), `"stochastic"` (up with the probability
            that makes the expectation x), `"zero"` (towards zero), `"away"` (away from zero
            unless x is a value), `"odd"` (to the odd code unless x is a value), `"half_up"`
            (nearest, ties upwards).
          key: PRNG key of the stochastic mode.
          bits: uniform random words in place of a key (see `lpml.formats.random_bits`).
          gradient: `"straight_through"` (the identity's), `"clipped"` (0 where x is beyond
            the range), `"none"` (the true one: 0 almost everywhere).
        """
        check_gradient(gradient)
        y = from_wide(opaque(self._round(*_prepared(x, mode, key, bits))), x.dtype)
        if gradient != "clipped":
            return attach_gradient(x, y, gradient)
        low, high = self._range(x.dtype)
        return attach_gradient(x, y, gradient, inside=(x >= low) & (x <= high))

    @one_program
    def encode(
        self,
        x: Float[Array, "*shape"],
        mode: str = "nearest",
        *,
        key: jax.Array | None = None,
        bits: UInt32[Array, "*shape"] | None = None,
    ) -> Integer[Array, "*shape"]:
        """Codes of `code_dtype`; arguments as in `round`."""
        return self._encode(*_prepared(x, mode, key, bits)).astype(self.code_dtype)

    @one_program
    def decode(
        self, codes: Integer[Array, "*shape"], dtype: jax.typing.DTypeLike = jnp.float32
    ) -> Float[Array, "*shape"]:
        """The values of codes, as floats of `dtype`."""
        return from_wide(opaque(self._decode(codes, wide_dtype(dtype))), dtype)

    @property
    def code_dtype(self) -> jnp.dtype:
        """The smallest unsigned integer type that holds a code; uint32 for traced widths."""
        bits = self.static_bits or 32
        return jnp.dtype(jnp.uint8 if bits <= 8 else jnp.uint16 if bits <= 16 else jnp.uint32)

    static_bits: Any
    _round: Any
    _encode: Any
    _decode: Any
    _range: Any


def check_width(name: str, value: Any) -> None:
    """Raises ValueError for what is no whole number: those may be traced, other things not."""
    if isinstance(value, (bool, float, str)):
        raise ValueError(f"{name} = {value!r} must be a whole number")


def wide_dtype(dtype: jax.typing.DTypeLike) -> jnp.dtype:
    """The dtype that values of `dtype` are computed in: float64 for itself, else float32."""
    dtype = jnp.dtype(dtype)
    return dtype if dtype == jnp.float64 else jnp.dtype(jnp.float32)


def from_wide(y: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """`y` in `dtype`, by a cast that compilers do not remove."""
    return _without_excess(y, dtype).astype(dtype)


def to_wide(x: jax.Array) -> jax.Array:
    """`x` in `wide_dtype`, without the bits that XLA may have left in its bfloat16."""
    return _without_excess(x.astype(wide_dtype(x.dtype)), x.dtype)


def _without_excess(y, dtype):
    kind = jnp.finfo(dtype)
    if kind.bits >= 32:
        return y
    # XLA drops casts there and back, but not this
    return jax.lax.reduce_precision(y, kind.nexp, kind.nmant)


def check_floats(x: Any) -> None:
    """Raises ValueError unless `x` is an array of real floats."""
    kind = getattr(x, "dtype", None)
    if kind is None or not jnp.issubdtype(kind, jnp.floating):
        found = type(x).__name__ if kind is None else f"of {kind}"
        raise ValueError(f"formats round arrays of floats, and this is {found}")


def _prepared(x, mode, key, bits):
    check_mode(mode)
    check_floats(x)
    bits = needed_bits(mode, x.shape, key, bits)
    # else the compiler may join a factor of the caller's with a scale of the format's
    return opaque(to_wide(jax.lax.stop_gradient(x))), mode, bits
