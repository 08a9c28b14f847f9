"""Convolutions laid out for XLA's fast code: numbers and derivatives are JAX's own."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate

from lpml.models.lenet import lenet5
from lpml.optim import mean_over_data
from lpml.quant.windows import Window

# strides, padding, dilation, window, space
CASES = (
    ((1, 1), "SAME", (1, 1), (3, 3), (8, 7)),
    ((2, 2), "SAME", (1, 1), (3, 3), (8, 7)),
    ((2, 1), "VALID", (1, 2), (2, 3), (9, 10)),
    ((1,), "SAME", (1,), (5,), (11,)),
    ((2, 2), ((1, 0), (2, 1)), (2, 1), (3, 2), (8, 9)),
)
every_case = pytest.mark.parametrize("case", CASES)
FAST = "b01f_01io->b01f"


def problem(case, dtype=np.float64):
    """A window, images, a kernel and a cotangent."""
    strides, padding, dilation, window, space = case
    rng = np.random.default_rng(0)
    made = Window(strides, padding, dilation)
    x = jnp.asarray(rng.standard_normal((4, *space, 3)), dtype)
    w = jnp.asarray(rng.standard_normal((*window, 3, 5)), dtype)
    shape = jax.eval_shape(made.plain, x, w).shape
    return made, x, w, jnp.asarray(rng.standard_normal(shape), dtype)


@every_case
@pytest.mark.parametrize("form", ["__call__", "in_images", "in_kernel"])
def test_values_and_derivatives_are_those_of_jax(case, form):
    with jax.enable_x64():
        window, x, w, g = problem(case)
        value, back = jax.vjp(window.plain, x, w)
        found, found_back = jax.vjp(getattr(window, form), x, w)
        np.testing.assert_allclose(found, value, rtol=1e-12, atol=1e-12)
        for a, b in zip(found_back(g), back(g), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)
        # along a direction, and the derivative of a derivative
        along = (jnp.cos(x), jnp.sin(w))
        np.testing.assert_allclose(
            jax.jvp(getattr(window, form), (x, w), along)[1],
            jax.jvp(window.plain, (x, w), along)[1],
            rtol=1e-11,
            atol=1e-11,
        )

        def curved(f):
            def slope(x):
                return jnp.sum(jax.grad(lambda w: jnp.sum(f(x, w) ** 2))(w) ** 2)

            return jax.grad(slope)(x)

        wanted = curved(window.plain)
        np.testing.assert_allclose(
            curved(getattr(window, form)), wanted, rtol=1e-9, atol=1e-9 * abs(wanted).max()
        )


def test_one_channel_is_what_scipy_correlates():
    rng = np.random.default_rng(1)
    image, kernel = rng.standard_normal((9, 8)), rng.standard_normal((3, 4))
    with jax.enable_x64():
        found = Window((1, 1), "VALID", (1, 1))(
            jnp.asarray(image)[None, :, :, None], jnp.asarray(kernel)[:, :, None, None]
        )
        np.testing.assert_allclose(found[0, :, :, 0], correlate(image, kernel, "valid"))


@every_case
def test_each_kernel_of_a_batch_of_kernels_gives_what_it_gives_alone(case):
    window, x, w, _ = problem(case, np.float32)
    several = jnp.stack([w, 2 * w])
    found = jax.vmap(window, (None, 0))(x, several)
    np.testing.assert_allclose(found[1], window(x, 2 * w), rtol=1e-5, atol=1e-5)


def convolutions(text):
    """Layouts of a compiled program's convolutions."""
    return re.findall(r"convolution\(.*dim_labels=([\w>-]+)", text)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="is about XLA's code for CPUs")
def test_in_a_loop_too_all_convolutions_have_the_layout_of_the_fast_code():
    net, samples = lenet5(classes=10), 6
    data = {
        "x": jnp.zeros((samples, 28, 28, 1), jnp.float32),
        "y": jnp.zeros(samples, jnp.int32),
    }
    params, state = net.init(jax.random.key(0), data)

    def gradient(params):
        return mean_over_data(
            lambda batch: jax.grad(lambda p: net.objective(p, state, batch)[0])(params),
            data,
            batch_size=2,
        )

    text = jax.jit(gradient).lower(params).compile().as_text()
    assert "while(" in text
    layouts = convolutions(text)
    assert len(layouts) >= 5  # two forward, two by kernels, one by images
    assert set(layouts) == {FAST}


def test_what_has_no_derivative_costs_none():
    """Images of the first layer: one convolution forward, one by the kernel."""
    window, x, w, g = problem(CASES[0], np.float32)
    text = str(jax.make_jaxpr(jax.grad(lambda w: jnp.sum(window(x, w) * g)))(w))
    assert text.count("conv_general_dilated[") == 2
