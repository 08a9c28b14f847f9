"""Passes over a whole data set, exact also when the last batch is smaller."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def mean_over_data(
    fn: Callable[[dict[str, jax.Array]], Any],
    data: dict[str, jax.Array],
    *,
    batch_size: int = 1024,
    constrain: Callable[[Any], Any] = lambda batch: batch,
    weigh: Callable[[dict[str, jax.Array]], jax.Array] | None = None,
) -> Any:
    """The sample mean of `fn` over `data`, or its mean weighed by `weigh`.

    Args:
      fn: takes a batch, gives a tree of means over that batch's samples (a gradient of a mean
        loss, say).
      data: arrays with one leading axis of N samples, N >= 1.
      batch_size: samples at a time; bounds the memory, does not change the result beyond
        rounding.
      constrain: applied to every batch before `fn`: a sharding constraint, say.
      weigh: takes a batch, gives the () number that its means are taken over, if not that of
        its samples: the words of its sentences, say.

    Returns:
      (1 / N) sum_b n_b fn(batch_b) over batches of n_b samples, every sample once: never the
      mean of batch means, which is biased when N is no multiple of the batch. With `weigh`,
      n_b = weigh(batch_b) and N is their sum, or 1 where that is 0. Summed in at least
      float32, in float64 where x64 is enabled.
    """
    (size,) = {len(leaf) for leaf in jax.tree.leaves(data)}
    batch_size = min(batch_size, size)
    full, rest = divmod(size, batch_size)
    wide = jnp.result_type(float)

    def weighted(batch, samples):
        batch = constrain(batch)
        weight = samples if weigh is None else weigh(batch).astype(wide)
        means = fn(batch) if weigh is None else (fn(batch), jnp.ones((), wide))
        return jax.tree.map(
            lambda v: v.astype(jnp.promote_types(v.dtype, wide)) * weight, means
        )

    def slice_at(start, length):
        return _slice_at(data, start, length)

    if full == 1:
        total = weighted(slice_at(0, batch_size), batch_size)
    else:
        like = jax.eval_shape(lambda: weighted(slice_at(0, batch_size), batch_size))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)

        def body(i, total):
            batch = slice_at(i * batch_size, batch_size)
            return jax.tree.map(jnp.add, total, weighted(batch, batch_size))

        total = jax.lax.fori_loop(0, full, body, zeros)
    if rest:
        total = jax.tree.map(jnp.add, total, weighted(slice_at(full * batch_size, rest), rest))
    if weigh is not None:
        total, weight = total
        return jax.tree.map(lambda leaf: leaf / jnp.maximum(weight, 1), total)
    return jax.tree.map(lambda leaf: leaf / size, total)


def rows_over_data(
    fn: Callable[[dict[str, jax.Array]], jax.Array],
    data: dict[str, jax.Array],
    *,
    batch_size: int,
    constrain: Callable[[Any], Any] = lambda batch: batch,
) -> jax.Array:
    """The rows that `fn` gives for every sample, (N, ...), with no more than a batch inside it.

    Args:
      fn: takes a batch of B samples, gives (B, ...).
      data: arrays with one leading axis of N samples, N >= 1.
      batch_size: samples at a time.
      constrain: as of `mean_over_data`.
    """
    (size,) = {len(leaf) for leaf in jax.tree.leaves(data)}
    batch_size = min(batch_size, size)
    full, rest = divmod(size, batch_size)

    def rows_at(start, length):
        return fn(constrain(_slice_at(data, start, length)))

    if full == 1 and not rest:
        return rows_at(0, size)
    like = jax.eval_shape(lambda: rows_at(0, batch_size))

    def put(rows, start, length):
        return jax.lax.dynamic_update_slice_in_dim(rows, rows_at(start, length), start, 0)

    rows = jax.lax.fori_loop(
        0,
        full,
        lambda i, rows: put(rows, i * batch_size, batch_size),
        jnp.zeros((size, *like.shape[1:]), like.dtype),
    )
    return put(rows, full * batch_size, rest) if rest else rows


def _slice_at(data, start, length):
    return jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, length), data)
