"""Shampoo's preconditioned and grafted direction, as a transformation of optax."""

import jax
import jax.numpy as jnp
import optax

from lpml.optim.shampoo.blocks import Blocking, Plan, plan_blocks
from lpml.optim.shampoo.grafting import grafted, grafting_method, kept_finite
from lpml.optim.shampoo.kronecker import accumulated, direction, statistics, with_roots
from lpml.optim.shampoo.refresh import Refreshing, refreshed
from lpml.optim.shampoo.state import first_state
from lpml.optim.shampoo.tiles import gather, scatter, widened


def scale_by_shampoo(
    blocking: Blocking = Blocking(),  # noqa: B008 (frozen)
    refreshing: Refreshing = Refreshing(),  # noqa: B008 (frozen)
    *,
    beta2: float | jax.Array = 0.99,
    grafting: str = "rmsprop",
    graft_eps: float | jax.Array = 1e-8,
) -> optax.GradientTransformation:
    r"""Multiplies every block of a gradient by an inverse root along each of its axes.

    For a block of a matrix, with L and R sums (beta2 = 1) or means of its gradients' products,

    .. math::
      L \leftarrow \beta_2 L + (1 - \beta_2) G G^T, \quad
      R \leftarrow \beta_2 R + (1 - \beta_2) G^T G, \quad
      P = L^{-1/4} G R^{-1/4},

    and for k axes in general A^(-1/2k). An update takes its gradient into the statistics, then
    renews the roots from them if that is due, then uses these. The updates of a tensor have the
    norm of a diagonal method's (see `grafted`), which also moves what has no roots (yet):
    vectors, scalars, blocks before the first refresh.

    Args:
      blocking: which matrices a tensor gets.
      refreshing: when and how their roots are renewed.
      beta2: decay of statistics, in (0, 1]; 1 sums them. Also of the squares of grafting.
      grafting: "none", "sgd", "adagrad", "rmsprop" or "adam" (by its second moment only).
      graft_eps: of the diagonal method, > 0.

    Returns:
      A transformation with a `ShampooState`. Gradients that are not finite show in the update
      and leave the state as it was, its step apart.

    Raises:
      ValueError: an argument out of its range.

    References:
      Gupta, Koren and Singer, Shampoo, ICML 2018; Anil et al., Scalable Second Order
      Optimization for Deep Learning, arXiv 2002.09018.
    """
    if isinstance(beta2, (int, float)) and not 0 < beta2 <= 1:
        raise ValueError(f"beta2 = {beta2} must be in (0, 1]; 1 sums the statistics")
    if isinstance(graft_eps, (int, float)) and not graft_eps > 0:
        raise ValueError(f"graft_eps = {graft_eps} must be positive")
    method = grafting_method(grafting, beta2, graft_eps)

    def init(params):
        leaves = jax.tree.leaves(params)
        dtype = jnp.result_type(jnp.float32, *leaves)
        return first_state(_plan(leaves, blocking), method.init(widened(params)), dtype)

    def preconditioned(leaves, diagonal, state):
        """What becomes of the diagonal method's updates, and the state after it."""
        plan = _plan(leaves, blocking)
        if not plan.groups:
            return diagonal, state
        tiles = gather(plan, leaves, jnp.result_type(*state.stats.values()))
        stats = accumulated(state.stats, statistics(plan, tiles), beta2)
        state = refreshed(state._replace(stats=stats), refreshing)
        nowhere = [jnp.zeros(leaf.shape, bool) for leaf in leaves]
        by_roots = scatter(plan, direction(plan, tiles, state.roots), diagonal)
        has_root = scatter(plan, with_roots(plan, state.refresh_ok), nowhere)
        result = [
            grafted(p, u, has, rescale=grafting != "none") if i in plan.blocked else u
            for i, (p, u, has) in enumerate(zip(by_roots, diagonal, has_root, strict=True))
        ]
        return result, state

    def update(updates, state, params=None):
        wide = widened(updates)
        diagonal, graft = method.update(wide, state.graft, params)
        state = state._replace(graft=kept_finite(graft, state.graft))
        leaves, tree = jax.tree.flatten(wide)
        result, state = preconditioned(leaves, jax.tree.leaves(diagonal), state)
        narrow = jax.tree.map(
            lambda new, old: new.astype(jnp.result_type(old)), tree.unflatten(result), updates
        )
        return narrow, state._replace(step=state.step + 1)

    return optax.GradientTransformation(init, update)


def _plan(leaves: list[jax.Array], blocking: Blocking) -> Plan:
    return plan_blocks(tuple(jnp.shape(leaf) for leaf in leaves), blocking)
