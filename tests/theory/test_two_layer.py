"""The two-layer model's closed forms: against autodiff, quadrature, samples and limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import over_many, pairs, pick
from scipy.integrate import quad
from scipy.special import erf
from scipy.stats import norm

from lpml import theory
from lpml.theory import ESTIMATORS, IDENTITY, RELU, TwoLayer, clipped_relu

CLIPPED = clipped_relu()
every_estimator = pytest.mark.parametrize(
    "estimator", [IDENTITY, RELU, CLIPPED, clipped_relu(2.5)]
)


def coarse(estimator):
    return over_many(lambda s, t: theory.coarse_gradient(estimator, s, t))


def angles(students, teachers):
    """theta by numpy's arccos, p, and ||w||."""
    w, other = np.asarray(students.w), np.asarray(teachers.w)
    length = np.linalg.norm(w, axis=-1)
    turned = np.arccos(np.sum(w * other, axis=-1) / length)
    return turned, np.sum(np.asarray(students.v * teachers.v), axis=-1), length


def test_the_loss_is_the_papers_formula():
    students, teachers = pairs(50, 5, 7)
    turned, p, _ = angles(students, teachers)
    v, other = np.asarray(students.v), np.asarray(teachers.v)
    both = np.eye(5) + 1
    square = [x @ both @ x for x in v], [x @ both @ x for x in other]
    cross = (1 - 2 * turned / np.pi) * p + v.sum(-1) * other.sum(-1)
    wanted = (np.array(square[0]) - 2 * cross + np.array(square[1])) / 8
    np.testing.assert_allclose(over_many(theory.loss)(students, teachers), wanted, rtol=1e-12)


def test_the_true_gradient_is_the_derivative_of_the_loss():
    students, teachers = pairs(50, 5, 7)
    wanted = over_many(jax.grad(theory.loss))(students, teachers)
    found = over_many(theory.gradient)(students, teachers)
    for got, want in zip(found, wanted):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


def test_the_true_gradient_agrees_with_differences():
    students, teachers = pairs(3, 4, 6)
    loss, found = over_many(theory.loss), theory.gradient
    for index in range(3):
        student, teacher = pick(students, index), pick(teachers, index)
        steps = 1e-5 * jnp.eye(6)
        ends = [
            loss(
                TwoLayer(jnp.tile(student.v, (6, 1)), student.w + sign * steps),
                jax.tree.map(lambda x: jnp.tile(x, (6, 1)), teacher),
            )
            for sign in (1, -1)
        ]
        differences = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(found(student, teacher).w, differences, atol=2e-9)


def test_coarse_gradients_are_the_papers_formulas():
    students, teachers = pairs(50, 5, 7)
    turned, p, length = angles(students, teachers)
    v, other = np.asarray(students.v), np.asarray(teachers.v)
    direction = np.asarray(students.w) / length[:, None]
    wanted = (np.sum(v**2, -1)[:, None] * direction - p[:, None] * teachers.w) / np.sqrt(
        2 * np.pi
    )
    np.testing.assert_allclose(coarse(IDENTITY)(students, teachers).w, wanted, atol=1e-13)
    h = np.sum(v**2, -1) + v.sum(-1) ** 2 - v.sum(-1) * other.sum(-1) + p
    between = direction + np.asarray(teachers.w)
    between /= np.linalg.norm(between, axis=-1, keepdims=True)
    wanted = h[:, None] / (2 * np.sqrt(2 * np.pi)) * direction
    wanted -= (np.cos(turned / 2) * p / np.sqrt(2 * np.pi))[:, None] * between
    np.testing.assert_allclose(coarse(RELU)(students, teachers).w, wanted, atol=1e-13)
    for estimator in ESTIMATORS.values():
        by_v = coarse(estimator)(students, teachers).v
        np.testing.assert_array_equal(by_v, over_many(theory.gradient)(students, teachers).v)


