"""Blocks of consecutive numbers along an axis: their largest magnitudes, their scales spread.

Written so that XLA leaves two kernels: one that reads the numbers and writes a maximum per
block, one that works in place. The second needs every operation on the numbers themselves to
be elementwise in their own shape, so it is the scales that are reshaped, never the numbers.
"""

import jax
import jax.numpy as jnp

# XLA's reduction of a last axis is scalar code on CPUs, except for a width of 8 after an
# elementwise maximum of a few slices: three to eight times faster than one reduction.
LANES = 8
FOLDS = (8, 4, 2)


def block_maximum(
    size: jax.Array, block: int | str, axis: int, *, ragged: str = "refuse"
) -> jax.Array:
    """The largest of every block.

    Args:
      size: integers >= 0 of any shape (patterns of magnitudes: they compare like the floats,
        but without flushing or NaN rules that would slow the loop).
      block: how many consecutive ones share a scale; "axis": all along it; "tensor": all.
      axis: negative, counted from the end.
      ragged: "pad" completes the last block with zeros.

    Returns:
      As `size`, but of length ceil(length / block) along `axis`; 1 for "axis"; 1 along all
      axes for "tensor".
    """
    if block == "tensor":
        rows = _along(size, size.shape[-1], -1) if size.ndim and size.size else size
        return jnp.max(rows, keepdims=True, initial=0)
    length = size.shape[axis]
    if not isinstance(block, int):
        return _along(size, length, axis) if length else _nothing(size, axis)
    count = blocks_along(length, block, axis, ragged)
    if count * block != length:
        missing = [(0, 0)] * size.ndim
        missing[axis] = (0, count * block - length)
        size = jnp.pad(size, missing)
    return _along(size, block, axis)


def _along(size, block, axis):
    """Maxima of blocks that divide the axis; behind a barrier, as what reads them is large.

    Without it XLA computes them again where they are spread, or reduces them in one go.
    """
    place = size.ndim + axis
    count = size.shape[axis] // block
    before, after = size.shape[:place], size.shape[place + 1 :]
    if axis == -1:
        for folds in FOLDS:
            if block % (folds * LANES) == 0:
                top = _folded(size.reshape(-1, folds, LANES), folds)
                top = jax.lax.optimization_barrier(jnp.max(top, axis=-1))
                rest = block // (folds * LANES)
                return jnp.max(top.reshape(*before, count, rest), axis=-1)
    elif block in FOLDS or block == 2 * FOLDS[0]:
        top = _folded(size.reshape(-1, block, *after), block)
        return jax.lax.optimization_barrier(top.reshape(*before, count, *after))
    parts = size.reshape(*before, count, block, *after)
    return jax.lax.optimization_barrier(jnp.max(parts, axis=place + 1))


def _folded(parts, folds):
    """The maximum over the second axis, as elementwise maxima of its slices."""
    top = parts[:, 0]
    for fold in range(1, folds):
        top = jnp.maximum(top, parts[:, fold])
    return top


def _nothing(size, axis):
    return jnp.max(size, axis=axis, keepdims=True, initial=0)


def spread(scales: jax.Array, shape: tuple[int, ...], block: int | str, axis: int) -> jax.Array:
    """Every block's scale at each of its numbers: `scales` of `block_maximum`, to `shape`."""
    if not isinstance(block, int):
        return jnp.broadcast_to(scales, shape)
    place = scales.ndim + axis + 1
    long = (*scales.shape[:place], block, *scales.shape[place:])
    repeated = jnp.broadcast_to(jnp.expand_dims(scales, place), long)
    whole = (*shape[: place - 1], scales.shape[axis] * block, *shape[place:])
    repeated = repeated.reshape(whole)
    return jax.lax.slice_in_dim(repeated, 0, shape[axis], axis=place - 1)


def block_sums(terms: jax.Array, block: int, axis: int) -> jax.Array:
    """Sums over the blocks (the last padded with 0), added up in the order of the elements.

    The order is written out: a compiler's own would depend on shapes and on fusion.
    """
    length = terms.shape[axis]
    place = terms.ndim + axis
    total = jnp.zeros((), terms.dtype)
    for offset in range(block):
        part = jax.lax.slice_in_dim(terms, min(offset, length), length, block, axis=place)
        short = -(-length // block) - part.shape[axis]
        if short:
            part = jnp.pad(part, [(0, short if i == place else 0) for i in range(terms.ndim)])
        total = total + part
    return total


def blocks_along(length: int, block: int, axis: int, ragged: str) -> int:
    """How many blocks an axis has; ValueError where they do not divide it under "refuse"."""
    if length % block and ragged == "refuse":
        raise ValueError(
            f"blocks of {block} do not divide axis {axis} of length {length}; choose another "
            'block or axis, or ragged="pad"'
        )
    return -(-length // block)


def negative_axis(axis: int, ndim: int) -> int:
    """`axis` counted from the end, which added leading axes leave as it is."""
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} is none of an array of {ndim} axes")
    return axis - ndim if axis >= 0 else axis
