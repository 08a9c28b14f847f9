"""What is measured of coarse gradients, against plain loops over the closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml import theory
from lpml.measurements import coarse_correlation, coarse_descent, coarse_line, teachers
from lpml.theory import ESTIMATORS, TwoLayer

SMALL = dict(steps=6, lines=3, teachers=4, hidden=3, inputs=4)


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def all_lines(measurement, seed=5):
    found = list(measurement.lines(seed))
    assert len(found) == measurement.count
    assert all(tuple(line) == measurement.metrics for line in found)
    return found


def paths(rate, steps, **settings):
    """Losses, lengths and angles of each teacher at each step, one after another."""
    random = np.random.default_rng(5)
    known = teachers.drawn_teachers(4, 3, 4, random=random)
    start = teachers.drawn_students(known, length=settings["length"], random=random)
    step = jax.jit(lambda s, t: theory.coarse_gradient(ESTIMATORS["identity"], s, t))
    for index in range(4):
        student, teacher = (
            jax.tree.map(lambda x, i=index: x[i], each) for each in (start, known)
        )
        losses = [float(theory.loss(student, teacher))]
        for _ in range(steps):
            slope = step(student, teacher)
            student = TwoLayer(student.v - rate * slope.v, student.w - rate * slope.w)
            losses.append(float(theory.loss(student, teacher)))
        yield (
            np.array(losses),
            float(jnp.linalg.norm(student.w)),
            float(theory.spurious_loss(teacher)),
        )


def test_descent_is_algorithm_one_in_a_loop():
    # large steps and a short filter, so that losses rise
    found = all_lines(coarse_descent(estimator="identity", length=0.2, rate=0.3, **SMALL))
    known = list(paths(0.3, 6, length=0.2))
    rises = np.array([np.maximum(np.diff(losses), 0) for losses, _, _ in known])
    assert 0 < np.mean(rises.sum(1) == 0) < 1, "some rise and some do not"
    assert found[-1]["monotone"] == np.mean(rises.sum(1) == 0)
    assert found[0]["monotone"] == np.mean(rises[:, :2].sum(1) == 0)
    assert found[-1]["rise"] == pytest.approx(rises.sum(1).max())
    assert found[-1]["chattering"] == np.mean(rises[:, 4:].sum(1) > 0)
    assert found[-1]["length"] == pytest.approx(np.median([length for _, length, _ in known]))
    worst = [losses[4:].max() / spurious for losses, _, spurious in known]
    assert found[-1]["worst_excess"] == pytest.approx(np.median(worst))
    last = [losses[-1] / spurious for losses, _, spurious in known]
    assert found[-1]["excess"] == pytest.approx(np.median(last))


def test_endings_are_shares_and_a_start_beside_the_spurious_minimum_stays_there():
    settings = dict(steps=400, lines=2, teachers=6, hidden=4, inputs=5, distance=1e-3)
    for name, settled in (("relu", 1.0), ("clipped_relu", 1.0)):
        last = all_lines(coarse_descent(estimator=name, length=1.0, **settings))[-1]
        assert last["at_spurious"] == settled
        assert last["excess"] == pytest.approx(1, abs=0.01)
    identity = all_lines(coarse_descent(estimator="identity", length=0.1, **settings))[-1]
    assert identity["chattering"] > 0.3
    assert identity["chatter_excess"] > 2
    shares = [identity[k] for k in ("at_global", "at_spurious", "chattering", "moving")]
    assert sum(shares) == pytest.approx(1)


def test_all_teachers_of_such_starts_have_a_spurious_minimum_and_balanced_ones_no_sum():
    random = np.random.default_rng(0)
    known = teachers.drawn_teachers(200, 3, 4, random=random)
    assert not jnp.all(jax.vmap(theory.has_spurious_minimum)(known))
    kept = teachers.with_spurious(known, random)
    assert jnp.all(jax.vmap(theory.has_spurious_minimum)(kept))
    balanced = teachers.drawn_teachers(9, 3, 4, random=random, balanced=True)
    np.testing.assert_allclose(jnp.sum(balanced.v, -1), 0, atol=1e-14)
    near = teachers.beside_spurious(kept, 0.25, length=2.0, random=random)
    points = jax.vmap(theory.spurious_minimum)(kept)
    np.testing.assert_allclose(jnp.linalg.norm(near.v - points.v, axis=-1), 0.25)
    np.testing.assert_allclose(jnp.linalg.norm(near.w - 2 * points.w, axis=-1), 0.5)


def test_the_line_of_losses_is_that_of_the_moved_student():
    points, longest = 4, 0.8
    found = all_lines(
        coarse_line(samples=30, points=points, longest=longest, repeats=1, hidden=3, inputs=4)
    )
    random = np.random.default_rng(5)
    known = teachers.drawn_teachers(1, 3, 4, random=random)
    start = teachers.drawn_students(known, length=4.0, random=random)
    student, teacher = (jax.tree.map(lambda x: x[0], each) for each in (start, known))
    z = jnp.asarray(random.normal(size=(30, 3, 4)))
    slope = theory.sampled_coarse_gradient(ESTIMATORS["relu"], z, student, teacher)
    base = theory.loss(student, teacher)
    losses = [theory.sampled_loss(z, student, teacher) / base]
    for number, line in enumerate(found, start=1):
        rate = longest * number / points
        moved = TwoLayer(student.v - rate * slope.v, student.w - rate * slope.w)
        losses.append(theory.sampled_loss(z, moved, teacher) / base)
        assert line["rate"] == pytest.approx(rate)
        assert line["sample_loss"] == pytest.approx(float(losses[-1]))
        assert line["population_loss"] == pytest.approx(
            float(theory.loss(moved, teacher) / base)
        )
    least = int(np.argmin(losses))
    steps = np.diff(losses[: least + 1])
    assert least > 0
    assert found[-1]["fall"] == pytest.approx(float(1 - losses[least] / losses[0]))
    assert found[-1]["rising_share"] == np.mean(steps > 0)
    climb = steps[steps > 0].sum() / (losses[0] - losses[least])
    assert found[-1]["climb"] == pytest.approx(float(climb))


def test_larger_samples_are_smoother():
    settings = dict(points=40, repeats=3, hidden=4, inputs=6)
    few, many = (all_lines(coarse_line(samples=n, **settings))[-1] for n in (10, 2000))
    assert few["climb"] > 5 * many["climb"]


def test_the_correlation_is_sampled_and_exact_at_the_same_points():
    settings = dict(samples=4000, points=5, nearest=1e-2, hidden=4, inputs=5)
    by_name = {
        name: all_lines(coarse_correlation(estimator=name, **settings)) for name in ESTIMATORS
    }
    for lines in by_name.values():
        np.testing.assert_allclose([x["distance"] for x in lines], np.geomspace(1, 1e-2, 5))
        for line in lines:
            apart = abs(line["sampled_correlation"] - line["correlation"])
            assert apart < 4.5 * line["standard_error"]
            norms = line["coarse_norm"] ** 2 / line["ratio"] - line["correlation"]
            assert norms > 0  # ||df/dv||^2
            assert abs(line["cosine"]) <= 1
    for relu, identity in zip(by_name["relu"], by_name["identity"], strict=True):
        assert relu["correlation"] == pytest.approx(identity["correlation"] / 2)
        assert relu["true_norm"] == identity["true_norm"]


@pytest.mark.parametrize(
    ("measure", "settings", "words"),
    [
        (
            coarse_descent,
            dict(estimator="sign"),
            "estimator 'sign' does not exist; choose from id",
        ),
        (coarse_descent, dict(steps=7, lines=2), "steps = 7 must be a multiple of lines = 2"),
        (coarse_descent, dict(rate=0.0), "rate = 0.0 must be positive"),
        (coarse_descent, dict(distance=0.0), "distance = 0.0 must be positive"),
        (coarse_descent, dict(inputs=1), "inputs = 1 must be at least 2"),
        (coarse_line, dict(samples=0), "samples = 0 must be at least 1"),
        (coarse_line, dict(estimator="tanh"), "estimator 'tanh'"),
        (coarse_correlation, dict(nearest=1.0), "nearest = 1.0 must lie between 0 and 1"),
        (coarse_correlation, dict(points=1), "points = 1 must be at least 2"),
    ],
)
def test_bad_settings_are_refused(measure, settings, words):
    with pytest.raises(ValueError, match=words):
        measure(**settings)


@pytest.mark.parametrize("measure", [coarse_descent, coarse_line, coarse_correlation])
def test_float32_is_refused(measure):
    with (
        jax.enable_x64(False),
        pytest.raises(ValueError, match=r"config\.precision = 'float64'"),
    ):
        measure()
