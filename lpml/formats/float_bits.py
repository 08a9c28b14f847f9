"""Floats as bit patterns: exponents and powers of two are read and written, not computed.

XLA flushes subnormal float32, its exp2 of an integer may be inexact, and floor(log2(x)) is
off just below powers of two; integers have none of these.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Layout(NamedTuple):
    """Where sign, exponent and significand of a float are, and the integer it fits into."""

    dtype: Any  # the float
    integer: Any  # signed integer of the same width
    width: int
    mantissa: int  # explicit bits
    bias: int

    @property
    def infinity(self) -> np.integer:
        """The pattern of +infinity; those of NaNs are larger."""
        return self.integer((2 * self.bias + 1) << self.mantissa)


FLOAT32 = Layout(jnp.float32, np.int32, 32, 23, 127)
FLOAT64 = Layout(jnp.float64, np.int64, 64, 52, 1023)


def layout_of(dtype: jax.typing.DTypeLike) -> Layout:
    """The layout of float32 or float64."""
    return FLOAT64 if jnp.dtype(dtype) == jnp.float64 else FLOAT32


def to_bits(x: jax.Array) -> jax.Array:
    """The pattern of float32 or float64 as a signed integer of the same width."""
    return jax.lax.bitcast_convert_type(x, layout_of(x.dtype).integer)


def from_bits(pattern: jax.Array) -> jax.Array:
    """The float of an int32 or int64 pattern."""
    dtype = jnp.float64 if pattern.dtype == jnp.int64 else jnp.float32
    return jax.lax.bitcast_convert_type(pattern, dtype)


def opaque(x: jax.Array) -> jax.Array:
    """The same float32 or float64, such that XLA joins no factor before it with one behind.

    XLA makes one product of (x c) s where c and s are known or scalars, which rounds once in
    place of twice: under jit a value could then fall on the other side of a threshold. It
    does not look through integers, and the two operations here cost nothing in the end:
    the code generator sees that they are the identity.
    """
    pattern = to_bits(x)
    sign = jnp.iinfo(pattern.dtype).min
    return from_bits((pattern & sign) | magnitude(pattern))


def magnitude(pattern: jax.Array) -> jax.Array:
    """The pattern without its sign: order and equality of |x|, subnormals included."""
    return pattern & jnp.iinfo(pattern.dtype).max


def power_of_two(exponent: Any, dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
    """2^exponent exactly; exponents beyond those of normal numbers are clipped to them."""
    layout = layout_of(dtype)
    biased = jnp.clip(jnp.asarray(exponent, layout.integer) + layout.bias, 1, 2 * layout.bias)
    return from_bits(biased << layout.mantissa)
