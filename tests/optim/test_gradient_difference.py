"""Derivative differences that survive float32, against exact formulas in long double."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml import models
from lpml.models import losses

SIZES = [1e-30, 1e-12, 1e-6, 1e-3, 0.3, 0.999, 1.001, 5.0, 50.0]


def sigmoid_difference(start, change):
    """sigmoid(start + change) - sigmoid(start) = sinh(c/2) / (2 cosh(b/2) cosh(a/2))."""
    a, c = np.longdouble(start), np.longdouble(change)
    return np.sinh(c / 2) / (2 * np.cosh((a + c) / 2) * np.cosh(a / 2))


def softmax_difference(start, change):
    """p_k sum_j p_j e^{c_j} (e^{c_k - c_j} - 1) / sum_j p_j e^{c_j}, without a cancelling 1."""
    a, c = np.longdouble(start), np.longdouble(change)
    p = np.exp(a - a.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    moved = np.exp(a + c - (a + c).max(axis=-1, keepdims=True))
    moved /= moved.sum(axis=-1, keepdims=True)
    steps = -np.expm1(c[..., None, :] - c[..., :, None])  # 1 - e^{c_j - c_k}
    # moved_k - p_k = moved_k sum_j p_j (1 - e^{c_j - c_k})
    return moved * (p[..., None, :] * steps).sum(axis=-1)


def drawn(size, outputs, samples=200):
    generator = np.random.default_rng(int(-np.log10(size) + 40))
    start = generator.normal(scale=2, size=(samples, outputs)).astype(np.float32)
    change = generator.uniform(0.2, 1, (samples, outputs)) * size
    change *= generator.choice([-1, 1], (samples, outputs))
    return start, change.astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
def test_logistic_difference_keeps_seven_digits(size, in_x32):
    start, change = drawn(size, 1)
    found = losses.logistic.difference(jnp.array(start), jnp.array(change), None)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        np.float64(found), np.float64(sigmoid_difference(start, change)), rtol=1e-5
    )


@pytest.mark.parametrize("size", SIZES)
def test_softmax_difference_keeps_its_digits(size, in_x32):
    """Relative to the sample's largest entry (single entries may vanish by coincidence)."""
    start, change = drawn(size, 5)
    found = losses.softmax_cross_entropy.difference(jnp.array(start), jnp.array(change), None)
    assert found.dtype == np.float32
    wanted = np.float64(softmax_difference(start, change))
    error = np.abs(np.float64(found) - wanted).max(axis=-1)
    assert (error < 1e-5 * np.abs(wanted).max(axis=-1)).all()


@pytest.mark.parametrize("size", [1e-12, 0.3, 0.9, 3.0, 8.0])
def test_softmax_difference_keeps_its_digits_for_confident_samples(size, in_x32):
    """Logits far apart: probabilities near 1 hardly move, and must not be subtracted."""
    start, change = drawn(size, 5)
    found = losses.softmax_cross_entropy.difference(
        jnp.array(3 * start), jnp.array(change), None
    )
    wanted = np.float64(softmax_difference(3 * start, change))
    error = np.abs(np.float64(found) - wanted).max(axis=-1)
    assert (error < 1e-5 * np.abs(wanted).max(axis=-1)).all()


@pytest.mark.parametrize("shift", [0.7, 50.0, -50.0])
def test_softmax_ignores_a_common_shift(shift, in_x32):
    """A shift of all logits changes nothing, and hides nothing of a small change beside it."""
    start, change = drawn(1e-3, 5)
    shifted = change + np.float32(shift)
    found = losses.softmax_cross_entropy.difference(jnp.array(start), jnp.array(shifted), None)
    wanted = np.float64(softmax_difference(start, shifted))
    # float32 keeps the small change beside the shift to eps * shift only
    tolerance = 1e-5 * np.abs(wanted).max() + 4 * np.finfo(np.float32).eps * abs(shift)
    np.testing.assert_allclose(found, wanted, atol=tolerance)


@pytest.mark.parametrize("loss", [losses.logistic, losses.softmax_cross_entropy])
def test_no_change_gives_exactly_zero(loss, in_x32):
    start, change = drawn(1.0, 3)
    found = loss.difference(jnp.array(start), jnp.zeros_like(change), None)
    np.testing.assert_array_equal(found, 0)


@pytest.mark.parametrize("size", [-1000.0, 1000.0])
@pytest.mark.parametrize("loss", [losses.logistic, losses.softmax_cross_entropy])
def test_huge_changes_stay_finite(loss, size, in_x32):
    start = jnp.array([[0.5, -0.5]])
    found = loss.difference(start, jnp.array([[size, 0.0]], jnp.float32), None)
    assert np.isfinite(found).all()
    assert np.abs(found).max() > 0.2


def model_cases():
    return {
        "least squares": models.linear_regression(l2=0.1, dtype="float64"),
        "logistic": models.logistic_regression(classes=2, l2=0.1, dtype="float64"),
        "softmax": models.multinomial_regression(classes=4, l2=0.1, dtype="float64"),
    }


@pytest.mark.parametrize("name", model_cases())
@pytest.mark.parametrize("size", [1e-12, 1e-3, 3.0])
def test_models_give_the_difference_of_their_gradients(name, size, in_x64):
    """In float32, from a float64 anchor: as good as a float64 derivative along the offset."""
    model = model_cases()[name]
    generator = np.random.default_rng(3)
    outputs = model.module.outputs
    y = generator.normal(size=6) if name == "least squares" else generator.integers(2, size=6)
    batch = {"x": generator.normal(size=(6, 5)), "y": y}
    anchor = {"Dense_0": {"kernel": jnp.array(generator.normal(size=(5, outputs)))}}
    offset = jax.tree.map(
        lambda a: jnp.array(size * generator.normal(size=a.shape), jnp.float32), anchor
    )

    def grad(w):
        return jax.grad(lambda p: model.objective(p, {}, batch)[0])(w)

    found = model.gradient_difference(anchor, offset, {}, batch)["Dense_0"]["kernel"]
    wide = jax.tree.map(lambda z: z.astype(jnp.float64), offset)
    if size < 1e-6:  # the derivative along the offset: the next term is 1e-12 smaller
        _, wanted = jax.jvp(grad, (anchor,), (wide,))
    else:
        moved = grad(jax.tree.map(jnp.add, anchor, wide))
        wanted = jax.tree.map(lambda m, g: m - g, moved, grad(anchor))
    wanted = wanted["Dense_0"]["kernel"]
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_nonlinear_models_refuse(in_x64):
    model = models.Supervised(models.linear_regression().module, losses.squared_error)
    with pytest.raises(ValueError, match="linear"):
        model.gradient_difference({}, {}, {}, {})
