"""Bit centering's arithmetic: where the anchor sits, how wide the offset's box is."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from lpml.formats import Fixed

# A leaf whose own gradient vanishes at the anchor must still be able to move with the others:
# its grid is never finer than this fraction of the global one.
LEAF_FLOOR = 0.1
# mu="auto": more clipped codes than this share shrink the box's mu ...
TOO_MANY_SATURATED = 1e-3
# ... and a largest code below this share of the range lets mu grow, towards using TARGET of it.
UNUSED_BELOW, TARGET = 0.6, 0.75


def as_anchor(params: optax.Params) -> optax.Params:
    """A copy of the parameters, in float64 where x64 is enabled, else in their own dtype."""
    wide = jnp.result_type(float)  # float64 exactly when x64 is enabled
    return jax.tree.map(lambda p: jnp.array(p, jnp.promote_types(p.dtype, wide)), params)


def cast_like(tree: optax.Params, params: optax.Params) -> optax.Params:
    """The leaves of `tree` in the dtypes of `params`."""
    return jax.tree.map(lambda a, p: a.astype(p.dtype), tree, params)


def spacing(
    full_grad: optax.Updates, mu: jax.Array, code: Fixed, *, per_leaf: bool
) -> optax.Updates:
    """s = ||g|| / (mu (2^(b-1) - 1)): the largest positive code reaches exactly ||g|| / mu.

    Args:
      full_grad: gradient of the whole objective at the anchor.
      mu: () > 0.
      code: the format of the codes; only its width matters.
      per_leaf: each leaf from its own norm, floored at LEAF_FLOOR of the global one.

    Returns:
      A tree of scalars, one per leaf, in the dtypes of `full_grad`.
    """
    total = optax.tree.norm(full_grad)

    def leaf_spacing(g):
        norm = jnp.maximum(jnp.linalg.norm(g), LEAF_FLOOR * total) if per_leaf else total
        return (norm / (mu * code.limits(g.dtype)[1])).astype(g.dtype)

    return jax.tree.map(leaf_spacing, full_grad)


def saturated_share(state: Any, inner_steps: int) -> jax.Array:
    """Share of the codes written since the last recentering that were clipped, in [0, 1].

    `state` has `codes`, `step` and `saturated` as in `HALPState`.
    """
    size = sum(z.size for z in jax.tree.leaves(state.codes))
    steps = (state.step - 1) % inner_steps + 1
    return state.saturated / (size * jnp.maximum(steps, 1).astype(jnp.float32))


def adapted_mu(state: Any, code: Fixed, inner_steps: int) -> jax.Array:
    """mu for the next epoch, from how the last one used its range; () float32.

    Halves mu (a wider box) when codes saturate, raises it by at most 2 when range lies idle.
    """
    used = state.peak / code.limits()[1]
    growth = jnp.minimum(2, TARGET / jnp.maximum(used, 0.1))
    larger = state.mu * jnp.where(used < UNUSED_BELOW, growth, 1)
    crowded = saturated_share(state, inner_steps) > TOO_MANY_SATURATED
    return jnp.where(crowded, state.mu / 2, larger)
