"""Critical points of the two-layer model and the loss on the way between them.

Paper: arXiv 1903.05662, Proposition 1 and Lemma 6; values at the points follow from Lemma 1.
"""

import jax
import jax.numpy as jnp

from lpml.theory.estimators import PEAK
from lpml.theory.two_layer import TwoLayer


def best_v(theta: float | jax.Array, teacher: TwoLayer) -> jax.Array:
    """The v (m,) that makes the loss least at a given angle.

    v = (I + 11^T)^-1 (c I + 11^T) v* = c v* + (1 - c) S*/(m + 1), with c = 1 - 2 theta/pi.
    """
    turned = 2 * theta / jnp.pi
    total = jnp.sum(teacher.v)
    return (1 - turned) * teacher.v + turned * total / (teacher.v.size + 1)


def profile(theta: float | jax.Array, teacher: TwoLayer) -> jax.Array:
    """The loss with that v: ((1 - c^2) ||v*||^2 + (1 - c)^2 S*^2 / (m + 1)) / 8."""
    turned = 2 * theta / jnp.pi
    square, total = jnp.sum(teacher.v**2), jnp.sum(teacher.v)
    return (turned * (2 - turned) * square + turned**2 * total**2 / (teacher.v.size + 1)) / 8


def spurious_minimum(teacher: TwoLayer) -> TwoLayer:
    """v = -v* + 2 S*/(m + 1), w = -w*; w may have any length.

    A minimum only where `has_spurious_minimum`; a global one if S* = 0.
    """
    return TwoLayer(best_v(jnp.pi, teacher), -teacher.w)


def spurious_loss(teacher: TwoLayer) -> jax.Array:
    """The loss there: S*^2 / (2 (m + 1))."""
    return jnp.sum(teacher.v) ** 2 / (2 * (teacher.v.size + 1))


def has_spurious_minimum(teacher: TwoLayer) -> jax.Array:
    """Whether S*^2 < (m + 1) ||v*||^2 / 2; without it there are no saddles either."""
    return _share(teacher) < 0.5


def saddle_theta(teacher: TwoLayer) -> jax.Array:
    """The angle of the saddles, (pi/2) / (1 - S*^2 / ((m + 1) ||v*||^2)); NaN without them."""
    share = _share(teacher)
    there = share < 0.5
    return jnp.where(there, jnp.pi / 2 / jnp.where(there, 1 - share, 1), jnp.nan)


def _share(teacher):
    square = jnp.sum(teacher.v**2)
    return jnp.sum(teacher.v) ** 2 / ((teacher.v.size + 1) * square)


def at_angle(theta: float | jax.Array, teacher: TwoLayer, side: jax.Array) -> TwoLayer:
    """The student with `best_v` and a w of length 1 at an angle to w*, towards `side` (n,).

    Args:
      theta: 0 to pi.
      teacher: with ||w*|| = 1.
      side: any vector that is not parallel to w*.
    """
    across = side - (side @ teacher.w) * teacher.w
    across = across / jnp.linalg.norm(across)
    w = jnp.cos(theta) * teacher.w + jnp.sin(theta) * across
    return TwoLayer(best_v(theta, teacher), w)


def identity_residual(teacher: TwoLayer) -> jax.Array:
    """||E g|| of the identity estimator at the spurious point, where the others have 0.

    2 (m - 1) S*^2 / (sqrt(2 pi) (m + 1)^2): 0 only if S* = 0 or m = 1.
    """
    m = teacher.v.size
    return 2 * PEAK * (m - 1) * jnp.sum(teacher.v) ** 2 / (m + 1) ** 2
