"""Sampled losses and coarse gradients: their means are the closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import pairs, pick

from lpml import theory
from lpml.theory import ESTIMATORS, clipped_relu

CASES = (*ESTIMATORS.values(), clipped_relu(0.4))


def sampled(count, seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(count, 4, 6)))


def errors_in_sigmas(samples, exact):
    samples = np.asarray(samples)
    spread = samples.std(0, ddof=1) / np.sqrt(len(samples))
    return np.abs(samples.mean(0) - exact) / spread


def all_errors(student, teacher, z):
    """Deviations in standard errors: loss, v, and w for each estimator."""
    one = jax.jit(jax.vmap(lambda each: theory.sampled_loss(each[None], student, teacher)))
    yield errors_in_sigmas(one(z), theory.loss(student, teacher))
    for estimator in CASES:
        each = theory.sampled_coarse_gradients(estimator, z, student, teacher)
        exact = theory.coarse_gradient(estimator, student, teacher)
        for samples, wanted in zip(each, exact):
            yield errors_in_sigmas(samples, wanted)


def test_closed_forms_are_the_means_of_samples():
    # 3 problems x (1 + 4 x 10) numbers: chance puts the largest beyond 4.5 once in 1000 seeds
    students, teachers = pairs(3, 4, 6)
    for index in range(3):
        found = all_errors(pick(students, index), pick(teachers, index), sampled(50_000, index))
        assert max(np.max(each) for each in found) < 4.5


@pytest.mark.slow
def test_closed_forms_are_the_means_of_two_million_samples():
    students, teachers = pairs(3, 4, 6)
    for index in range(3):
        student, teacher = pick(students, index), pick(teachers, index)
        found = all_errors(student, teacher, sampled(2_000_000, 10 + index))
        assert max(np.max(each) for each in found) < 4.5


def test_a_wrong_closed_form_would_be_seen():
    student, teacher = (pick(each, 0) for each in pairs(1, 4, 6))
    each = theory.sampled_coarse_gradients(
        ESTIMATORS["relu"], sampled(50_000, 0), student, teacher
    )
    wrong = theory.coarse_gradient(clipped_relu(1.0), student, teacher).w
    assert np.max(errors_in_sigmas(each.w, wrong)) > 10


def test_the_mean_gradient_is_the_mean_of_the_gradients():
    student, teacher = (pick(each, 0) for each in pairs(1, 4, 6))
    z = sampled(100, 3)
    for estimator in CASES:
        mean = theory.sampled_coarse_gradient(estimator, z, student, teacher)
        each = theory.sampled_coarse_gradients(estimator, z, student, teacher)
        for got, wanted in zip(mean, each):
            np.testing.assert_allclose(got, jnp.mean(wanted, 0), rtol=1e-10)


def test_a_sample_is_equation_five_in_loops():
    student, teacher = (pick(each, 0) for each in pairs(1, 4, 6))
    z = sampled(5, 1)
    for estimator in CASES:
        found = theory.sampled_coarse_gradients(estimator, z, student, teacher)
        for number, rows in enumerate(np.asarray(z)):
            v, w = np.asarray(student.v), np.asarray(student.w)
            fired = [float(row @ w > 0) for row in rows]
            said = sum(a * b for a, b in zip(v, fired))
            wanted = sum(
                a * (row @ np.asarray(teacher.w) > 0) for a, row in zip(teacher.v, rows)
            )
            slopes = [float(estimator.derivative(jnp.float64(row @ w))) for row in rows]
            by_w = sum(s * a * row for s, a, row in zip(slopes, v, rows)) * (said - wanted)
            np.testing.assert_allclose(found.w[number], by_w, rtol=1e-10, atol=1e-14)
            by_v = np.array(fired) * (said - wanted)
            np.testing.assert_allclose(found.v[number], by_v, rtol=1e-10, atol=1e-14)
