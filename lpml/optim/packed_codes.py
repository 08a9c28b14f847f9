"""Codes of a known width as bytes: how optimizers hold tensors in few bits."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from lpml.formats import Format, Scaled, pack_codes, unpack_codes
from lpml.optim.box import chosen_format, is_scaled

BYTE = 8


def state_format(format: str | Format | Scaled) -> Any:
    """The format of a state, hashable, for it is a part of the state's structure.

    Scaled formats pad their last blocks.

    Raises:
      ValueError: no such format; one with a width or a scale that is traced.
    """
    fmt: Any = chosen_format(format, None)
    try:
        hash(fmt)
    except TypeError:
        fmt = None
    if fmt is None or fmt.static_bits is None:
        raise ValueError(
            f"format = {format!r} of a state must have a width and a scale that are known "
            "before the program runs"
        )
    return dataclasses.replace(fmt, ragged="pad") if is_scaled(fmt) else fmt


def packed(codes: jax.Array, bits: int) -> jax.Array:
    """Bytes along the last axis; floats and codes of more than a byte as they are."""
    if bits > BYTE or not jnp.issubdtype(codes.dtype, jnp.integer):
        return codes
    return pack_codes(codes, bits)


def unpacked(codes: jax.Array, bits: int, count: int, dtype: jax.typing.DTypeLike) -> jax.Array:
    """The `count` codes of each row of `packed`, of the integer type `dtype`."""
    if bits > BYTE:
        return codes
    fields = unpack_codes(codes, bits, count)
    if jnp.issubdtype(dtype, jnp.signedinteger):  # two's complement of `bits` bits
        half = 1 << (bits - 1)
        fields = (fields ^ half) - half
    return fields.astype(dtype)


def bytes_of(tree: Any) -> int:
    """Bytes of all arrays of a tree, coded or not."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