@pytest.mark.parametrize(
    ("length", "turned", "along", "across"),
    [
        (0.5, 0.7, 0.298228, 0.128258),
        (1.3, 2.0, 0.041914, 0.109267),
        (3.0, 2.9, 0.004235, 0.039918),
    ],
)
def test_clipped_moments_are_the_papers_angular_integrals(length, turned, along, across):
    def integral(trigonometric):
        def reach(x):  # the integral of r^2 exp(-r^2 / 2) up to x
            return np.sqrt(np.pi / 2) * erf(x / np.sqrt(2)) - x * np.exp(-(x**2) / 2)

        inside = lambda a: trigonometric(a) * reach(1 / (np.cos(a) * length))  # noqa: E731
        return quad(inside, turned - np.pi / 2, np.pi / 2 - 1e-12)[0] / (2 * np.pi)

    w = length * jnp.array([jnp.cos(turned), jnp.sin(turned)])
    student = TwoLayer(jnp.ones(1), w)
    place = theory.angle(student, TwoLayer(jnp.ones(1), jnp.array([1.0, 0.0])))
    found = CLIPPED.moments(place)
    assert float(found.b) == pytest.approx(integral(np.cos), abs=1e-9)
    assert float(found.b_across) == pytest.approx(integral(np.sin), abs=1e-9)
    assert (float(found.b), float(found.b_across)) == pytest.approx((along, across), abs=1e-6)


@pytest.mark.parametrize(
    ("estimator", "edge"),
    [(IDENTITY, 0.0), (RELU, 0.0), (CLIPPED, 1.0), (clipped_relu(2.5), 2.5)],
)
@pytest.mark.parametrize("turned", [0.3, 1.9])
def test_moments_are_integrals_along_the_filter(estimator, edge, turned):
    length, cot = 1.4, 1 / np.tan(turned)

    def integral(f):
        return quad(f, -9, 9, points=[0, edge / length], epsabs=1e-11, limit=100)[0]

    def mass(x):  # mu' times the density along w
        return float(estimator.derivative(np.float64(length * x))) * norm.pdf(x)

    # across w the teacher's condition is y > -x cot(theta), and its integrals are known
    wanted = [
        integral(lambda x: x * mass(x) * (x > 0)),
        integral(lambda x: x * mass(x) * norm.sf(-x * cot)),
        integral(lambda x: mass(x) * norm.pdf(x * cot)),
        integral(lambda x: x * mass(x)),
    ]
    ones = jnp.ones(1)
    other = TwoLayer(ones, jnp.array([np.cos(turned), np.sin(turned)]))
    place = theory.angle(TwoLayer(ones, jnp.array([length, 0.0])), other)
    np.testing.assert_allclose(estimator.moments(place), wanted, atol=1e-9)


@every_estimator
def test_the_correlation_is_the_product_of_the_gradients(estimator):
    students, teachers = pairs(50, 5, 7)
    true = over_many(theory.gradient)(students, teachers).w
    product = jnp.sum(coarse(estimator)(students, teachers).w * true, axis=-1)
    found = over_many(lambda s, t: theory.correlation(estimator, s, t))(students, teachers)
    np.testing.assert_allclose(found, product, rtol=1e-10)
    turned, p, length = angles(students, teachers)
    identity = np.sin(turned) * p**2 / ((2 * np.pi) ** 1.5 * length)
    share = {"identity": 1, "relu": 0.5}.get(estimator.label)
    if share is not None:
        np.testing.assert_allclose(found, share * identity, rtol=1e-10)
    elif estimator is CLIPPED:
        lost = erf(1 / (np.sqrt(2) * length * np.sin(turned)))
        np.testing.assert_allclose(found, identity / 2 * lost, rtol=1e-10)


def test_the_bound_separates_the_identity_from_the_others():
    # the ranges: ||v|| <= 4, ||w|| within 0.5 and 1.5
    students, teachers = pairs(40_000, 4, 6, seed=3, lengths=(0.5, 1.5))
    sizes = jnp.linalg.norm(students.v, axis=-1, keepdims=True)
    students = students._replace(v=students.v * jnp.minimum(1, 4 / sizes))
    most = {}
    for label, estimator in ESTIMATORS.items():
        ratio = over_many(lambda s, t, e=estimator: theory.descent_ratio(e, s, t))
        most[label] = float(jnp.max(ratio(students, teachers)))
    assert most["identity"] > 2 * most["relu"] > 2 * most["clipped_relu"]


