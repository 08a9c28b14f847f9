"""Trajectories against plain numpy loops, on torchhalp's own parameter lists (fact 14).

Rounding is to nearest (`half_up`), the grid per leaf, the arithmetic float64, the samples in
sequence; every single iterate is compared.
"""

import functools

import jax
import numpy as np
import pytest

from lpml import models
from lpml.optim import halp, svrg

LONGEST = 20  # inner steps; one compiled program serves all T up to that

# (samples, features, rate, epochs, bits, mu, T): test_halp.py of torchhalp
LINEAR = [
    (1, 1, 1, 1, 8, 1, 1),
    (1, 4, 0.1, 1, 8, 1, 1),
    (1, 4, 0.1, 4, 8, 1, 2),
    (10, 4, 0.1, 1, 8, 1, 10),
    (10, 10, 0.1, 1, 8, 1, 10),
    (10, 10, 0.5, 1, 8, 1, 10),
    (10, 10, 0.5, 10, 8, 1, 10),
    (10, 10, 0.5, 10, 8, 0.1, 10),
    (10, 10, 0.5, 10, 16, 0.1, 10),
    (5, 10, 0.5, 10, 16, 1, 5),
]
LONG = [(*case[:6], LONGEST) for case in LINEAR]
# (samples, features, classes, rate, epochs, bits, mu), T = samples
SOFTMAX = [
    (1, 1, 3, 1, 1, 8, 1),
    (4, 5, 3, 0.1, 2, 8, 0.1),
    (10, 5, 3, 0.5, 5, 8, 0.1),
    (10, 5, 3, 0.5, 5, 16, 1),
    (10, 10, 4, 0.5, 10, 16, 0.1),
]


def linear_grad(w, x, y):
    return 2 * x[:, None] * (x @ w - y)


def softmax_grad(w, x, y):
    p = np.exp(x @ w - (x @ w).max())
    p /= p.sum()
    p[y] -= 1
    return np.outer(x, p)


