"""Offsets through max pooling: which entry of a window is chosen may change with the offset."""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def pooled(at: jax.Array, by: jax.Array, most: jax.Array, params: dict[str, Any]) -> jax.Array:
    """max (at + by) - max at in every window, as max ((at - max at) + by).

    Args:
      at: operand of `reduce_window_max`.
      by: its offset.
      most: what that operation gives.
      params: its parameters.
    """
    dilated = (*params["base_dilation"], *params["window_dilation"])
    if any(dilation != 1 for dilation in dilated):
        raise ValueError("windows are not dilated")
    best = None
    for start in _places(params):
        gap = _distance(_entries(at, most.shape, start, params, -jnp.inf), most, by.dtype)
        change = gap + _entries(by, most.shape, start, params, 0)
        best = change if best is None else jnp.maximum(best, change)
    assert best is not None
    return best


def unpooled(
    source: tuple[jax.Array, jax.Array],
    operand: tuple[jax.Array, jax.Array],
    params: dict[str, Any],
) -> jax.Array:
    """Offset of the gradient of max pooling, which goes to the first largest of each window.

    Args:
      source: gradient by the pooled values, and its offset.
      operand: what was pooled, and its offset.
      params: of `select_and_scatter_add`.
    """
    if params["select_prim"].name != "ge":
        raise ValueError("windows choose their largest entries")
    (gradient, change), (at, by) = source, operand
    shape, dtype = gradient.shape, change.dtype
    starts = list(_places(params))
    values = [_entries(at, shape, start, params, -jnp.inf) for start in starts]
    most = values[0]
    for value in values[1:]:
        most = jnp.maximum(most, value)
    gaps = [_distance(value, most, dtype) for value in values]
    moved = [
        gap + _entries(by, shape, start, params, 0)
        for gap, start in zip(gaps, starts, strict=True)
    ]
    before, after = _first_largest(gaps), _first_largest(moved)
    there = gradient.astype(dtype) + change
    total = jnp.zeros(at.shape, dtype)
    for place, start in enumerate(starts):
        was, is_now = before == place, after == place
        part = jnp.where(is_now, jnp.where(was, change, there), 0)
        part = jnp.where(was & ~is_now, -gradient.astype(dtype), part)
        total = total + _spread(part, at.shape, start, params)
    return total


def _places(params: dict[str, Any]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(size) for size in params["window_dimensions"]))


def _entries(x, shape, start, params, outside):
    """The entry at `start` of every window: `shape` of them, `outside` in the padding."""
    edges = [(low, high, 0) for low, high in params["padding"]]
    padded = lax.pad(x, jnp.asarray(outside, x.dtype), edges)
    strides = params["window_strides"]
    ends = [b + (n - 1) * s + 1 for b, n, s in zip(start, shape, strides, strict=True)]
    return lax.slice(padded, start, ends, strides)


def _spread(part, shape, start, params):
    """The transpose of `_entries`."""
    edges = []
    for axis, (low, _) in enumerate(params["padding"]):
        stride = params["window_strides"][axis]
        before = start[axis] - low
        length = (part.shape[axis] - 1) * stride + 1
        edges.append((before, shape[axis] - before - length, stride - 1))
    return lax.pad(part, jnp.zeros((), part.dtype), edges)


def _distance(value, most, dtype):
    return jnp.where(value == most, 0, value - most).astype(dtype)


def _first_largest(values):
    """Index of the first largest of a list of arrays, elementwise."""
    best, index = values[0], jnp.zeros(values[0].shape, jnp.int32)
    for place, value in enumerate(values[1:], 1):
        index = jnp.where(value > best, place, index)
        best = jnp.maximum(best, value)
    return index
