"""What HALP's codes stand for: values of the offset in units of its spacing."""

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from lpml.formats import Fixed, Format, Table, round_to_integer
from lpml.optim.box import box_edge, chosen_format, is_scaled


class Rounded(NamedTuple):
    """Numbers on a grid, as floats, so that a NaN stays visible."""

    values: jax.Array
    beyond: jax.Array  # () float32: how many wanted to be beyond the edge


class OffsetGrid(Protocol):
    """Values q of the offset z = spacing * q, and the codes they are stored as."""

    @property
    def code_dtype(self) -> jnp.dtype:
        """Integer type of the codes."""
        ...

    def edge(self, dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
        """() of `dtype`: the value at which the box ends that the spacing is chosen for."""
        ...

    def origin(self, shape: tuple[int, ...]) -> jax.Array:
        """Codes of 0."""
        ...

    def round(self, wanted: jax.Array, mode: str, *, key: jax.Array | None) -> Rounded:
        """The values that `wanted` is rounded to, in its dtype."""
        ...

    def encode(self, values: jax.Array) -> jax.Array:
        """Codes of values of the grid; any for NaN."""
        ...

    def decode(self, codes: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
        """The values of codes, as floats of `dtype`."""
        ...


@dataclasses.dataclass(frozen=True)
class IntegerGrid:
    """Equally spaced values, which are the codes themselves; the box is all there is.

    Args:
      code: the fixed point of spacing 1; its width may be traced.
    """

    code: Fixed

    @property
    def code_dtype(self) -> jnp.dtype:
        """int8 up to 8 bits, int16 up to 16, int32 above and for traced widths."""
        return self.code.code_dtype

    def edge(self, dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
        """The largest positive code."""
        return self.code.limits(dtype)[1]

    def origin(self, shape: tuple[int, ...]) -> jax.Array:
        """Zeros."""
        return jnp.zeros(shape, self.code_dtype)

    def round(self, wanted: jax.Array, mode: str, *, key: jax.Array | None) -> Rounded:
        """Rounded first and clipped then; beyond the edge is what had to be clipped."""
        free = round_to_integer(wanted, mode, key=key)
        codes = jnp.clip(free, *self.code.limits(free.dtype))
        return Rounded(codes, jnp.sum(codes != free, dtype=jnp.float32))

    def encode(self, values: jax.Array) -> jax.Array:
        """The same numbers as integers."""
        return values.astype(self.code_dtype)

    def decode(self, codes: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
        """The same numbers as floats."""
        return codes.astype(dtype)


@dataclasses.dataclass(frozen=True)
class FormatGrid:
    """The values of any elementwise format: minifloats, posits, tables.

    Args:
      fmt: the format. Its widths may be traced, as in `lpml.formats`.
    """

    fmt: Any

    @property
    def code_dtype(self) -> jnp.dtype:
        """The format's: uint8 for eight-bit minifloats, int8 for eight-bit posits."""
        return self.fmt.code_dtype

    def edge(self, dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
        """See `box_edge`."""
        return box_edge(self.fmt, dtype)

    def origin(self, shape: tuple[int, ...]) -> jax.Array:
        """Codes of 0, which in a table need not be 0."""
        return self.fmt.encode(jnp.zeros(shape, jnp.float32))

    def round(self, wanted: jax.Array, mode: str, *, key: jax.Array | None) -> Rounded:
        """Values beyond the edge, where the format has them, are kept and counted."""
        values = self.fmt.round(wanted, mode, key=key, gradient="none")
        # among the formats, some write NaN as a number or as infinity
        values = jnp.where(jnp.isnan(wanted), wanted, values)
        outside = jnp.abs(wanted) > self.edge(wanted.dtype)
        return Rounded(values, jnp.sum(outside, dtype=jnp.float32))

    def encode(self, values: jax.Array) -> jax.Array:
        """Exact, for values of the format."""
        return self.fmt.encode(values)

    def decode(self, codes: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
        """As the format decodes them."""
        return self.fmt.decode(codes, dtype)


def offset_grid(format: str | Format | None, bits: int | jax.Array | None) -> OffsetGrid:
    """The grid that HALP's arguments `format` and `bits` describe.

    Raises:
      ValueError: see `chosen_format`; or a format that an offset cannot be held in.
    """
    fmt = chosen_format(format, bits)
    if is_scaled(fmt):
        raise ValueError(
            f"format {format} scales its blocks by itself, and each change of a block's scale "
            "would round again what HALP's own spacing keeps exact; take an elementwise format"
        )
    if not _holds_offsets(fmt):
        raise ValueError(f"an offset needs 0 and both signs, which {fmt} lacks")
    if isinstance(fmt, Fixed):
        # the spacing is HALP's to choose: of the format, only its codes count
        return IntegerGrid(dataclasses.replace(fmt, scale=1.0))
    return FormatGrid(fmt)


def _holds_offsets(fmt):
    if isinstance(fmt, Table):
        values = fmt.values()
        return bool(values[0] < 0 < values[-1] and (values == 0).any())
    return getattr(fmt, "signed", True)
