"""Which format a `format` or `bits` argument means, and which of its values a box ends at."""

from typing import Any

import jax
import jax.numpy as jnp

from lpml.formats import Fixed, Format, Posit, Scaled, by_name

DEFAULT_BITS = 8
# Steps are computed in float32 in units of the spacing, box / edge: the edges of formats that
# reach 2^128 would make it vanish.
MOST_EDGE = 2.0**16


def chosen_format(format: str | Format | None, bits: int | jax.Array | None) -> Any:
    """The format that an optimizer's two arguments name.

    Args:
      format: a name of `lpml.formats.by_name`, a format, or None for fixed point.
      bits: width of fixed point; None is DEFAULT_BITS, or with a `format` the format's own.

    Raises:
      ValueError: no such format, or `bits` that are not the format's.
    """
    if format is None:
        return Fixed(1.0, DEFAULT_BITS if bits is None else bits)
    fmt: Any = by_name(format) if isinstance(format, str) else format
    if not isinstance(fmt, Format):
        raise ValueError(f"format = {format!r} must be the name of a number format, or one")
    if bits is not None and (isinstance(bits, jax.Array) or bits != fmt.static_bits):
        raise ValueError(
            f"bits = {bits} contradicts format {format}, whose values take {fmt.static_bits}; "
            "leave bits away"
        )
    return fmt


def box_edge(fmt: Any, dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
    """The value of an elementwise format that stands for the edge of a box.

    For fixed point and minifloats the largest: the first fills the box evenly, the second are
    equally accurate up to there. For posits it is useed = 2^(2^es), where the widest range of
    full accuracy, 1 / useed to useed, ends: the larger ones are left for what leaves the box.
    Nor is it ever above MOST_EDGE.

    Returns:
      () of `dtype`.
    """
    if isinstance(fmt, Fixed):
        return fmt.limits(dtype)[1] * jnp.asarray(fmt.scale, dtype)
    if isinstance(fmt, Posit):
        edge = jnp.ldexp(jnp.ones((), dtype), 1 << jnp.asarray(fmt.es, jnp.int32))
        return jnp.minimum(edge, jnp.asarray(fmt.largest, dtype))
    return jnp.minimum(jnp.asarray(fmt.largest, dtype), MOST_EDGE)


def is_scaled(fmt: Any) -> bool:
    """Whether the format finds a scale for each block of numbers by itself."""
    return isinstance(fmt, Scaled)
