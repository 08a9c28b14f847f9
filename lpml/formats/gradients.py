"""Derivatives of rounding: a step function that networks are to be trained through."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

GRADIENTS = ("straight_through", "clipped", "none")


def attach_gradient(
    x: Float[Array, "*shape"],
    y: Float[Array, "*shape"],
    gradient: str,
    *,
    inside: Bool[Array, "*shape"] | None = None,
) -> Float[Array, "*shape"]:
    """`y`, with the derivative by `x` that `gradient` names; scales get none.

    Args:
      x: what was rounded.
      y: what it was rounded to.
      gradient: `"straight_through"`: that of the identity; `"clipped"`: the same where
        `inside`, else 0; `"none"`: 0, the true one almost everywhere.
      inside: where `x` was not clipped; only for `"clipped"`.
    """
    y = jax.lax.stop_gradient(y)
    if gradient == "none":
        return y
    return _straight_through(x, y) if gradient == "straight_through" else _clipped(x, y, inside)


def check_gradient(gradient: str) -> None:
    """Raises ValueError, with the list, unless `gradient` names a gradient of rounding."""
    if gradient not in GRADIENTS:
        known = ", ".join(GRADIENTS)
        raise ValueError(f"gradient {gradient!r} does not exist; choose from {known}")


@jax.custom_jvp
def _straight_through(x, y):
    del x
    return y


@_straight_through.defjvp
def _straight_through_jvp(primals, tangents):
    return primals[1], tangents[0]


@jax.custom_jvp
def _clipped(x, y, inside):
    del x, inside
    return y


@_clipped.defjvp
def _clipped_jvp(primals, tangents):
    _, y, inside = primals
    return y, jnp.where(inside, tangents[0], 0)
