"""Bit centering's arithmetic: where the anchor sits, how wide the offset's box is.

A `state` here is a `HALPState` or `LMHALPState`: they share the fields `step`, `anchor`,
`codes`, `scale`, `mu`, `saturated` and `peak`. A `grid` says what the codes stand for.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from lpml.optim.offset_grid import OffsetGrid

# A leaf whose own gradient vanishes at the anchor must still be able to move with the others:
# its grid is never finer than this fraction of the global one.
LEAF_FLOOR = 0.1
# mu="auto": more clipped codes than this share shrink the box's mu ...
TOO_MANY_SATURATED = 1e-3
# ... and a largest code below this share of the range lets mu grow, towards using TARGET of it.
UNUSED_BELOW, TARGET = 0.6, 0.75
# Of ten thousand coordinates some reach the edge of a box that is far too wide for the rest, by
# its rounding noise alone. So mu also grows a little while fewer codes are clipped than this
# share, and doubles when the gradient has grown over an epoch: noise can do that, and clipping
# little.
QUIET_BELOW, QUIET_GROWTH = 1e-5, 1.25


def as_anchor(params: optax.Params) -> optax.Params:
    """A copy of the parameters, in float64 where x64 is enabled, else in their own dtype."""
    wide = jnp.result_type(float)  # float64 exactly when x64 is enabled
    return jax.tree.map(lambda p: jnp.array(p, jnp.promote_types(p.dtype, wide)), params)


def cast_like(tree: optax.Params, params: optax.Params) -> optax.Params:
    """The leaves of `tree` in the dtypes of `params`."""
    return jax.tree.map(lambda a, p: a.astype(p.dtype), tree, params)


def spacing(
    full_grad: optax.Updates, mu: jax.Array, grid: OffsetGrid, *, per_leaf: bool
) -> optax.Updates:
    """s = ||g|| / (mu edge): the grid's edge, 2^(b-1) - 1 of b bits, is exactly at ||g|| / mu.

    Args:
      full_grad: gradient of the whole objective at the anchor.
      mu: () > 0.
      grid: of the codes; only its edge matters.
      per_leaf: each leaf from its own norm, floored at LEAF_FLOOR of the global one.

    Returns:
      A tree of scalars, one per leaf, in the dtypes of `full_grad`.
    """
    total = optax.tree.norm(full_grad)

    def leaf_spacing(g):
        norm = jnp.maximum(jnp.linalg.norm(g), LEAF_FLOOR * total) if per_leaf else total
        return (norm / (mu * grid.edge(g.dtype))).astype(g.dtype)

    return jax.tree.map(leaf_spacing, full_grad)


def iterate(state: Any, values: optax.Params) -> optax.Params:
    """anchor + scale * values, in the anchor's dtype."""
    return jax.tree.map(
        lambda a, s, z: a + s * z.astype(a.dtype), state.anchor, state.scale, values
    )


def recentred(
    state: Any, grid: OffsetGrid, *, anchor: Any, full_grad: Any, mu: jax.Array, scale: Any
) -> Any:
    """The state with a new anchor and spacing, codes of 0 and fresh counters."""
    return state._replace(
        anchor=anchor,
        codes=jax.tree.map(lambda z: grid.origin(z.shape), state.codes),
        scale=scale,
        full_grad=full_grad,
        mu=mu,
        saturated=jnp.zeros((), jnp.float32),
        peak=jnp.zeros((), jnp.float32),
    )


def check_mu(mu: Any) -> None:
    """Raises ValueError unless `mu` is a positive number or "auto"."""
    if (isinstance(mu, str) and mu != "auto") or (isinstance(mu, (int, float)) and mu <= 0):
        raise ValueError(f'mu = {mu!r} must be a positive number or "auto"')


def first_mu(mu: Any) -> jax.Array:
    """mu of the first epoch; () float32. "auto" starts at 1."""
    return jnp.asarray(1.0 if isinstance(mu, str) else mu, jnp.float32)


def next_mu(
    mu: Any, state: Any, grid: OffsetGrid, inner_steps: int, full_grad: Any
) -> jax.Array:
    """mu of the next epoch; () float32: the one given, or for "auto" adapted to the last epoch.

    "auto" halves mu (a wider box) when codes saturate. Otherwise it raises it, by at most 2:
    when range lies idle, when nearly nothing is clipped, and when the norm of the gradient,
    now `full_grad`, has grown.
    """
    if not isinstance(mu, str):
        return state.mu
    used, share = state.peak / grid.edge(), saturated_share(state, inner_steps)
    growth = jnp.where(share < QUIET_BELOW, QUIET_GROWTH, 1)
    idle = jnp.minimum(2, TARGET / jnp.maximum(used, 0.1))
    growth = jnp.where(used < UNUSED_BELOW, jnp.maximum(growth, idle), growth)
    # NaN before the first epoch
    worse = optax.tree.norm(full_grad) > optax.tree.norm(state.full_grad)
    growth = jnp.where(worse, 2, growth)
    growth = jnp.where(share > TOO_MANY_SATURATED, 0.5, growth)
    return jnp.where(state.step == 0, state.mu, state.mu * growth)


def saturated_share(state: Any, inner_steps: int) -> jax.Array:
    """Share of the codes since the last recentering that were wanted beyond the box, 0 to 1."""
    size = sum(z.size for z in jax.tree.leaves(state.codes))
    steps = (state.step - 1) % inner_steps + 1
    return state.saturated / (size * jnp.maximum(steps, 1).astype(jnp.float32))


def report(state: Any, grid: OffsetGrid, inner_steps: int) -> dict[str, jax.Array]:
    """How the range of the codes was used since the last recentering, for the log."""
    return {
        "halp/saturated": saturated_share(state, inner_steps),
        "halp/peak_code": state.peak / grid.edge(),
        "halp/scale": jnp.stack(jax.tree.leaves(state.scale)).max(),
        "halp/mu": state.mu,
    }
