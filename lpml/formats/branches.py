"""Branches that a CPU takes for speed alone: work done once, work done only when needed.

XLA's CPU compiler fuses what it thinks cheap into each of its readers, across everything but
a branch (`optimization_barrier` is gone by then). A stochastic rounding has four readers: the
codes, the parameters and two counters, and would be computed for each, noise and all.
Elsewhere a branch costs more than it saves, and nothing here makes one.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

# A loop over so many numbers is not shared out among threads. Sharing a hash of ten thousand
# out takes longer than it, and wakes threads that sums of products then wait for.
PIECE = 1536
# From here on the threads are worth it.
LARGE = 2**16


def computed_once(
    function: Callable[..., jax.Array], *operands: jax.Array, after: jax.Array | None = None
) -> jax.Array:
    """`function(*operands)`, which all of its readers find in memory, as do the operands.

    Args:
      function: of arrays alone; what is traced must not be closed over.
      operands: its arguments; no gradient passes.
      after: () float that is computed before; None: nothing is. If a buffer's old contents
        are needed for it, new contents that depend on the result can take their place without
        a copy.
    """
    return _branched(_once, _barrier, function, _signal(after, operands[0]), operands)


def elementwise_once(
    function: Callable[..., jax.Array],
    values: jax.Array,
    *operands: jax.Array,
    after: jax.Array | None = None,
) -> jax.Array:
    """`function(values, 0, *operands)`, computed once, and on the CPU piece by piece.

    Args:
      function: `(part, start, *operands)` gives what a part of `values`, of any shape and
        beginning at element `start`, becomes, in its dtype. What becomes of it again is
        itself: pieces may overlap.
      values: of any shape.
      operands: further arrays.
      after: see `computed_once`.
    """

    def whole(values, *operands):
        return function(values, jnp.zeros((), jnp.int32), *operands)

    if not PIECE < values.size <= LARGE:
        return computed_once(whole, values, *operands, after=after)

    def in_pieces(values, *operands):
        def body(i, flat):
            start = jnp.minimum(i * PIECE, values.size - PIECE).astype(jnp.int32)
            part = jax.lax.dynamic_slice(flat, (start,), (PIECE,))
            part = function(part, start, *operands)
            return jax.lax.dynamic_update_slice(flat, part, (start,))

        pieces = -(-values.size // PIECE)
        return jax.lax.fori_loop(0, pieces, body, values.reshape(-1)).reshape(values.shape)

    both, signal = (in_pieces, whole), _signal(after, values)
    return _branched(_once, _barrier, both, signal, (values, *operands))


def _signal(after, values):
    """() float that the compiler does not know."""
    if after is None:
        after = values[(0,) * values.ndim] if values.size else 0
    return jax.lax.stop_gradient(jnp.asarray(after).astype(jnp.float32))


def if_needed(
    needed: jax.Array, function: Callable[..., jax.Array], *operands: jax.Array
) -> jax.Array:
    """`function(*operands)`, which would be 0 anyway unless `needed`: () bool."""
    return _branched(_if, _always, function, needed, operands)


def _once(function, after, *operands):
    # Both sides give the same, which the compiler does not see: only NaN gets to the second.
    return jax.lax.cond(
        jnp.all(after == after),
        lambda: function(*operands),
        lambda: jnp.where(jnp.any(after != after), function(*operands), 0),
    )


def _barrier(function, after, *operands):
    del after
    return jax.lax.optimization_barrier(function(*operands))


def _if(function, needed, *operands):
    result = jax.eval_shape(function, *operands)
    return jax.lax.cond(
        jnp.any(needed),
        lambda: function(*operands),
        lambda: jnp.zeros(result.shape, result.dtype),
    )


def _always(function, needed, *operands):
    del needed
    return function(*operands)


def _branched(cpu, elsewhere, function, condition, operands):
    """One of the two on `(function, condition, *operands)`; a batch takes one branch as one."""

    here, there = function if isinstance(function, tuple) else (function, function)

    @jax.custom_batching.custom_vmap
    def call(condition, *operands):
        return jax.lax.platform_dependent(
            condition,
            *operands,
            cpu=functools.partial(cpu, here),
            default=functools.partial(elsewhere, there),
        )

    @call.def_vmap
    def batched(axis_size, in_batched, condition, *operands):
        # else the condition would be one per member, and of the branch be left a select
        axes = [0 if is_batched else None for is_batched in in_batched[1:]]
        many = tuple(jax.vmap(f, in_axes=axes, axis_size=axis_size) for f in (here, there))
        return _branched(cpu, elsewhere, many, condition, operands), True

    return call(condition, *jax.lax.stop_gradient(operands))