def half_up(value, spacing, bits):
    codes = np.floor(value / spacing + 0.5)
    return spacing * np.clip(codes, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def numpy_loop(grad, w, x, y, *, rate, epochs, steps, bits=None, mu=None):
    """Every iterate of HALP, or of SVRG where `bits` is None: (epochs, steps, *w.shape)."""
    iterates = []
    for _ in range(epochs):
        full = sum(grad(w, *sample) for sample in zip(x, y)) / len(x)
        offset = np.zeros_like(w)
        for t in range(steps):
            sample = x[t % len(x)], y[t % len(x)]
            difference = grad(w + offset, *sample) - grad(w, *sample)
            offset = offset - rate * (difference + full)
            if bits is not None:
                spacing = np.linalg.norm(full) / (mu * (2 ** (bits - 1) - 1))
                offset = half_up(offset, spacing, bits)
            iterates.append(w + offset)
        w = w + offset
    return np.array(iterates).reshape(epochs, steps, *w.shape)


@pytest.fixture(scope="module")
def iterates(new_problem):
    """All iterates of a transformation, (epochs, steps, d, K), from a start w."""

    @functools.cache
    def compiled(model, make_tx, difference):
        @jax.jit
        def epoch(x, y, rate, params, state, steps):
            problem, tx = new_problem(model, x, y), make_tx(rate)
            params, state = problem.refresh(tx, params, state)

            def body(t, carry):
                params, state, kept = carry
                index = (t % len(x))[None]
                params, state = problem.step(
                    tx, params, state, index, None, difference=difference
                )
                (leaf,) = jax.tree.leaves(params)
                return params, state, kept.at[t].set(leaf)

            kept = jax.numpy.zeros((LONGEST, *jax.tree.leaves(params)[0].shape))
            return jax.lax.fori_loop(0, steps, body, (params, state, kept))

        return epoch

    def run(model, make_tx, w, x, y, *, rate, epochs, steps, difference, mu=None):
        params = {"Dense_0": {"kernel": w}}
        state = jax.tree.map(jax.numpy.asarray, make_tx(rate).init(params))
        if mu is not None:
            state = state._replace(mu=jax.numpy.float32(mu))
        history = []
        for _ in range(epochs):
            epoch = compiled(model, make_tx, difference)
            params, state, kept = epoch(x, y, rate, params, state, np.int32(steps))
            history.append(kept[:steps])
        return np.array(history)

    return run


@functools.cache
def least_squares_model():
    return models.linear_regression(dtype="float64")


@functools.cache
def softmax_model(classes):
    return models.multinomial_regression(classes=classes, dtype="float64")


@functools.cache
def nearest_halp(bits):
    def make_tx(rate):
        return halp(
            rate,
            inner_steps=LONGEST,
            bits=bits,
            mu=1.0,
            scale="leaf",
            rounding="half_up",
            inner_dtype="float64",
        )

    return make_tx


def plain_svrg(rate):
    return svrg(rate, inner_steps=LONGEST)


def drawn(samples, features, outputs, *, classes=False):
    """Data uniform in (0, 1), weights uniform in (0, 0.1), as torchhalp draws them."""
    generator = np.random.RandomState(0xDEADBEEF)
    x = generator.uniform(0, 1, (samples, features))
    y = generator.randint(0, outputs, samples) if classes else generator.uniform(0, 1, samples)
    return generator.uniform(0, 0.1, (features, outputs)), x, y


@pytest.mark.parametrize("difference", [True, False], ids=["difference", "two gradients"])
@pytest.mark.parametrize("case", LINEAR + LONG, ids=str)
def test_halp_equals_the_numpy_loop_on_least_squares(iterates, case, difference, in_x64):
    """Fact 14."""
    samples, features, rate, epochs, bits, mu, steps = case
    start = drawn(samples, features, 1)
    found = iterates(
        least_squares_model(), nearest_halp(bits), *start,
        rate=float(rate), epochs=epochs, steps=steps, difference=difference, mu=mu,
    )  # fmt: skip
    wanted = numpy_loop(
        linear_grad, *start,
        rate=rate, epochs=epochs, steps=steps, bits=bits, mu=np.float64(np.float32(mu)),
    )  # fmt: skip
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


@pytest.mark.parametrize("difference", [True, False], ids=["difference", "two gradients"])
@pytest.mark.parametrize("case", SOFTMAX, ids=str)
def test_halp_equals_the_numpy_loop_on_softmax(iterates, case, difference, in_x64):
    """Fact 14."""
    samples, features, classes, rate, epochs, bits, mu = case
    start = drawn(samples, features, classes, classes=True)
    found = iterates(
        softmax_model(classes), nearest_halp(bits), *start,
        rate=float(rate), epochs=epochs, steps=samples, difference=difference, mu=mu,
    )  # fmt: skip
    wanted = numpy_loop(
        softmax_grad, *start,
        rate=rate, epochs=epochs, steps=samples, bits=bits, mu=np.float64(np.float32(mu)),
    )  # fmt: skip
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


@pytest.mark.parametrize("case", LINEAR + LONG, ids=str)
def test_svrg_equals_the_numpy_loop_on_least_squares(iterates, case, in_x64):
    """Fact 14 for SVRG."""
    samples, features, rate, epochs, _, _, steps = case
    start = drawn(samples, features, 1)
    found = iterates(
        least_squares_model(), plain_svrg, *start,
        rate=float(rate), epochs=epochs, steps=steps, difference=False,
    )  # fmt: skip
    wanted = numpy_loop(linear_grad, *start, rate=rate, epochs=epochs, steps=steps)
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


@pytest.mark.parametrize("case", SOFTMAX, ids=str)
def test_svrg_equals_the_numpy_loop_on_softmax(iterates, case, in_x64):
    """Fact 14 for SVRG."""
    samples, features, classes, rate, epochs, _, _ = case
    start = drawn(samples, features, classes, classes=True)
    found = iterates(
        softmax_model(classes), plain_svrg, *start,
        rate=float(rate), epochs=epochs, steps=samples, difference=False,
    )  # fmt: skip
    wanted = numpy_loop(softmax_grad, *start, rate=rate, epochs=epochs, steps=samples)
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


def test_the_lists_reach_saturation_and_movement():
    """Of what the comparisons are worth: some codes clip, most cases move."""
    moved = saturated = 0
    for samples, features, rate, epochs, bits, mu, steps in LINEAR + LONG:
        w, x, y = drawn(samples, features, 1)
        found = numpy_loop(
            linear_grad, w, x, y, rate=rate, epochs=epochs, steps=steps, bits=bits, mu=mu
        )
        moved += bool((found[-1, -1] != w).any())
        full = sum(linear_grad(w, *sample) for sample in zip(x, y)) / samples
        top = np.linalg.norm(full) / mu
        saturated += bool((np.abs(np.abs(found[0] - w) - top) < 0.01 * top).any())
    assert moved >= 15
    assert saturated >= 1
