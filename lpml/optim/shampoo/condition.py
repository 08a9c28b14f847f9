"""When something expensive is due, and doing it only then."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lpml.optim.numbers import check_whole


@dataclasses.dataclass(frozen=True)
class Clock:
    """Steps `start_at`, `start_at` + `every`, ... counted from 1.

    Args:
      every: steps between two refreshes, >= 1.
      start_at: the first of them, >= 1; None is `every`.

    Raises:
      ValueError: a number out of its range.
    """

    every: int
    start_at: int | None = None

    def __post_init__(self):
        for name, value in (("refresh_every", self.every), ("start_at", self.start_at)):
            if value is not None:
                check_whole(name, value, 1)

    @property
    def first(self) -> int:
        """`start_at`, None resolved."""
        return self.every if self.start_at is None else self.start_at

    def due(self, step: jax.Array) -> jax.Array:
        """Whether the step of this number (from 1) is one of them."""
        return (step >= self.first) & ((step - self.first) % self.every == 0)


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
