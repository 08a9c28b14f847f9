"""What Shampoo remembers, the one way by which roots get into it, and what is read of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lpml.optim.shampoo.blocks import Plan
from lpml.optim.shampoo.kronecker import Stacks
from lpml.optim.shampoo.owners import Owners, padded
from lpml.optim.shampoo.storage import Held, Storage, chosen, in_manner_of, plain, reached


class ShampooState(NamedTuple):
    """State of `scale_by_shampoo`.

    Stacks are dicts by `stack_name`, which says the size b and the exponent p. Roots may be put
    in from outside, between two steps, by `swapped`: shapes and dtypes stay. Either kind of
    matrices may be codes of a few bits (see `Storage`), so read `statistics_of(state)` and
    `roots_of(state)`.

    On a mesh stacks are shared out along K, which then is a multiple of the devices: further
    rows are zeros everywhere and stay so. `spread_fields` says so to whoever places states.
    """

    step: jax.Array  # () int32, steps taken
    stats: Held  # [K, b, b], at least float32: sums or means of G G^T, from zeros
    roots: Held  # [K, b, b], A^(-1/p) of some earlier statistics; identities at first
    roots_from: jax.Array  # () int32, steps behind the statistics of the roots; -1: none yet
    refresh_ok: Stacks  # [K] int32, how often a root was accepted; 0: the block has none
    refresh_failed: Stacks  # [K] int32, how often it was not, matrices of zeros apart
    graft: optax.OptState  # of the diagonal method, shaped like the parameters

    @property
    def spread_fields(self) -> tuple[str, ...]:
        """The fields that may be shared out over devices along K."""
        return ("stats", "roots", "refresh_ok", "refresh_failed")

    def placed(self, place: Callable[[Any], Any]) -> "ShampooState":
        """With every stack where `place` lays it."""
        stacks = {name: getattr(self, name) for name in self.spread_fields}
        return self._replace(**place(stacks))


def first_state(
    plan: Plan,
    graft: optax.OptState,
    dtype: jax.typing.DTypeLike,
    owners: Owners,
    storage: Storage = Storage(),  # noqa: B008 (frozen)
) -> ShampooState:
    """The state before the first step."""

    def counters():
        return {
            name: jnp.zeros(owners.rows(s.number), jnp.int32) for name, s in plan.stacks.items()
        }

    def matrices(value):
        def stack(s):
            real = jnp.tile(value * jnp.eye(s.size, dtype=dtype), (s.number, 1, 1))
            return padded(real, owners.rows(s.number))

        return {name: stack(s) for name, s in plan.stacks.items()}

    def stacks():
        return {
            "stats": storage.first(storage.statistics, matrices(0)),
            "roots": storage.first(storage.roots, matrices(1)),
            "refresh_ok": counters(),
            "refresh_failed": counters(),
        }

    return ShampooState(
        step=jnp.zeros((), jnp.int32),
        roots_from=jnp.full((), -1, jnp.int32),
        graft=graft,
        **owners.made(stacks),
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
      roots: [K, b, b] of every stack, in floats; the state may hold them in fewer bits.
      ok: [K] bool of every stack, as in `RootReport`.
      roots_from: `step` of the state whose statistics these are the roots of.
      drop: [K] bool of every stack: these blocks go back to the grafting method.
    """

    def failed(name, before):
        return before + (reached(state.stats[name]) & ~ok[name])  # zeros need no root

    def succeeded(name, before):
        after = before + ok[name]
        return after if drop is None else jnp.where(drop[name], 0, after)

    def renewed(name, old):
        return chosen(ok[name], in_manner_of(old, roots[name]), old)

    anyone = jnp.zeros((), bool)
    for flags in ok.values():
        anyone |= flags.any()
    return state._replace(
        roots={name: renewed(name, old) for name, old in state.roots.items()},
        roots_from=jnp.where(anyone, jnp.asarray(roots_from, jnp.int32), state.roots_from),
        refresh_ok={name: succeeded(name, n) for name, n in state.refresh_ok.items()},
        refresh_failed={name: failed(name, n) for name, n in state.refresh_failed.items()},
    )


def statistics_of(state: ShampooState) -> Stacks:
    """The statistics in floats, [K, b, b]: what roots are to be made of."""
    return plain(state.stats)


def roots_of(state: ShampooState) -> Stacks:
    """The roots in floats, [K, b, b]: what gradients are multiplied by."""
    return plain(state.roots)


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
