"""Momentum of updates that are already preconditioned and grafted."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from lpml.optim.shampoo.grafting import kept_finite


class FilteredState(NamedTuple):
    """State of `filtered`."""

    momentum: optax.Updates  # shaped like the parameters, in their dtypes


def filtered(
    b1: float | jax.Array, *, averaged: bool = True, nesterov: bool = False
) -> optax.GradientTransformation:
    """m <- b1 m + w u, and m is the update; with `nesterov` it is b1 m + w u.

    Args:
      b1: in [0, 1).
      averaged: w = 1 - b1, so that a constant u is followed as it is; False is the heavy
        ball's w = 1, which follows it at 1 / (1 - b1).
      nesterov: one step ahead.

    A number that is not finite shows in the update and is not kept.
    """
    weight = 1 - b1 if averaged else 1.0

    def init(params):
        return FilteredState(optax.tree.zeros_like(params))

    def update(updates, state, params=None):
        del params

        def mixed(m, u):
            return (b1 * m + weight * u).astype(u.dtype)

        momentum = jax.tree.map(mixed, state.momentum, updates)
        ahead = jax.tree.map(mixed, momentum, updates) if nesterov else momentum
        kept = jax.tree.map(lambda m, old: m.astype(jnp.result_type(old)), momentum, state[0])
        return ahead, kept_finite(FilteredState(kept), state)

    return optax.GradientTransformation(init, update)
