"""Grafting: the length of the update from a diagonal method, its direction from Shampoo.

Roots are late, and their scale depends on their age and damping; the diagonal method's does
not, and its learning rate is known. Where there is no root (yet), its update is the update.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from lpml.optim.shampoo.kronecker import weight_of_new

Number = float | jax.Array
TINY = 1e-16  # keeps 0 / 0 from a tensor whose direction is zero


def adagrad(beta2: Number, eps: Number) -> optax.GradientTransformation:
    """g / sqrt(sum g^2), 0 where all were 0."""
    del beta2
    return optax.scale_by_rss(initial_accumulator_value=0.0, eps=eps)


def rmsprop(beta2: Number, eps: Number) -> optax.GradientTransformation:
    """g / (sqrt(v) + eps) with v <- beta2 v + (1 - beta2) g^2 from 0, as it is.

    The first steps are long: 1 / sqrt(1 - beta2).
    """
    return optax.scale_by_rms(beta2, eps, eps_in_sqrt=False)


def adam(beta2: Number, eps: Number) -> optax.GradientTransformation:
    """The same with v / (1 - beta2^t): Adam's second moment. The first is the momentum's."""
    return optax.scale_by_rms(beta2, eps, eps_in_sqrt=False, bias_correction=True)


def sgd(beta2: Number, eps: Number) -> optax.GradientTransformation:
    """The gradient."""
    del beta2, eps
    return optax.identity()


class OwnState(NamedTuple):
    """State of `none`."""

    squares: optax.Updates  # shaped like the parameters: sum or mean of g^2


def none(beta2: Number, eps: Number) -> optax.GradientTransformation:
    """For what has no root: g / (sqrt(v) + eps), v the squares as Shampoo's statistics are."""

    def init(params):
        return OwnState(optax.tree.zeros_like(params))

    def update(updates, state, params=None):
        del params
        squares = jax.tree.map(
            lambda v, g: (beta2 * v + weight_of_new(beta2) * g * g).astype(v.dtype),
            state.squares,
            updates,
        )
        scaled = jax.tree.map(
            lambda v, g: (g / (jnp.sqrt(v) + eps)).astype(g.dtype), squares, updates
        )
        return scaled, OwnState(squares)

    return optax.GradientTransformation(init, update)


METHODS: dict[str, Callable[[Number, Number], optax.GradientTransformation]] = {
    f.__name__: f for f in (none, sgd, adagrad, rmsprop, adam)
}
MEANS = ("rmsprop", "adam")


def grafting_method(name: str, beta2: Number, eps: Number) -> optax.GradientTransformation:
    """The diagonal method of a name.

    Raises:
      ValueError: there is none, or it needs a mean where beta2 = 1 makes sums.
    """
    if name not in METHODS:
        raise ValueError(f"grafting {name!r} does not exist; choose {', '.join(METHODS)}")
    if name in MEANS and isinstance(beta2, (int, float)) and beta2 == 1:
        raise ValueError(
            f"grafting {name!r} takes a mean of squares, and beta2 = 1 makes sums: take "
            "grafting 'adagrad' or beta2 < 1"
        )
    return METHODS[name](beta2, eps)


def grafted(
    direction: jax.Array, diagonal: jax.Array, has_root: jax.Array, *, rescale: bool
) -> jax.Array:
    """The update of one tensor.

    What has a root gets P ||u|| / ||P||, both norms over just that part of the tensor; the rest
    gets u. So the norm of the whole is that of u.

    Args:
      direction: P, by Shampoo.
      diagonal: u, by the diagonal method; same shape.
      has_root: bool, same shape.
      rescale: False keeps P as it is.
    """
    if rescale:
        length, wanted = (
            jnp.linalg.norm(jnp.where(has_root, part, 0)) for part in (direction, diagonal)
        )
        direction = direction * (wanted / (length + TINY))
    return jnp.where(has_root, direction, diagonal)


def kept_finite(new: optax.OptState, old: optax.OptState) -> optax.OptState:
    """The new state with every number that is not finite replaced by the old one."""
    return jax.tree.map(lambda a, b: jnp.where(jnp.isfinite(a), a, b), new, old)
