"""What HALP's codes stand for: values of the offset in units of its spacing."""

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from lpml.formats import Fixed, Format, Table, round_to_integer
from lpml.formats.branches import computed_once, elementwise_once, if_needed
from lpml.formats.float_bits import from_bits, to_bits
from lpml.optim.box import box_edge, chosen_format, is_scaled
from lpml.optim.dither import stored_words, words


class Rounded(NamedTuple):
    """Numbers on a grid, as floats, so that a NaN stays visible."""

    values: jax.Array
    beyond: jax.Array  # () int32: how many wanted to be beyond the edge
    peak: jax.Array  # () of the values' dtype: the largest magnitude, NaN if there is one


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

    def round(
        self,
        wanted: jax.Array,
        mode: str,
        *,
        key: jax.Array | None,
        after: jax.Array | None = None,
    ) -> Rounded:
        """The values that `wanted` is rounded to, in its dtype.

        Args:
          wanted: any numbers.
          mode: of `lpml.formats`.
          key: PRNG key of the stochastic mode.
          after: see `computed_once`.
        """
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

    def round(
        self,
        wanted: jax.Array,
        mode: str,
        *,
        key: jax.Array | None,
        after: jax.Array | None = None,
    ) -> Rounded:
        """Rounded first and clipped then; beyond the edge is what had to be clipped."""
        low, high = self.code.limits(wanted.dtype)

        def rounded(part, start, *key):
            bits = words(*key, part.shape, start) if key else None
            return round_to_integer(part, mode, bits=bits)

        def clips(free, low, high):
            return _count(jnp.clip(free, low, high) != free)

        keys = () if key is None else (jax.random.key_data(key),)
        free = elementwise_once(rounded, wanted, *keys, after=after)
        values = jnp.clip(free, low, high)
        peak = _peak(values)
        return Rounded(values, if_needed(~(peak < high), clips, free, low, high), peak)

    def encode(self, values: jax.Array) -> jax.Array:
        """The same numbers as integers."""
        if self.code_dtype == jnp.int32 or not jnp.issubdtype(values.dtype, jnp.floating):
            return values.astype(self.code_dtype)
        # Up to 16 bits: 1.5 * 2^23 moves the integer to the low bits of a float32. What a cast
        # to few bits spends on NaN and on what is out of range takes longer than this.
        low_bits = to_bits(values.astype(jnp.float32) + jnp.float32(1.5 * 2**23))
        return low_bits.astype(self.code_dtype)

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

    def round(
        self,
        wanted: jax.Array,
        mode: str,
        *,
        key: jax.Array | None,
        after: jax.Array | None = None,
    ) -> Rounded:
        """Values beyond the edge, where the format has them, are kept and counted."""
        bits = None if key is None else stored_words(key, wanted.shape, after)
        values = self.fmt.round(wanted, mode, bits=bits, gradient="none")
        # among the formats, some write NaN as a number or as infinity
        values = jnp.where(jnp.isnan(wanted), wanted, values)
        values = computed_once(lambda v: v, values, after=after)
        outside = jnp.abs(wanted) > self.edge(wanted.dtype)
        return Rounded(values, _count(outside), _peak(values))

    def encode(self, values: jax.Array) -> jax.Array:
        """Exact, for values of the format."""
        return self.fmt.encode(values)

    def decode(self, codes: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
        """As the format decodes them."""
        return self.fmt.decode(codes, dtype)


def _count(flags):
    return jnp.sum(flags, dtype=jnp.int32)


def _peak(values):
    """As max |values|, by patterns: of positive floats they are ordered too, NaN on top.

    XLA takes the maximum of ten thousand floats one by one, of integers in vectors.
    """
    return from_bits(jnp.max(to_bits(jnp.abs(values)), initial=0))


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
