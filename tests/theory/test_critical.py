"""Critical points of the two-layer model: their values, gradients, and what is near them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import over_many, pairs

from lpml import theory
from lpml.theory import ESTIMATORS, TwoLayer

HIDDEN, INPUTS = 8, 16


@pytest.fixture
def teachers():
    return pairs(50, HIDDEN, INPUTS)[1]


@pytest.fixture
def sides():
    return jnp.asarray(np.random.default_rng(9).normal(size=(50, INPUTS)))


def test_the_spurious_point_has_the_loss_it_is_said_to_have(teachers):
    points = jax.vmap(theory.spurious_minimum)(teachers)
    found = over_many(theory.loss)(points, teachers)
    np.testing.assert_allclose(
        found, np.sum(teachers.v, -1) ** 2 / 2 / (HIDDEN + 1), atol=1e-14
    )
    np.testing.assert_allclose(found, jax.vmap(theory.spurious_loss)(teachers), atol=1e-14)
    wanted = -teachers.v + 2 * jnp.sum(teachers.v, -1, keepdims=True) / (HIDDEN + 1)
    np.testing.assert_allclose(points.v, wanted, rtol=1e-10, atol=1e-12)


def test_there_the_coarse_gradients_vanish_but_that_of_the_identity(teachers):
    points = jax.vmap(theory.spurious_minimum)(teachers)
    for label, estimator in ESTIMATORS.items():
        found = over_many(lambda s, t, e=estimator: theory.coarse_gradient(e, s, t))(
            points, teachers
        )
        np.testing.assert_allclose(found.v, 0, atol=1e-14)
        sizes = jnp.linalg.norm(found.w, axis=-1)
        total = np.sum(np.asarray(teachers.v), -1)
        left = 2 * (HIDDEN - 1) * total**2 / np.sqrt(2 * np.pi) / (HIDDEN + 1) ** 2
        np.testing.assert_allclose(sizes, left if label == "identity" else 0, atol=1e-13)
    residual = jax.vmap(theory.identity_residual)(teachers)
    np.testing.assert_allclose(residual, left, rtol=1e-12)


def test_saddles_are_critical_for_all_but_the_identity(teachers, sides):
    turned = jax.vmap(theory.saddle_theta)(teachers)
    there = np.asarray(jax.vmap(theory.has_spurious_minimum)(teachers))
    assert 0 < there.sum() < len(there)
    np.testing.assert_array_equal(np.isnan(turned), ~there)
    assert np.all((turned[there] >= np.pi / 2) & (turned[there] <= np.pi))
    saddles = jax.vmap(theory.at_angle)(turned, teachers, sides)
    np.testing.assert_allclose(jnp.sum(saddles.v * teachers.v, -1)[there], 0, atol=1e-14)
    for leaf in over_many(theory.gradient)(saddles, teachers):
        np.testing.assert_allclose(leaf[there], 0, atol=1e-14)
    for label in ("relu", "clipped_relu"):
        estimator = ESTIMATORS[label]
        found = over_many(lambda s, t, e=estimator: theory.coarse_gradient(e, s, t))(
            saddles, teachers
        )
        np.testing.assert_allclose(found.w[there], 0, atol=1e-13)


def test_the_profile_is_the_loss_at_the_best_v_and_no_v_is_better(teachers, sides):
    for turned in np.linspace(0, np.pi, 5):
        best = jax.vmap(lambda t, side, at=turned: theory.at_angle(at, t, side))(
            teachers, sides
        )
        least = over_many(theory.loss)(best, teachers)
        wanted = jax.vmap(lambda t, at=turned: theory.profile(at, t))(teachers)
        np.testing.assert_allclose(least, wanted, atol=1e-12)
        moved = best._replace(v=best.v + 0.01 * sides[:, :HIDDEN])
        assert jnp.all(over_many(theory.loss)(moved, teachers) > least)
        share = 1 - 2 * turned / np.pi
        square, total = np.sum(teachers.v**2, -1), np.sum(teachers.v, -1)
        formula = (1 - share**2) * square + (1 - share) ** 2 * total**2 / (HIDDEN + 1)
        np.testing.assert_allclose(wanted, formula / 8, atol=1e-12)


def test_the_profile_falls_towards_a_spurious_minimum_only_where_there_is_one(teachers):
    ends = jax.vmap(lambda t: theory.profile(jnp.array([np.pi - 1e-4, np.pi]), t))(teachers)
    there = np.asarray(jax.vmap(theory.has_spurious_minimum)(teachers))
    np.testing.assert_array_equal(ends[:, 1] < ends[:, 0], there)
    thetas = jnp.linspace(0, np.pi, 2001)
    highest = thetas[
        jnp.argmax(jax.vmap(lambda t: theory.profile(thetas, t))(teachers), axis=1)
    ]
    turned = jax.vmap(theory.saddle_theta)(teachers)
    np.testing.assert_allclose(highest[there], turned[there], atol=np.pi / 2000)


def test_the_ratio_of_the_bound_grows_as_one_over_the_distance_for_the_identity_alone(
    teachers, sides
):
    distances = np.array([1e-1, 1e-2, 1e-3, 1e-4])
    ratios = {label: [] for label in ESTIMATORS}
    points = jax.vmap(theory.spurious_minimum)(teachers)
    there = np.asarray(jax.vmap(theory.has_spurious_minimum)(teachers))
    shift = TwoLayer(sides[:, :HIDDEN], jnp.roll(sides, 3, axis=1))
    length = jnp.sqrt(jnp.sum(shift.v**2, -1) + jnp.sum(shift.w**2, -1))[:, None]
    for distance in distances:
        near = jax.tree.map(lambda x, d, far=distance: x + far * d / length, points, shift)
        for label, estimator in ESTIMATORS.items():
            ratio = over_many(lambda s, t, e=estimator: theory.descent_ratio(e, s, t))
            ratios[label].append(np.median(ratio(near, teachers)[there]))
    growth = {label: np.array(each[1:]) / each[:-1] for label, each in ratios.items()}
    np.testing.assert_allclose(growth["identity"][1:], 10, rtol=0.05)
    for label in ("relu", "clipped_relu"):
        np.testing.assert_allclose(growth[label][1:], 0.1, rtol=0.05)


def test_the_ratio_is_infinite_at_the_spurious_point_and_zero_at_rest():
    teacher = TwoLayer(jnp.array([1.0, 0.0, 1.0]), jnp.array([1.0, 0.0]))
    point = theory.spurious_minimum(teacher)
    assert theory.descent_ratio(ESTIMATORS["identity"], point, teacher) > 1e20
    assert theory.descent_ratio(ESTIMATORS["relu"], teacher, teacher) == 0
