"""SOAP's direction, Adam's in Shampoo's eigenvectors, as a transformation of optax."""

import jax
import jax.numpy as jnp
import optax

from lpml.optim.shampoo.blocks import Blocking, Plan, plan_blocks
from lpml.optim.shampoo.grafting import kept_finite
from lpml.optim.shampoo.kronecker import Stacks, accumulated, direction, statistics
from lpml.optim.shampoo.tiles import gather, scatter, widened
from lpml.optim.soap.refresh import Turning, refreshed
from lpml.optim.soap.state import Parts, SoapState, first_state


def scale_by_soap(
    blocking: Blocking = Blocking(exponent=1),  # noqa: B008 (frozen)
    turning: Turning = Turning(),  # noqa: B008 (frozen)
    *,
    b1: float | jax.Array = 0.95,
    b2: float | jax.Array = 0.95,
    shampoo_beta: float | jax.Array = 0.95,
    eps: float | jax.Array = 1e-8,
) -> optax.GradientTransformation:
    r"""Adam on every block of a gradient in the eigenvectors of Shampoo's statistics.

    For a block of a matrix, with Q and P the eigenvectors of earlier statistics L and R,

    .. math::
      M \leftarrow \beta_1 M + (1 - \beta_1) G, \quad
      V \leftarrow \beta_2 V + (1 - \beta_2) (Q^T G P)^2, \quad
      U = Q \frac{\hat M'}{\sqrt{\hat V} + \epsilon} P^T, \quad M' = Q^T M P

    with hats for means divided by 1 - beta^t. An update uses its bases first, then takes its
    gradient into the statistics, then renews the bases if that is due. (Shampoo's other order
    would not do: in a basis that its gradient has a part in, the gradient is 0 along all the
    other vectors up to rounding, and Adam divides that rounding by its own size.) Before the
    first basis, and where a tensor has none, it is Adam itself.

    Args:
      blocking: which matrices a tensor gets. Its exponent says nothing here, and 1 keeps all
        matrices of one size in one stack.
      turning: when and how bases are renewed.
      b1: decay of the mean of gradients, in [0, 1).
      b2: decay of the mean of their squares, in [0, 1).
      shampoo_beta: decay of statistics, in (0, 1]; 1 sums them.
      eps: > 0.

    Returns:
      A transformation with a `SoapState`. Gradients that are not finite show in the update
      and leave the state as it was, its step apart; squares those of the whole block.

    Raises:
      ValueError: an argument out of its range.

    References:
      Vyas et al., SOAP: improving and stabilizing Shampoo using Adam, arXiv 2409.11321. There
      the first step only makes bases, and squares are kept when these change.
    """
    for name, value in (("b1", b1), ("b2", b2)):
        if isinstance(value, (int, float)) and not 0 <= value < 1:
            raise ValueError(f"{name} = {value} must be in [0, 1)")
    if isinstance(shampoo_beta, (int, float)) and not 0 < shampoo_beta <= 1:
        raise ValueError(
            f"shampoo_beta = {shampoo_beta} must be in (0, 1]; 1 sums the statistics"
        )
    if isinstance(eps, (int, float)) and not eps > 0:
        raise ValueError(f"eps = {eps} must be positive")

    def init(params):
        wide = widened(params)
        leaves = jax.tree.leaves(wide)
        return first_state(_plan(leaves, blocking), wide, jnp.result_type(jnp.float32, *leaves))

    def adam(mean, squares, step):
        return mean / (1 - b1**step) / (jnp.sqrt(squares / (1 - b2**step)) + eps)

    def update(updates, state, params=None):
        del params
        wide = widened(updates)
        leaves, tree = jax.tree.flatten(wide)
        plan, step = _plan(leaves, blocking), state.step + 1
        mean = optax.tree.update_moment(wide, state.mean, b1, 1)
        turned = _parts(plan, leaves, state.vectors)
        squares = tuple(
            (b2 * v + (1 - b2) * g * g).astype(v.dtype)
            for v, g in zip(state.squares, turned, strict=True)
        )
        turned = _parts(plan, jax.tree.leaves(mean), state.vectors)
        result = _back(
            plan,
            [adam(m, v, step) for m, v in zip(turned, squares, strict=True)],
            state,
            leaves,
        )
        moments = kept_finite((mean, squares), (state.mean, state.squares))
        state = state._replace(mean=moments[0], squares=moments[1])
        state = refreshed(_with_statistics(state, plan, leaves, shampoo_beta), plan, turning)
        narrow = jax.tree.map(
            lambda new, old: new.astype(jnp.result_type(old)), tree.unflatten(result), updates
        )
        return narrow, state._replace(step=step)

    return optax.GradientTransformation(init, update)


def _parts(plan: Plan, leaves: list[jax.Array], vectors: Stacks) -> Parts:
    """The blocks of every group in the coordinates of their vectors, and the other tensors."""
    others = [x for i, x in enumerate(leaves) if i not in plan.blocked]
    if not plan.groups:
        return tuple(others)
    tiles = gather(plan, leaves, jnp.result_type(*vectors.values()))
    return (*direction(plan, tiles, vectors), *others)


def _back(
    plan: Plan, parts: list[jax.Array], state: SoapState, leaves: list[jax.Array]
) -> list[jax.Array]:
    """The tensors that have these parts."""
    groups = len(plan.groups)
    backwards = {name: jnp.swapaxes(q, 1, 2) for name, q in state.vectors.items()}
    others = iter(parts[groups:])
    into = [x if i in plan.blocked else next(others) for i, x in enumerate(leaves)]
    return scatter(plan, direction(plan, parts[:groups], backwards), into)


def _with_statistics(
    state: SoapState, plan: Plan, leaves: list[jax.Array], beta: float | jax.Array
) -> SoapState:
    if not plan.groups:
        return state
    tiles = gather(plan, leaves, jnp.result_type(*state.stats.values()))
    return state._replace(stats=accumulated(state.stats, statistics(plan, tiles), beta))


def _plan(leaves: list[jax.Array], blocking: Blocking) -> Plan:
    return plan_blocks(tuple(jnp.shape(leaf) for leaf in leaves), blocking)
