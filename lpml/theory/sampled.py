"""The two-layer model on finite samples: what a training computes."""

import jax
import jax.numpy as jnp

from lpml.theory.estimators import Estimator
from lpml.theory.two_layer import TwoLayer


def _step(x):
    return (x > 0).astype(x.dtype)


def sampled_loss(z: jax.Array, student: TwoLayer, teacher: TwoLayer) -> jax.Array:
    """Mean of (y - y*)^2 / 2 over inputs z (N, m, n)."""
    return jnp.mean(_errors(z, student, teacher) ** 2) / 2


def sampled_coarse_gradients(
    estimator: Estimator, z: jax.Array, student: TwoLayer, teacher: TwoLayer
) -> TwoLayer:
    """The coarse gradient of each input z (N, m, n): v (N, m) and w (N, n) [equation 5].

    step(Z w) (y - y*), which is dl/dv, and Z^T (mu'(Z w) * v) (y - y*).
    """
    inner = z @ student.w
    errors = _errors(z, student, teacher)
    weights = estimator.derivative(inner) * student.v * errors[:, None]
    return TwoLayer(_step(inner) * errors[:, None], jnp.einsum("bmn,bm->bn", z, weights))


def sampled_coarse_gradient(
    estimator: Estimator, z: jax.Array, student: TwoLayer, teacher: TwoLayer
) -> TwoLayer:
    """Their mean, without holding all of them."""
    inner = z @ student.w
    errors = _errors(z, student, teacher) / len(z)
    weights = estimator.derivative(inner) * student.v * errors[:, None]
    return TwoLayer(errors @ _step(inner), jnp.einsum("bmn,bm->n", z, weights))


def _errors(z, student, teacher):
    return _step(z @ student.w) @ student.v - _step(z @ teacher.w) @ teacher.v
