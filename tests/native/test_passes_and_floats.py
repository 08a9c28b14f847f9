"""Full gradients and float32 steps against float64 numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import SETS, needs_kernels

from lpml import native

pytestmark = needs_kernels
LOSSES = [("squared", 1), ("logistic", 1), ("softmax", 3)]
SHAPES = [(1, 1), (7, 64), (37, 100), (257, 65), (515, 1030), (33, 20000)]


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def derivatives(loss, outputs, y):
    """Slopes, predictions and losses of (N, K) outputs, in float64."""
    if loss == "squared":
        return 2 * (outputs - y[:, None]), None, (outputs[:, 0] - y) ** 2
    if loss == "logistic":
        p = 1 / (1 + np.exp(-outputs))
        return p - y[:, None], p, np.logaddexp(0, outputs[:, 0]) - y * outputs[:, 0]
    top = outputs.max(1, keepdims=True)
    log_sum = np.log(np.exp(outputs - top).sum(1, keepdims=True)) + top
    p = np.exp(outputs - log_sum)
    one_hot = np.eye(outputs.shape[1])[y.astype(int)]
    return p - one_hot, p, (log_sum - outputs)[np.arange(len(y)), y.astype(int)]


def targets(random, loss, samples, outputs):
    if loss == "squared":
        return random.normal(size=samples)
    return random.integers(0, max(2, outputs), samples).astype(float)


full_pass = jax.jit(native.full_pass, static_argnames=("loss", "places"))


@pytest.mark.parametrize(("loss", "outputs"), LOSSES)
@pytest.mark.parametrize(("samples", "features"), SHAPES)
def test_passes_over_codes(samples, features, loss, outputs):
    random = np.random.default_rng([samples, features])
    x = random.integers(-127, 128, (samples, features), dtype=np.int8)
    rows = native.padded(x)
    z = np.zeros((outputs, rows.shape[1]), np.int8)
    z[:, :features] = random.integers(-128, 128, (outputs, features))
    start, y = random.normal(size=(samples, outputs)), targets(random, loss, samples, outputs)
    unit, scale = 1e-4, 1 / 127
    at = start + unit * (x.astype(float) @ z[:, :features].T.astype(float))
    slopes, p, losses = derivatives(loss, at, y)
    wanted = slopes.T @ x * scale / samples
    terms = np.abs(slopes.T) @ np.abs(x.astype(float)) * scale / samples
    found = []
    for name in SETS:
        for threads in (1, 2):
            done = full_pass(
                jnp.asarray(z),
                rows=jnp.asarray(rows),
                y=jnp.asarray(y),
                outputs=jnp.asarray(start),
                scalars=jnp.array([unit, scale]),
                loss=loss,
                places=native.Places(threads, name),
            )
            np.testing.assert_allclose(done.outputs, at, rtol=1e-15, atol=1e-15)
            np.testing.assert_allclose(done.loss, losses.mean(), rtol=1e-13)
            if p is not None:
                np.testing.assert_allclose(done.predictions, p, rtol=1e-6, atol=1e-37)
            gradient = np.asarray(done.gradient)
            # derivatives are rounded to 45 bits of their group's largest
            size = np.abs(slopes).max(0)[:, None] * scale * np.abs(x.astype(float)).mean(0)
            bound = 2.0**-44 * size + 1e-15 * terms + 1e-300
            assert (np.abs(gradient[:, :features] - wanted) <= bound).all()
            assert not gradient[:, features:].any()
            found.append(gradient)
    for i, gradient in enumerate(found):
        np.testing.assert_array_equal(gradient, found[i % 2])  # of as many threads


@pytest.mark.parametrize("dtype", ["float64", "float32", "int8"])
@pytest.mark.parametrize(("loss", "outputs"), LOSSES)
@pytest.mark.parametrize(("samples", "features"), [*SHAPES, (21, 103)])
def test_passes_of_weights(samples, features, loss, outputs, dtype):
    random = np.random.default_rng([samples, features])
    scale = 0.75
    x = random.normal(size=(samples, features)) / scale
    x = (np.clip(40 * x, -127, 127) if dtype == "int8" else x).astype(dtype)
    inputs = scale * x.astype(float)
    w = random.normal(size=(outputs, features)) / np.linalg.norm(inputs, axis=1).max()
    y = targets(random, loss, samples, outputs)
    slopes, p, losses = derivatives(loss, inputs @ w.T, y)
    wanted = slopes.T @ inputs / samples
    # sums of float64 in any order: of the features, then of the samples
    terms = np.abs(w) @ np.abs(inputs.T)
    rounding = 2.0**-53 * ((features + 8) * 2 * terms + (samples + 16) * np.abs(slopes.T) + 8)
    bound = rounding @ np.abs(inputs) / samples
    for name in SETS:
        for threads in (1, 2):
            done = full_pass(
                jnp.asarray(w),
                rows=jnp.asarray(x),
                y=jnp.asarray(y),
                scalars=jnp.array([1.0, scale]),
                loss=loss,
                places=native.Places(threads, name),
            )
            np.testing.assert_allclose(done.loss, losses.mean(), rtol=1e-13)
            if p is not None:
                np.testing.assert_allclose(done.predictions, p, rtol=1e-6, atol=1e-37)
            assert (np.abs(np.asarray(done.gradient) - wanted) <= bound).all()


def test_a_derivative_that_is_not_finite_makes_the_gradient_so():
    rows = native.padded(np.ones((40, 64), np.int8))
    done = full_pass(
        jnp.zeros((1, 64), jnp.int8),
        rows=jnp.asarray(rows),
        y=jnp.full(40, jnp.nan),
        outputs=jnp.zeros((40, 1)),
        scalars=jnp.array([1e-3, 1.0]),
        loss="squared",
    )
    assert np.isnan(done.gradient).all()


def steps_in_numpy(loss, rows, p, z, h, rate, keep, index, y=None):
    """SVRG on the offset, or with `y` SGD on the weights, in float64."""
    z = z.astype(float)
    for i in index:
        x = rows[i].astype(float)
        u = z @ x
        if y is not None:
            slopes = derivatives(loss, u[None], y[i : i + 1])[0][0]
        elif loss == "squared":
            slopes = 2 * u
        elif loss == "logistic":
            slopes = p[i] * (1 - p[i]) * np.expm1(u) / (1 + p[i] * np.expm1(u))
        else:
            e = np.expm1(u - p[i] @ u)
            slopes = p[i] * (e - p[i] @ e) / (1 + p[i] @ e)
        z = keep * z - (0 if h is None else h) - rate * slopes[:, None] * x
    return z


float_steps = jax.jit(native.float_steps, static_argnames=("loss", "places"))


@pytest.mark.parametrize("sgd", [False, True], ids=["svrg", "sgd"])
@pytest.mark.parametrize(("loss", "outputs"), LOSSES)
@pytest.mark.parametrize(("features", "keep"), [(1, 1), (100, 0.99), (100, 1), (3000, 1)])
def test_float_steps(features, keep, loss, outputs, sgd):
    random = np.random.default_rng(features)
    samples, count, rate = 9, 60, 0.1 / features
    x = random.normal(size=(samples, features)).astype(np.float32)
    y = targets(random, loss, samples, outputs)
    p = random.dirichlet(np.ones(outputs), samples).astype(np.float32)
    if loss == "logistic":
        p = random.uniform(0.1, 0.9, (samples, 1)).astype(np.float32)
    stride = native.stride_of(features, np.float32)
    z, h = np.zeros((2, outputs, stride), np.float32)
    z[:, :features] = random.normal(size=(outputs, features)) / features**0.5
    h[:, :features] = 1e-3 * random.normal(size=(outputs, features))
    index = random.integers(0, samples, count)
    wide = native.padded(x)
    given = {"h": None, "y": y} if sgd else {"h": h}
    wanted = steps_in_numpy(loss, wide, p, z, given["h"], rate, keep, index, given.get("y"))
    for name in SETS:
        for threads in (1, 2):
            found, words = float_steps(
                jnp.asarray(z),
                native.nothing_seen(),
                rows=jnp.asarray(wide),
                h=None if sgd else jnp.asarray(h),
                steps=native.Steps(jnp.asarray(index, jnp.int32), jnp.int32(count), 0),
                at_anchor=jnp.asarray(p),
                y=jnp.asarray(y, jnp.float32),
                scalars=jnp.array([rate, keep], jnp.float32),
                loss=loss,
                places=native.Places(threads, name),
            )
            # every step rounds a weight of order 1 a few times, and an output's sum
            np.testing.assert_allclose(found, wanted, rtol=0, atol=count * 2.0**-22)
            assert int(native.seen(words).bad_step) == -1
