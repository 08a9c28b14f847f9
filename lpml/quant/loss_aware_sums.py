"""Sums and maxima over weights that share a scale, at the speed of one pass over memory.

XLA's reductions on CPUs read the operands once per result and add in scalar code, and add
10^7 float32 numbers one after the other. Where a whole tensor shares a scale, chunks of it
are combined here by elementwise operations instead, with an accumulator per lane: one pass
for all results, vectorised, seven times faster, and fewer roundings in a row.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

CHUNK = 8192  # numbers; operands and accumulators of one stay in the caches

Terms = Callable[..., tuple[jax.Array, ...]]


def sums(
    terms: Terms, arrays: tuple[jax.Array, ...], axes: tuple[int, ...]
) -> tuple[jax.Array, ...]:
    """Each of `terms(*arrays)` summed over the axes, which become 1.

    Args:
      terms: elementwise; what it closes over has shape 1 along the axes.
      arrays: of one shape.
      axes: negative.
    """
    return _reduced(terms, arrays, axes, jnp.add, jnp.sum)


def maxima(
    terms: Terms, arrays: tuple[jax.Array, ...], axes: tuple[int, ...]
) -> tuple[jax.Array, ...]:
    """As `sums`, but the largest of terms >= 0."""
    return _reduced(terms, arrays, axes, jnp.maximum, functools.partial(jnp.max, initial=0))


def _reduced(terms, arrays, axes, combine, whole):
    shape = arrays[0].shape

    def plainly(*arrays):
        return tuple(whole(term, axes, keepdims=True) for term in terms(*arrays))

    if len(axes) < len(shape) or arrays[0].size < 2 * CHUNK:
        return plainly(*arrays)

    def by_chunks(*arrays):
        ones = (1,) * (len(shape) - 1)  # what terms closes over has as many axes
        flat = [one.reshape(*ones, -1) for one in arrays]
        count = flat[0].size // CHUNK

        def of_chunk(i):
            parts = (jax.lax.dynamic_slice_in_dim(x, i * CHUNK, CHUNK, axis=-1) for x in flat)
            return terms(*parts)

        def add(i, totals):
            return jax.tree.map(combine, totals, of_chunk(i))

        lanes = jax.lax.fori_loop(1, count, add, of_chunk(0))
        rest = terms(*(one[..., count * CHUNK :] for one in flat))
        return tuple(
            combine(whole(lane), whole(last)).reshape((1,) * len(shape))
            for lane, last in zip(lanes, rest)
        )

    # an accelerator would start a kernel per chunk, and reduces well by itself
    return jax.lax.platform_dependent(*arrays, cpu=by_chunks, default=plainly)
