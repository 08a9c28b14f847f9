"""Formats as iterates are held in them: stretched to a box, or in blocks of a leaf."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from lpml.formats import Fixed, Format, Scaled
from lpml.optim.box import box_edge, chosen_format, is_scaled


@dataclasses.dataclass(frozen=True)
class Stretched:
    """The values unit * v, v of an elementwise format."""

    fmt: Any
    unit: jax.typing.ArrayLike

    def round(
        self,
        x: jax.Array,
        mode: str = "nearest",
        *,
        key: jax.Array | None = None,
        bits: jax.Array | None = None,
    ) -> jax.Array:
        """The value that `x` is rounded to, in the dtype of `x`."""
        unit = jnp.asarray(self.unit, x.dtype)
        steps = x / unit
        # x / unit can miss its value by an ulp: what is on the grid must stay as it is
        near = self.fmt.round(steps, "nearest")
        steps = jnp.where(near * unit == x, near, steps)
        values = self.fmt.round(steps, mode, key=key, bits=bits) * unit
        # the choice keeps compilers from fusing this product with a sum taken next
        return jnp.where(jnp.isnan(x), x, values)


@dataclasses.dataclass(frozen=True)
class Blocked:
    """A scaled format on leaves of any shape.

    Blocks lie where a layer sums: along the second to last axis of kernels (inputs, outputs),
    along the only axis of a bias; a scalar is a block. Last blocks may be incomplete.
    """

    fmt: Scaled

    def round(
        self,
        x: jax.Array,
        mode: str = "nearest",
        *,
        key: jax.Array | None = None,
        bits: jax.Array | None = None,
    ) -> jax.Array:
        """What `x` is rounded to, in its dtype."""
        whole = jnp.atleast_1d(x)
        bits = None if bits is None else jnp.atleast_1d(bits)
        padded = dataclasses.replace(self.fmt, ragged="pad")
        axis = -2 if whole.ndim > 1 else -1
        return padded.round(whole, mode, key=key, bits=bits, axis=axis).reshape(x.shape)


def iterate_format(
    format: str | Format | None,
    bits: int | jax.Array | None,
    radius: float | jax.Array | None,
) -> Any:
    """What rounds an iterate: anything with `round(x, mode, key=..., bits=...)`.

    Args:
      format: a name, a format, or None: fixed point that reaches `radius`.
      bits: width of that fixed point.
      radius: the weight at the format's edge (see `box_edge`), > 0. None: 1 without a format,
        and with one its values as they are.

    Raises:
      ValueError: see `chosen_format`; or a radius for a format with scales of its own.
    """
    fmt = chosen_format(format, bits)
    if is_scaled(fmt):
        if radius is not None:
            raise ValueError(
                f"format {format} finds the scale of each block by itself; leave radius away"
            )
        return Blocked(fmt)
    if radius is None and format is not None:
        return fmt
    radius = 1.0 if radius is None else radius
    if type(fmt) is Fixed:
        return Fixed.spanning(radius, fmt.bits)
    if not isinstance(radius, jax.Array) and not radius > 0:
        raise ValueError(f"radius = {radius} must be positive")
    return Stretched(fmt, radius / box_edge(fmt, jnp.result_type(float)))
