"""What Shampoo remembers, and the one way by which roots get into it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from lpml.optim.roots import accepted
from lpml.optim.shampoo.blocks import Plan
from lpml.optim.shampoo.kronecker import Stacks


class ShampooState(NamedTuple):
    """State of `scale_by_shampoo`.

    Stacks are dicts by `stack_name`, which says the size b and the exponent p. Roots may be put
    in from outside, between two steps, by `swapped`: shapes and dtypes stay.
    """

    step: jax.Array  # () int32, steps taken
    stats: Stacks  # [K, b, b], at least float32: sums or means of G G^T, from zeros
    roots: Stacks  # [K, b, b], A^(-1/p) of some earlier statistics; identities at first
    roots_from: jax.Array  # () int32, steps behind the statistics of the roots; -1: none yet
    refresh_ok: Stacks  # [K] int32, how often a root was accepted; 0: the block has none
    refresh_failed: Stacks  # [K] int32, how often it was not, matrices of zeros apart
    graft: optax.OptState  # of the diagonal method, shaped like the parameters


def first_state(plan: Plan, graft: optax.OptState, dtype: jax.typing.DTypeLike) -> ShampooState:
    """The state before the first step."""

    def counters():
        return {name: jnp.zeros(s.number, jnp.int32) for name, s in plan.stacks.items()}

    def matrices(value):
        return {
            name: jnp.tile(value * jnp.eye(s.size, dtype=dtype), (s.number, 1, 1))
            for name, s in plan.stacks.items()
        }

    return ShampooState(
        step=jnp.zeros((), jnp.int32),
        stats=matrices(0),
        roots=matrices(1),
        roots_from=jnp.full((), -1, jnp.int32),
        refresh_ok=counters(),
        refresh_failed=counters(),
        graft=graft,
    )


def swapped(
    state: ShampooState,
    roots: Stacks,
    ok: Stacks,
    *,
    roots_from: jax.Array | int,
    drop: Stacks | None = None,
) -> ShampooState:
    """The state with new roots where they are `ok`; elsewhere the old ones stay, bit for bit.

    Args:
      state: of `scale_by_shampoo`.
      roots: [K, b, b] of every stack.
      ok: [K] bool of every stack, as in `RootReport`.
      roots_from: `step` of the state whose statistics these are the roots of.
      drop: [K] bool of every stack: these blocks go back to the grafting method.
    """

    def failed(name, before):
        asked = (state.stats[name] != 0).any((1, 2))  # zeros have no root and need none
        return before + (asked & ~ok[name])

    def succeeded(name, before):
        after = before + ok[name]
        return after if drop is None else jnp.where(drop[name], 0, after)

    anyone = jnp.stack([flags.any() for flags in ok.values()]).any()
    return state._replace(
        roots={name: accepted(old, roots[name], ok[name]) for name, old in state.roots.items()},
        roots_from=jnp.where(anyone, jnp.asarray(roots_from, jnp.int32), state.roots_from),
        refresh_ok={name: succeeded(name, n) for name, n in state.refresh_ok.items()},
        refresh_failed={name: failed(name, n) for name, n in state.refresh_failed.items()},
    )


def find_state(opt_state: optax.OptState) -> ShampooState:
    """The one `ShampooState` within nested states of optax.

    Raises:
      ValueError: there is none, or more than one.
    """
    leaves = jax.tree.leaves(opt_state, is_leaf=_is_state)
    found = [leaf for leaf in leaves if _is_state(leaf)]
    if len(found) != 1:
        raise ValueError(f"one ShampooState is needed in the state, and {len(found)} are there")
    return found[0]


def with_state(opt_state: optax.OptState, state: ShampooState) -> optax.OptState:
    """Nested states of optax with another `ShampooState` in the place of theirs."""
    return jax.tree.map(
        lambda leaf: state if _is_state(leaf) else leaf, opt_state, is_leaf=_is_state
    )


def _is_state(thing):
    return isinstance(thing, ShampooState)
