"""Stochastic quantisation of gradients against its closed forms, and these against numpy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml.quant import (
    blow_up_bound,
    clip_bias,
    clip_to_deviations,
    quantization_variance,
    stochastic_quantize,
)

WIDTHS = (2, 3, 4, 8)
CLIP = jax.jit(clip_to_deviations)


def gaussian(size, seed=0):
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def variance(g, bits):
    """(s / K)^2 sum f (1 - f), in float64."""
    step = np.max(np.abs(g)).astype(np.float64) / (2 ** (bits - 1) - 1)
    rest = np.abs(g).astype(np.float64) / step % 1
    return step**2 * np.sum(rest * (1 - rest))


@pytest.mark.parametrize("bits", WIDTHS)
def test_codes_are_unbiased_with_the_variance_of_the_closed_form(bits):
    g, draws = gaussian(64), 50_000

    @jax.jit
    def moments(keys):
        quantise = jax.vmap(lambda key: stochastic_quantize(g, bits, key).dequantize())
        errors = quantise(keys) - g
        return jnp.mean(errors, 0), jnp.mean(errors**2, 0)

    mean, square = moments(jax.random.split(jax.random.key(bits), draws))
    # Where an entry is a level itself (the largest is one) only float32's own rounding is
    # left. Of 64 normal deviations the largest exceeds 4.5 once in 2000 seeds.
    slack = 1e-6 * np.max(np.abs(g))
    assert np.all(np.abs(mean) <= 4.5 * np.sqrt(np.asarray(square) / draws) + slack)
    # 3 digits, as 64 entries of as many draws give
    assert np.sum(square) == pytest.approx(variance(g, bits), rel=5e-3)
    assert float(quantization_variance(jnp.asarray(g), bits)) == pytest.approx(
        variance(g, bits), rel=1e-4
    )


@pytest.mark.parametrize("bits", WIDTHS)
def test_codes_are_the_neighbours_of_a_number_and_the_largest_is_exact(bits):
    g = gaussian(1000)
    q = stochastic_quantize(jnp.asarray(g), bits, jax.random.key(0))
    top = 2 ** (bits - 1) - 1
    steps = g.astype(np.float64) * top / np.max(np.abs(g))
    assert q.codes.dtype == jnp.int8
    assert np.all(np.abs(np.asarray(q.codes) - steps) < 1 + 1e-5)
    largest = np.argmax(np.abs(g))
    assert int(q.codes[largest]) == top * np.sign(g[largest])
    np.testing.assert_allclose(q.dequantize()[largest], g[largest], rtol=2e-7)


def test_kept_axes_have_scales_of_their_own():
    g = gaussian((3, 5, 7)) * np.array([1.0, 10.0, 100.0], np.float32)[:, None, None]
    q = stochastic_quantize(jnp.asarray(g), 4, jax.random.key(0), axis=(0, -1))
    assert q.scale.shape == (3, 1, 7)
    np.testing.assert_allclose(q.scale, np.abs(g).max(1, keepdims=True) / 7, rtol=1e-6)
    one = stochastic_quantize(jnp.asarray(g), 4, jax.random.key(0))
    assert one.scale.size == 1


@pytest.mark.parametrize("worst", [np.nan, np.inf, -np.inf])
def test_an_entry_that_is_not_finite_takes_what_shares_its_scale(worst):
    g = gaussian((2, 20_000))  # so many that a maximum of floats would forget NaN
    g[1, 3] = worst
    q = stochastic_quantize(jnp.asarray(g), 4, jax.random.key(0), axis=0).dequantize()
    assert np.all(np.isfinite(q[0]))
    assert np.all(np.isnan(q[1]))
    assert np.all(np.isnan(CLIP(g, 2.0)))


def test_zeros_and_what_has_no_accurate_quotient_become_zeros():
    for g in (jnp.zeros(5), jnp.full(5, 1e-38), jnp.zeros(0)):
        q = stochastic_quantize(g, 3, jax.random.key(0))
        np.testing.assert_array_equal(q.dequantize(), np.zeros(g.shape))
    np.testing.assert_array_equal(CLIP(np.zeros(5, np.float32), 2.0), np.zeros(5))


@pytest.mark.parametrize("size", [2, 100, 10_000])
def test_the_sharp_bound_is_attained_and_never_passed(size):
    """The largest of max |x| sum |x| / ||x||^2 is (1 + sqrt d) / 2: 1.2071, 5.50, 50.5."""
    sharp = blow_up_bound(2, size, sharp=True) - 1

    def ratio(x):
        return np.max(np.abs(x)) * np.sum(np.abs(x)) / np.sum(x**2)

    worst = np.full(size, 1 / (1 + math.sqrt(size)))
    worst[0] = 1
    assert ratio(worst) == pytest.approx(sharp, rel=1e-12)
    assert sharp == pytest.approx({2: 1.2071, 100: 5.5, 10_000: 50.5}[size], rel=1e-4)
    for seed in range(20):
        x = gaussian(size, seed).astype(np.float64) ** (1 + 2 * (seed % 3))
        assert ratio(x) <= sharp
        for bits in WIDTHS:
            blown = 1 + variance(x, bits) / np.sum(x**2)
            assert blown <= blow_up_bound(bits, size, sharp=True) <= blow_up_bound(bits, size)


GRID = (np.arange(16_000) + 0.5) * 1e-3 - 8  # midpoints over +-8 deviations


def normal_blow_up(bits, largest):
    """E Q(x)^2 of a normal entry x, clipped at `largest` and quantised with it as scale."""
    cut, step = np.abs(np.clip(GRID, -largest, largest)), largest / (2 ** (bits - 1) - 1)
    rest = cut / step % 1
    density = np.exp(-(GRID**2) / 2) / math.sqrt(2 * math.pi)
    return 1e-3 * np.sum(density * (cut**2 + step**2 * rest * (1 - rest)))


def expected_maximum(size):
    """E max |x| over `size` normal entries: the integral of 1 - P(|x| < t)^size."""
    return 1e-3 * sum(1 - math.erf(t / math.sqrt(2)) ** size for t in GRID if t > 0)


@pytest.mark.parametrize(("size", "measured"), [(1600, 2.84), (73_728, 3.71)])
def test_norms_of_gaussian_gradients_blow_up_with_their_size_unless_clipped(size, measured):
    seeds = range(100 if size < 10_000 else 20)
    # what one gradient of that size showed, whose maximum is off the expected one
    assert normal_blow_up(2, expected_maximum(size)) == pytest.approx(measured, rel=0.06)
    for bits in (2, 3, 4):
        found, clipped = [], []
        for g in (gaussian(size, seed) for seed in seeds):
            found.append(1 + variance(g, bits) / np.sum(g**2))
            cut = np.clip(g, -3 * g.std(), 3 * g.std())
            clipped.append((variance(cut, bits) + np.sum(cut**2)) / np.sum(g**2))
        # the largest of the entries moves a seed by a tenth, so the mean by a hundredth
        expected = normal_blow_up(bits, expected_maximum(size))
        assert np.mean(found) == pytest.approx(expected, rel=0.03)
        assert np.mean(clipped) == pytest.approx(normal_blow_up(bits, 3), rel=0.01)
        assert max(found) <= blow_up_bound(bits, size)
        assert max(clipped) <= blow_up_bound(bits, size, clip=3)


def test_bounds_are_those_of_the_paper():
    sizes = (1600, 73_728, 884_736)
    assert [blow_up_bound(2, size) for size in sizes] == pytest.approx(
        [29.8, 193, 667], rel=3e-3
    )
    clipped = [blow_up_bound(2, size, clip=3) for size in sizes]
    assert clipped == pytest.approx([3.39] * 3, rel=2e-3)


@pytest.mark.parametrize(("c", "bias"), [(1.0, 0.15068), (2.0, 0.01154), (3.0, 0.00041)])
def test_clipping_costs_the_bias_of_the_closed_form(c, bias):
    g = gaussian(884_736, 7)
    cut = np.asarray(CLIP(g, c))
    np.testing.assert_allclose(cut, np.clip(g, -c * g.std(), c * g.std()), atol=1e-5)
    squares = (cut.astype(np.float64) - g) ** 2
    error = np.std(squares) / math.sqrt(g.size)
    assert clip_bias(c) == pytest.approx(bias, abs=6e-6)
    assert abs(np.mean(squares) - clip_bias(c)) < 4 * error
    assert clip_bias(0.0) == pytest.approx(1)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_clipping_does_not_overflow_or_underflow(scale):
    g = gaussian(1000)
    np.testing.assert_allclose(
        CLIP(g * np.float32(scale), 1.0) / np.float32(scale),
        CLIP(g, 1.0),
        rtol=1e-5,
    )


def test_what_does_not_exist_is_refused():
    g, key = jnp.ones(4), jax.random.key(0)
    for bits in (1, 9, True, 4.0):
        with pytest.raises(ValueError, match="must be a whole number from 2 to 8"):
            stochastic_quantize(g, bits, key)
    with pytest.raises(ValueError, match="axis 1 does not exist in an array of 1 axes"):
        stochastic_quantize(g, 4, key, axis=1)
