"""What SOAP remembers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from lpml.optim.shampoo.blocks import Plan
from lpml.optim.shampoo.kronecker import Stacks

# Of the groups of a plan [T, b1, .., bk], and then of each tensor that has no blocks.
Parts = tuple[jax.Array, ...]


class SoapState(NamedTuple):
    """State of `scale_by_soap`; at least float32, stacks as dicts by `stack_name`.

    For blocks that have a matrix on each axis it takes 2 numbers a parameter more than Adam's
    moments for every axis: statistics and vectors.
    """

    step: jax.Array  # () int32, steps taken
    stats: Stacks  # [K, b, b]: sums or means of G G^T, from zeros
    vectors: Stacks  # [K, b, b] orthonormal columns; identities at first
    vectors_from: jax.Array  # () int32, steps behind the statistics of the vectors; -1: none
    refresh_ok: Stacks  # [K] int32, how often new vectors were accepted
    refresh_failed: Stacks  # [K] int32, how often they were not, matrices of zeros apart
    mean: optax.Updates  # of gradients, shaped like the parameters, in their coordinates
    squares: Parts  # means of squares of gradients in the coordinates of `vectors`


def first_state(plan: Plan, params: optax.Params, dtype: jax.typing.DTypeLike) -> SoapState:
    """The state before the first step.

    Args:
      plan: of the leaves of `params`.
      params: in at least float32.
      dtype: of stacks and of the squares of blocks.
    """

    def matrices(value):
        return {
            name: jnp.tile(value * jnp.eye(s.size, dtype=dtype), (s.number, 1, 1))
            for name, s in plan.stacks.items()
        }

    def counters():
        return {name: jnp.zeros(s.number, jnp.int32) for name, s in plan.stacks.items()}

    leaves = jax.tree.leaves(params)
    of_blocks = [jnp.zeros((group.number, *group.block), dtype) for group in plan.groups]
    of_others = [jnp.zeros_like(x) for i, x in enumerate(leaves) if i not in plan.blocked]
    return SoapState(
        step=jnp.zeros((), jnp.int32),
        stats=matrices(0),
        vectors=matrices(1),
        vectors_from=jnp.full((), -1, jnp.int32),
        refresh_ok=counters(),
        refresh_failed=counters(),
        mean=optax.tree.zeros_like(params),
        squares=(*of_blocks, *of_others),
    )
