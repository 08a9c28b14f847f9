"""Between device and host: copies of stacks on their way out, and matrices on their way in."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

Parts = dict[int, np.ndarray]
"""Rows of an array [K, ...] by the number of the first one: those that this process holds."""


class Layout(NamedTuple):
    """Shape, type and place of an array of the state, without its contents."""

    shape: tuple[int, ...]
    dtype: Any
    sharding: Any  # None: an array that is bound to no device, as jit makes of such arrays


def layout_of(array: jax.Array) -> Layout:
    """The layout of a stack [K, b, b]."""
    return Layout(array.shape, array.dtype, array.sharding if array.committed else None)


def per_matrix(layout: Layout, dtype: Any) -> Layout:
    """The layout of one number per matrix of a stack."""
    sharding = layout.sharding
    if isinstance(sharding, NamedSharding):
        sharding = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[:1]))
    return Layout(layout.shape[:1], np.dtype(dtype), sharding)


def fetched(array: jax.Array) -> Parts:
    """The rows that lie on devices of this process; those that lie on several, once.

    It waits for the device, and may be called from any thread.
    """
    return {shard.index[0].start or 0: np.asarray(shard.data) for shard in _own(array)}


def _own(array):
    if array.ndim == 0:
        raise ValueError("a scalar has no rows")
    return {shard.index[0].start or 0: shard for shard in array.addressable_shards}.values()


def rows_of(layout: Layout) -> list[tuple[int, int]]:
    """(first row, number of rows) of the parts that this process holds."""
    if layout.sharding is None:
        return [(0, layout.shape[0])]
    places = layout.sharding.addressable_devices_indices_map(layout.shape).values()
    spans = {place[0].indices(layout.shape[0])[:2] for place in places}
    return sorted((start, stop - start) for start, stop in spans)


def placed(parts: Mapping[int, np.ndarray], layout: Layout) -> jax.Array:
    """The array with these rows, laid out as the state has it.

    The layout must be met exactly: another sharding, or one where there was none, would compile
    the step a second time. The contents are copied, so that buffers of workers may change.
    """
    if layout.sharding is None:
        return jnp.array(rows_within(parts, 0, layout.shape[0]), layout.dtype)

    def rows(index):
        start, stop, _ = index[0].indices(layout.shape[0])
        # a device may alias what it is given
        return np.array(rows_within(parts, start, stop - start), layout.dtype)

    return jax.make_array_from_callback(layout.shape, layout.sharding, rows)


def rows_within(parts: Mapping[int, np.ndarray], start: int, count: int) -> np.ndarray | None:
    """Rows `start` to `start` + count, which lie within one of the parts; None: in none."""
    for first, rows in parts.items():
        if first <= start and start + count <= first + len(rows):
            return rows[start - first : start - first + count]
    return None
