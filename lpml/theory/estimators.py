"""Straight-through estimators of the two-layer model: a derivative, and its Gaussian moments.

The step function 1{x > 0} has no useful derivative; an estimator puts mu' in its place. Of the
expected coarse gradient only these expectations of mu' matter, Z being a row of the input:

    a = E[Z mu'(Zw) 1{Zw > 0}]    b = E[Z mu'(Zw) 1{Zw* > 0}]    c = E[Z mu'(Zw)]

a and c lie along w by symmetry, b in the plane of w and w*.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm as normal

PEAK = 0.3989422804014327  # the normal density at 0, 1/sqrt(2 pi)


class Angle(NamedTuple):
    """Where the student's filter w lies against the teacher's w*.

    Attributes:
      length: ||w||, >= 0.
      direction: w/||w||, (n,); zero where w = 0.
      across: u, the unit vector of w* across w, (n,); zero where w and w* are parallel.
      cos, sin: of the angle theta between them; theta in [0, pi], and pi/2 where w = 0.
    """

    length: jax.Array
    direction: jax.Array
    across: jax.Array
    cos: jax.Array
    sin: jax.Array


class Moments(NamedTuple):
    """Components of a, b and c along w/||w||, and of b along u (`b_across`)."""

    a: jax.Array
    b: jax.Array
    b_across: jax.Array
    c: jax.Array


class Estimator(NamedTuple):
    """What stands for the derivative of the step function.

    Attributes:
      label: for messages.
      derivative: mu', elementwise.
      moments: those of mu', as a function of the angle; finite for every w, w = 0 and
        theta = 0 or pi included.
    """

    label: str
    derivative: Callable[[jax.Array], jax.Array]
    moments: Callable[[Angle], Moments]


def _identity_moments(angle: Angle) -> Moments:
    zero = jnp.zeros_like(angle.length)
    return Moments(zero + PEAK, PEAK * angle.cos, PEAK * angle.sin, zero)


def _relu_moments(angle: Angle) -> Moments:
    half = jnp.full_like(angle.length, PEAK)
    return Moments(half, PEAK * (1 + angle.cos) / 2, PEAK * angle.sin / 2, half)


IDENTITY = Estimator("identity", jnp.ones_like, _identity_moments)
"""mu' = 1. Hinton's original one."""

RELU = Estimator("relu", lambda x: jnp.where(x > 0, 1.0, 0.0), _relu_moments)
"""mu' = 1{x > 0}."""


def clipped_relu(clip: float | jax.Array = 1.0) -> Estimator:
    """mu' = 1{0 < x < clip}, clip > 0; that of ReLU where ||w|| is small against clip."""
    if isinstance(clip, (int, float)) and not clip > 0:
        raise ValueError(f"clip = {clip} must be positive")

    def moments(angle: Angle) -> Moments:
        tiny = jnp.finfo(angle.length.dtype).tiny
        # in units of ||w||; never infinite, because 0 * inf is NaN
        edge = jnp.minimum(clip / jnp.maximum(angle.length, tiny), 1 / jnp.sqrt(tiny))
        sin = jnp.maximum(angle.sin, jnp.sqrt(tiny))
        at_edge = normal.pdf(edge)
        radial = -PEAK * jnp.expm1(-(edge**2) / 2)  # pdf(0) - pdf(edge) without cancelling
        # (Phi(s / sin) - 1/2) / sqrt(2 pi), by erf, which is exact for small arguments
        within = PEAK * jax.scipy.special.erf(edge / sin / jnp.sqrt(2.0)) / 2
        b = PEAK / 2 - at_edge * normal.cdf(edge * angle.cos / sin) + angle.cos * within
        return Moments(radial, b, angle.sin * within, radial)

    return Estimator(
        "clipped_relu", lambda x: jnp.where((x > 0) & (x < clip), 1.0, 0.0), moments
    )


ESTIMATORS = {each.label: each for each in (IDENTITY, RELU, clipped_relu())}
"""The paper's three, by label."""
