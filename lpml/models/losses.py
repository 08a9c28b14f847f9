"""Losses with the one derivative a low-precision inner loop needs to be exact."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


class Loss(NamedTuple):
    """A loss l(outputs, y), per sample.

    `value(outputs, y)`: outputs (B, K), y (B,) -> (B,).
    `difference(outputs, change, y)`: l'(outputs + change) - l'(outputs), (B, K), in the dtype
      of `change`. Computed without subtracting close numbers: a change of 1e-12 in float32
      still gives six digits.
    `correct(outputs, y)`: (B,) bool, or None for regression.
    `answers(y)`: (B,), how many answers each sample asks for, where that differs; `value` and
      `correct` are then sums over a sample's answers, and outputs are (B, T, K), y (B, T). A
      mean over samples is one over answers: sums divided by the number of answers.
    `name`: by which compiled kernels know it, None where they do not.
    """

    value: Callable[[jax.Array, jax.Array], jax.Array]
    difference: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    correct: Callable[[jax.Array, jax.Array], jax.Array] | None = None
    answers: Callable[[jax.Array], jax.Array] | None = None
    name: str | None = None


def _squared_value(outputs, y):
    return (outputs[:, 0] - y) ** 2


def _squared_difference(outputs, change, y):
    del outputs, y  # the derivative is linear
    return 2 * change


squared_error = Loss(_squared_value, _squared_difference, name="squared")
"""(output - y)^2 without the factor 1/2, as in the HALP code; one output."""


def _logistic_value(outputs, y):
    return optax.sigmoid_binary_cross_entropy(outputs[:, 0], y)


def _logistic_difference(outputs, change, y):
    del y  # l'(a) = sigmoid(a) - y, so y drops out
    # sigmoid(b) - sigmoid(a) = sigmoid(max) sigmoid(-min) (1 - e^-|b - a|), signed
    start = outputs.astype(change.dtype)
    low, high = jnp.minimum(start, start + change), jnp.maximum(start, start + change)
    size = jax.nn.sigmoid(high) * jax.nn.sigmoid(-low) * -jnp.expm1(-jnp.abs(change))
    return jnp.sign(change) * size


logistic = Loss(
    _logistic_value,
    _logistic_difference,
    lambda outputs, y: (outputs[:, 0] > 0) == (y > 0),
    name="logistic",
)
"""Binary cross entropy of one logit against y in {0, 1}."""


def _softmax_value(outputs, y):
    return optax.softmax_cross_entropy_with_integer_labels(outputs, y)


def _softmax_difference(outputs, change, y):
    del y
    start = outputs.astype(change.dtype)
    p = jax.nn.softmax(start)
    # softmax ignores a common shift: centring the change keeps expm1 in its accurate range
    centred = change - jnp.sum(p * change, axis=-1, keepdims=True)
    growth = jnp.expm1(jnp.minimum(centred, 20.0))
    excess = jnp.sum(p * growth, axis=-1, keepdims=True)
    small = p * (growth - excess) / (1 + excess)
    large = jax.nn.softmax(start + change) - p  # expm1 would overflow, and a class takes over
    return jnp.where(jnp.max(centred, axis=-1, keepdims=True) <= 20, small, large)


softmax_cross_entropy = Loss(
    _softmax_value,
    _softmax_difference,
    lambda outputs, y: jnp.argmax(outputs, axis=-1) == y,
    name="softmax",
)
"""Cross entropy of K logits against an integer class."""


@functools.cache  # equal settings are the same loss: models compare, and compile, as equal
def token_cross_entropy(smoothing: float = 0.0) -> Loss:
    """Cross entropy of K logits at every place of a sequence, but where y is negative.

    l = -sum_k q_k log softmax(outputs)_k with q = (1 - smoothing) onehot(y) + smoothing / K,
    summed over the places of a sample with y >= 0. All other places are padding: neither
    their outputs nor their number have any effect.

    Args:
      smoothing: share of the target that all K classes get alike, 0 <= smoothing < 1. The
        loss is then never below the entropy of q, also not of a perfect model.

    References:
      Szegedy et al., Rethinking the Inception architecture, CVPR 2016, section 7.
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"label_smoothing = {smoothing} must be at least 0 and below 1")

    def value(outputs, y):
        logs = jax.nn.log_softmax(_at_least_float32(outputs))
        told = jnp.take_along_axis(logs, jnp.maximum(y, 0)[..., None], axis=-1)[..., 0]
        losses = -(1 - smoothing) * told
        if smoothing:
            losses = losses - smoothing * jnp.mean(logs, axis=-1)
        return jnp.sum(jnp.where(y >= 0, losses, 0), axis=-1)

    def difference(outputs, change, y):
        return jnp.where((y >= 0)[..., None], _softmax_difference(outputs, change, y), 0)

    def correct(outputs, y):
        return jnp.sum((y >= 0) & (jnp.argmax(outputs, axis=-1) == y), axis=-1)

    return Loss(value, difference, correct, lambda y: jnp.sum(y >= 0, axis=-1))


def _at_least_float32(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
