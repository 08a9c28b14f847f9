"""Teachers and students of the two-layer model, drawn at random."""

import jax
import jax.numpy as jnp
import numpy as np

from lpml import theory
from lpml.theory import ESTIMATORS, Estimator, TwoLayer


def check_estimator(name: str) -> Estimator:
    """The estimator of that name; ValueError lists those there are."""
    if name not in ESTIMATORS:
        raise ValueError(
            f"estimator {name!r} does not exist; choose from {', '.join(ESTIMATORS)}"
        )
    return ESTIMATORS[name]


def check_float64() -> None:
    """ValueError where floats are float32, too coarse to tell descent from rounding."""
    if jnp.result_type(float) != jnp.float64:
        raise ValueError("losses are float64 here: this needs config.precision = 'float64'")


def check_positive(**settings: float) -> None:
    """ValueError for a number that is not above 0."""
    for name, value in settings.items():
        if not value > 0:
            raise ValueError(f"{name} = {value} must be positive")


def check_at_least(least: int, **settings: int) -> None:
    """ValueError for a number below `least`."""
    for name, value in settings.items():
        if value < least:
            raise ValueError(f"{name} = {value} must be at least {least}")


def drawn_teachers(
    count: int, hidden: int, inputs: int, *, random: np.random.Generator, balanced: bool = False
) -> TwoLayer:
    """`count` teachers: normal v* (count, hidden), w* (count, inputs) even on the sphere.

    `balanced` takes the mean off v*, so that its sum is 0.
    """
    v = random.normal(size=(count, hidden))
    if balanced:
        v -= v.mean(axis=1, keepdims=True)
    return TwoLayer(jnp.asarray(v), jnp.asarray(_unit(random.normal(size=(count, inputs)))))


def drawn_students(
    teachers: TwoLayer, *, length: float, random: np.random.Generator
) -> TwoLayer:
    """For each teacher normal v, and w of that length in any direction."""
    v = random.normal(size=teachers.v.shape)
    w = length * _unit(random.normal(size=teachers.w.shape))
    return TwoLayer(jnp.asarray(v), jnp.asarray(w))


def with_spurious(teachers: TwoLayer, random: np.random.Generator) -> TwoLayer:
    """The teachers, with another v* drawn for those that have no spurious minimum."""
    there = np.asarray(jax.vmap(theory.has_spurious_minimum)(teachers))
    while not there.all():
        fresh = random.normal(size=teachers.v.shape)
        teachers = teachers._replace(v=jnp.where(there[:, None], teachers.v, fresh))
        there = np.asarray(jax.vmap(theory.has_spurious_minimum)(teachers))
    return teachers


def beside_spurious(
    teachers: TwoLayer, distance: float, *, length: float, random: np.random.Generator
) -> TwoLayer:
    """The spurious points with w of that length, moved: v by `distance` in a random direction,
    w by `distance` times its length.
    """
    points = jax.vmap(theory.spurious_minimum)(teachers)
    v = _unit(random.normal(size=teachers.v.shape))
    w = _unit(random.normal(size=teachers.w.shape))
    return TwoLayer(points.v + distance * v, length * (points.w + distance * w))


def _unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)
