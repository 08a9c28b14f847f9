"""From a list of tensors to the equal blocks of a plan, and back."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from lpml.optim.shampoo.blocks import Piece, Plan

# One array [T, b1, .., bk] for each group of a plan.
Tiles = list[jax.Array]


def widened(tree: optax.Updates) -> optax.Updates:
    """In at least float32: squares, their means and norms of bfloat16 would be too coarse."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.result_type(jnp.float32, leaf)), tree
    )


def gather(plan: Plan, leaves: Sequence[jax.Array], dtype: jax.typing.DTypeLike) -> Tiles:
    """The blocks of every group of `plan`, in `dtype`; `leaves` have their own shapes."""
    return [
        jnp.concatenate(
            [_cut(leaves[at.leaf].reshape(plan.shapes[at.leaf]), at) for at in group.pieces],
            dtype=dtype,
        )
        for group in plan.groups
    ]


def scatter(plan: Plan, tiles: Tiles, into: Sequence[jax.Array]) -> list[jax.Array]:
    """The tensors `into` with their blocks replaced by those of `tiles`.

    Diagonal tensors have no blocks and come back as they are. A tile [T, 1, .., 1] fills each
    of its blocks with one value.
    """
    shapes = [leaf.shape for leaf in into]
    merged = [leaf.reshape(shape) for leaf, shape in zip(into, plan.shapes, strict=True)]
    for group, tile in zip(plan.groups, tiles, strict=True):
        start = 0
        for at in group.pieces:
            blocks = tile[start : start + at.number]
            blocks = jnp.broadcast_to(blocks, (at.number, *at.block))
            merged[at.leaf] = _paste(merged[at.leaf], blocks, at)
            start += at.number
    return [leaf.reshape(shape) for leaf, shape in zip(merged, shapes, strict=True)]


def _window(at: Piece) -> tuple[slice, ...]:
    return tuple(
        slice(start, start + count * width)
        for start, count, width in zip(at.starts, at.counts, at.block, strict=True)
    )


def _cut(leaf: jax.Array, at: Piece) -> jax.Array:
    k = len(at.block)
    apart = leaf[_window(at)].reshape(_interleaved(at))
    first_counts = [*range(0, 2 * k, 2), *range(1, 2 * k, 2)]
    return apart.transpose(first_counts).reshape(at.number, *at.block)


def _paste(leaf: jax.Array, blocks: jax.Array, at: Piece) -> jax.Array:
    k = len(at.block)
    interleave = [i // 2 + (k if i % 2 else 0) for i in range(2 * k)]
    apart = blocks.reshape(*at.counts, *at.block).transpose(interleave)
    region = apart.reshape([c * b for c, b in zip(at.counts, at.block, strict=True)])
    if region.shape == leaf.shape:
        return region.astype(leaf.dtype)
    return leaf.at[_window(at)].set(region.astype(leaf.dtype))


def _interleaved(at: Piece) -> list[int]:
    return [n for pair in zip(at.counts, at.block, strict=True) for n in pair]
