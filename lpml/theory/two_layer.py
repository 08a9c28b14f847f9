"""The two-layer model with step activations, in exact expectations over Gaussian inputs.

After Yin, Lyu, Zhang, Osher, Qi, Xin, Understanding straight-through estimator in training
activation quantized neural nets, ICLR 2019, arXiv 1903.05662. An input is a matrix Z, m x n,
of independent normal numbers; student and teacher say

    y = v^T step(Z w),    y* = v*^T step(Z w*),    step(x) = 1{x > 0}

and the loss is f(v, w) = E (y - y*)^2 / 2. With theta the angle between w and w*, u the unit
vector of w* across w, S = sum of v, S* = sum of v* and p = v . v* all below is closed form.
Teachers are given with ||w*|| = 1. All functions are pure, of one student and one teacher; vmap
them over many. They are finite everywhere: at theta = 0 and pi by their limits, at w = 0, where
the limits depend on the direction, by the convention written at each.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lpml.theory.estimators import Angle, Estimator


class TwoLayer(NamedTuple):
    """Weights of a student or teacher, or a gradient with regard to them.

    Attributes:
      v: of the outputs, (m,).
      w: the filter all rows share, (n,).
    """

    v: jax.Array
    w: jax.Array


def _length(x):
    square = jnp.sum(x * x)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _unit(x):
    """(length, direction) of a vector of any size; direction 0 where it is 0."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x)))
    scale = jnp.where(largest > 0, largest, 1)  # squares of small numbers underflow
    length = _length(x / scale)
    return scale * length, x / scale / jnp.where(length > 0, length, 1)


def angle(student: TwoLayer, teacher: TwoLayer) -> Angle:
    """Length and direction of w against w*."""
    length, direction = _unit(student.w)
    along = direction @ teacher.w
    sin, across = _unit(teacher.w - along * direction)
    # a difference, so w's rounding errors are all there is to it where the two are parallel
    noise = 4 * jnp.finfo(sin.dtype).eps
    across = jnp.where(sin > noise, across, 0)
    sin = jnp.where(sin > noise, sin, 0)
    return Angle(length, direction, across, along, sin)


def theta(student: TwoLayer, teacher: TwoLayer) -> jax.Array:
    """The angle between w and w*, in [0, pi]; pi/2 where w = 0."""
    place = angle(student, teacher)
    return _theta(place)


def _theta(place):
    parallel = place.sin == 0
    inside = jnp.arctan2(jnp.where(parallel, 1, place.sin), place.cos)
    return jnp.where(parallel, jnp.where(place.cos > 0, 0, jnp.pi), inside)


def _with_ones(x):
    """(I + 1 1^T) x."""
    return x + jnp.sum(x)


def loss(student: TwoLayer, teacher: TwoLayer) -> jax.Array:
    """f(v, w) [Lemma 1]; at w = 0, where the output is 0, v*^T (I + 1 1^T) v* / 8.

    f = (v^T (I + 11^T) v - 2 v^T ((1 - 2 theta/pi) I + 11^T) v* + v*^T (I + 11^T) v*) / 8
    """
    place = angle(student, teacher)
    turned = 2 * _theta(place) / jnp.pi
    # the same in v - v*, so that nothing cancels near the teacher
    apart = student.v - teacher.v
    square = jnp.sum(apart**2) + jnp.sum(apart) ** 2
    value = (square + 2 * turned * (student.v @ teacher.v)) / 8
    return jnp.where(place.length > 0, value, teacher.v @ _with_ones(teacher.v) / 8)


def gradient(student: TwoLayer, teacher: TwoLayer) -> TwoLayer:
    """The true gradient of f [Lemma 2].

    df/dv = ((I + 11^T) v - ((1 - 2 theta/pi) I + 11^T) v*) / 4
    df/dw = -p / (2 pi ||w||) u

    df/dw is 0 where w and w* are parallel (f has a kink there, or u no direction); both are 0
    at w = 0.
    """
    place = angle(student, teacher)
    there = place.length > 0
    turned = 2 * _theta(place) / jnp.pi
    by_v = (_with_ones(student.v - teacher.v) + turned * teacher.v) / 4
    size = (student.v @ teacher.v) / (2 * jnp.pi * jnp.where(there, place.length, 1))
    return TwoLayer(jnp.where(there, by_v, 0), jnp.where(there, -size * place.across, 0))


def coarse_gradient(estimator: Estimator, student: TwoLayer, teacher: TwoLayer) -> TwoLayer:
    """The expected coarse gradient: df/dv, and in the place of df/dw

    E g = (||v||^2 a + (S^2 - ||v||^2) c / 2) - p b - (S S* - p) c / 2

    with the estimator's moments [Lemmas 4 and 7]. At w = 0 it is the mean of the limits over
    all directions.
    """
    place = angle(student, teacher)
    a, b, b_across, c = estimator.moments(place)
    v, other = student.v, teacher.v
    square, total, p = v @ v, jnp.sum(v), v @ other
    # c's share: the rows that are not the one differentiated
    others = (total**2 - square - total * jnp.sum(other) + p) / 2
    radial = square * a - p * b + others * c
    coarse = radial * place.direction - p * b_across * place.across
    return TwoLayer(gradient(student, teacher).v, coarse)


def correlation(estimator: Estimator, student: TwoLayer, teacher: TwoLayer) -> jax.Array:
    """<E g, df/dw> = p^2 b_across / (2 pi ||w||) >= 0 [Lemmas 5 and 8]; 0 at w = 0.

    Identity: sin(theta) p^2 / ((2 pi)^(3/2) ||w||). ReLU: half of it. Clipped ReLU: ReLU's
    times erf(clip / (sqrt(2) ||w|| sin(theta))).
    """
    place = angle(student, teacher)
    there = place.length > 0
    across = estimator.moments(place).b_across
    size = 2 * jnp.pi * jnp.where(there, place.length, 1)
    return jnp.where(there, (student.v @ teacher.v) ** 2 * across / size, 0)


def descent_ratio(estimator: Estimator, student: TwoLayer, teacher: TwoLayer) -> jax.Array:
    """||E g||^2 / (||df/dv||^2 + <E g, df/dw>): what bound (12) says is bounded.

    Descent with a small rate follows from the bound. ReLU and clipped ReLU have it while
    ||v|| is bounded; for the identity the ratio grows without bound towards a spurious minimum.
    Infinite where the gradients vanish and E g does not, 0 where all three vanish.
    """
    coarse = coarse_gradient(estimator, student, teacher)
    above = jnp.sum(coarse.w**2)
    below = jnp.sum(coarse.v**2) + correlation(estimator, student, teacher)
    ratio = above / jnp.where(below > 0, below, 1)
    return jnp.where(below > 0, ratio, jnp.where(above > 0, jnp.inf, 0))
