"""Shampoo's roots from the host: what leaves the state, what is solved for, what comes back."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lpml.optim.refresher import HostSide, HostWork, Snapshot, Solved
from lpml.optim.roots import Damping, host_roots
from lpml.optim.shampoo.blocks import exponent_of
from lpml.optim.shampoo.kronecker import Stacks
from lpml.optim.shampoo.refresh import Refreshing
from lpml.optim.shampoo.state import find_state, statistics_of, swapped, with_state
from lpml.optim.shampoo.storage import reached


def host_side(refreshing: Refreshing, work: HostWork) -> HostSide:
    """The host's part in a transformation with one `ShampooState` somewhere in its state."""
    damping = dataclasses.replace(refreshing.damping, epsilon=float(refreshing.damping.epsilon))
    return HostSide(
        clock=refreshing.clock,
        work=work,
        take=snapshot,
        solve=functools.partial(solved, damping, refreshing.method),
        put=put,
    )


def snapshot(opt_state: optax.OptState) -> Snapshot:
    """The statistics, and where the state stands."""
    state = find_state(opt_state)
    counters = zip(state.refresh_ok.values(), state.refresh_failed.values(), strict=True)
    most = [(ok + failed).max(initial=0) for ok, failed in counters]
    nothing = jnp.zeros((), jnp.int32)
    return Snapshot(statistics_of(state), state.step, jnp.stack([nothing, *most]).max())


def solved(damping: Damping, method: str, name: str, stack: np.ndarray) -> Solved:
    """A^(-1/p) of the matrices of a stack [K, b, b]; none of zeros, whatever the damping."""
    report = host_roots(stack, exponent_of(name), method=method, damping=damping)
    asked = (stack != 0).any((1, 2))
    return Solved(report.root, report.ok & asked, asked)


def put(
    opt_state: optax.OptState, roots: Stacks, ok: Stacks, drop: Stacks, step: jax.Array
) -> optax.OptState:
    """The state with these roots; see `HostSide`."""
    state = swapped(find_state(opt_state), roots, ok, roots_from=step, drop=drop)
    return with_state(opt_state, state)


def report(opt_state: optax.OptState) -> dict[str, jax.Array]:
    """Numbers for the log: how old the roots are, what share of the matrices has one, failures.

    The share is of those that a gradient ever reached.
    """
    state = find_state(opt_state)
    if not state.stats:
        return {}
    have = jnp.stack([(n > 0).sum() for n in state.refresh_ok.values()]).sum()
    some = jnp.stack([reached(stack).sum() for stack in state.stats.values()]).sum()
    return {
        "roots_age": jnp.where(state.roots_from < 0, state.step, state.step - state.roots_from),
        "roots_share": have / jnp.maximum(some, 1),
        "roots_refused": jnp.stack([n.sum() for n in state.refresh_failed.values()]).sum(),
    }