@every_estimator
def test_parallel_filters_have_the_limits_from_beside(estimator):
    (student, teacher) = (pick(each, 0) for each in pairs(1, 5, 7))
    across = jnp.roll(teacher.w, 1) - (jnp.roll(teacher.w, 1) @ teacher.w) * teacher.w
    for sign in (1, -1):
        exact = student._replace(w=1.7 * sign * teacher.w)
        near = exact._replace(w=exact.w + 1e-9 * across)
        for function in (theory.loss, lambda s, t: theory.coarse_gradient(estimator, s, t)):
            at, beside = (jax.tree.leaves(function(s, teacher)) for s in (exact, near))
            for got, want in zip(at, beside):
                np.testing.assert_allclose(got, want, atol=1e-8)
        assert theory.theta(exact, teacher) == (0 if sign > 0 else jnp.pi)
        np.testing.assert_array_equal(theory.gradient(exact, teacher).w, 0)


def everything(estimator, student, teacher):
    return (
        theory.loss(student, teacher),
        jax.grad(theory.loss)(student, teacher),
        theory.gradient(student, teacher),
        theory.coarse_gradient(estimator, student, teacher),
        theory.correlation(estimator, student, teacher),
    )


@every_estimator
def test_all_is_finite_where_angles_and_lengths_end(estimator):
    _, teacher = (pick(each, 0) for each in pairs(1, 5, 7))
    right = jnp.zeros(7).at[0].set(teacher.w[1]).at[1].set(-teacher.w[0])
    ways = [jnp.zeros(7), teacher.w, -teacher.w, right, teacher.w + 1e-300 * right]
    filters = jnp.stack([size * way for way in ways for size in (1e-200, 1e-8, 1.0, 1e150)])
    students = TwoLayer(jnp.ones((len(filters), 5)), filters)
    found = jax.jit(jax.vmap(lambda s: everything(estimator, s, teacher)))(students)
    for leaf in jax.tree.leaves(found):
        assert jnp.all(jnp.isfinite(leaf))


def test_at_no_filter_the_output_is_zero():
    student, teacher = (pick(each, 0) for each in pairs(1, 5, 7))
    student = student._replace(w=jnp.zeros(7))
    other = np.asarray(teacher.v)
    wanted = other @ (np.eye(5) + 1) @ other / 8
    assert float(theory.loss(student, teacher)) == pytest.approx(wanted)
    for leaf in jax.tree.leaves(theory.gradient(student, teacher)):
        np.testing.assert_array_equal(leaf, 0)


@every_estimator
def test_a_vanishing_filter_has_relus_gradient_or_its_own(estimator):
    student, teacher = (pick(each, 0) for each in pairs(1, 5, 7))
    small = student._replace(w=1e-120 * student.w)
    like = IDENTITY if estimator is IDENTITY else RELU
    wanted = theory.coarse_gradient(like, student, teacher).w
    np.testing.assert_allclose(
        theory.coarse_gradient(estimator, small, teacher).w, wanted, rtol=1e-9
    )
    large = student._replace(w=1e9 * student.w)
    if like is RELU and estimator is not RELU:
        found = theory.coarse_gradient(estimator, large, teacher).w
        np.testing.assert_allclose(found, 0, atol=1e-8)


def test_the_loss_at_the_teacher_is_exactly_zero_and_in_float32_stays_so():
    _, teachers = pairs(20, 5, 7)
    for dtype in (jnp.float64, jnp.float32):
        same = jax.tree.map(lambda x, d=dtype: x.astype(d), teachers)
        found = over_many(theory.loss)(same._replace(w=3 * same.w), same)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, 0, atol=10 * jnp.finfo(dtype).eps)
