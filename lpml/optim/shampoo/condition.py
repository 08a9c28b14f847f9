"""Doing something expensive only when it is due."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def only_when(
    due: jax.Array, renew: Callable[..., Any], keep: Callable[..., Any], *operands: Any
) -> Any:
    """`renew(*operands)` if `due`, else `keep(*operands)`, also under vmap.

    vmap turns a condition into a selection between both results: a sweep in one program would
    renew at every step. So here it becomes a condition on whether anyone is due, and then a
    loop over all, which also keeps batched LAPACK out of programs (see `eigh_roots`).

    Args:
      due: () bool.
      renew, keep: their results have the same shapes; `keep` is cheap.
      operands: trees of arrays. The functions must not close over traced numbers.
    """

    @jax.custom_batching.custom_vmap
    def perhaps(due, *operands):
        return jax.lax.cond(due, renew, keep, *operands)

    @perhaps.def_vmap
    def one_by_one(axis_size, in_batched, *arguments):
        full = jax.tree.map(
            functools.partial(_with_axis, axis_size), arguments, tuple(in_batched)
        )
        result = jax.lax.cond(
            full[0].any(),
            lambda: jax.lax.map(lambda each: perhaps(*each), full),
            lambda: jax.vmap(keep)(*full[1:]),
        )
        return result, jax.tree.map(lambda _: True, result)

    return perhaps(due, *operands)


def _with_axis(size: int, leaf: jax.Array, batched: bool) -> jax.Array:
    return leaf if batched else jnp.broadcast_to(leaf, (size, *leaf.shape))
