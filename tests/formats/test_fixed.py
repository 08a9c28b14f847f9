"""Fixed point (fact 13 of the HALP notes, section 1.2) and rounding to integers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml.formats import MODES, Fixed, round_to_integer

DRAWS = 200_000


@pytest.fixture
def in_x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def in_x32():
    with jax.enable_x64(False):
        yield


def many(fmt, value, dtype=jnp.float32, seed=0):
    """Stochastic roundings of one value."""
    x = jnp.full(DRAWS, value, dtype)
    return np.asarray(fmt.round(x, "stochastic", key=jax.random.key(seed)), np.float64)


def test_the_pinned_8_bit_example(in_x64):
    """Section 1.2: delta 0.05, 8 bits."""
    fmt = Fixed(0.05, 8)
    values = fmt.values()
    assert (values[0], values[-1]) == pytest.approx((-6.4, 6.35))
    assert len(values) == 256
    draw = functools.partial(many, fmt, dtype=jnp.float64)
    assert draw(6.349).mean() == pytest.approx(6.349, abs=1e-4)
    assert draw(0.012).mean() == pytest.approx(0.012, abs=4 * 0.025 / DRAWS**0.5)
    for value, end in [(6.36, 6.35), (100.0, 6.35), (-6.41, -6.4), (-100.0, -6.4), (0.0, 0.0)]:
        np.testing.assert_allclose(draw(value), end, rtol=1e-15)


@pytest.mark.parametrize("value", [-6.33, -0.049, 1e-3, 0.012, 0.025, 3.3001, 6.34])
def test_stochastic_rounding_is_unbiased_between_the_neighbours(value, in_x64):
    """Fact 13: mean within 4 standard errors, variance delta^2 p (1 - p) <= delta^2 / 4."""
    delta = 0.05
    draws = many(Fixed(delta, 8), value, jnp.float64)
    low = np.floor(value / delta) * delta
    np.testing.assert_allclose(np.unique(draws), [low, low + delta], rtol=1e-12, atol=1e-12)
    p = value / delta - np.floor(value / delta)
    variance = delta**2 * p * (1 - p)
    assert abs(draws.mean() - value) < 4 * (variance / DRAWS) ** 0.5
    assert variance <= delta**2 / 4
    assert draws.var() == pytest.approx(variance, rel=0.3 if p < 0.05 else 0.05)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("code", [30_000, -30_001, 100_000])
def test_large_magnitudes_in_float32_stay_unbiased(code, fraction, in_x32):
    """Codes near the end of 16 bits and more, where x + u would itself be rounded."""
    value = np.float32(code + fraction)
    exact = float(value) - np.floor(float(value))
    draws = many(Fixed(1.0, 20), value)
    error = 4 * (exact * (1 - exact) / DRAWS) ** 0.5
    assert abs((draws - np.floor(float(value))).mean() - exact) < error


@pytest.mark.parametrize("fraction", [1e-3, 1e-4, 1 - 1e-3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_small_fractions_are_unbiased(fraction, dtype, in_x64):
    """The resolution of the noise (2^-23) does not show."""
    up = np.mean([many(Fixed(1.0, 8), fraction, dtype, seed).mean() for seed in range(5)])
    assert abs(up - fraction) < 4 * (fraction * (1 - fraction) / (5 * DRAWS)) ** 0.5


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits", [2, 5, 8, 12])
def test_values_of_the_format_are_exact_in_every_mode(mode, bits, in_x64):
    """Fact 13: exact at the grid points, both end points included."""
    fmt = Fixed(0.375, bits)
    found = fmt.round(jnp.array(fmt.values()), mode, key=jax.random.key(0))
    np.testing.assert_array_equal(found, fmt.values())


@pytest.mark.parametrize(("scale", "bits"), [(0.05, 8), (5e-5, 16), (5e-9, 32)])
@pytest.mark.parametrize("mode", MODES)
def test_torchhalps_own_cases(scale, bits, mode, in_x64):
    """100 values in [-15, 15]: in the box, integer multiples, saturation equals a clip."""
    x = np.random.RandomState(0).uniform(-15, 15, 100)
    found = np.asarray(Fixed(scale, bits).round(jnp.array(x), mode, key=jax.random.key(1)))
    low, high = -scale * 2 ** (bits - 1), scale * (2 ** (bits - 1) - 1)
    assert found.min() >= low * (1 + 1e-15)
    assert found.max() <= high * (1 + 1e-15)
    np.testing.assert_allclose(found / scale, np.rint(found / scale), rtol=1e-6)
    outside = (x < low) | (x > high)
    assert outside.any()
    np.testing.assert_allclose(found[outside], np.clip(x, low, high)[outside], rtol=1e-12)
    assert (np.abs(found - x)[~outside] <= scale * (1 + 1e-6)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nearest_is_numpys_rint(dtype, in_x64):
    """Ties to even."""
    x = np.arange(-600, 600, dtype=dtype) / 4
    np.testing.assert_array_equal(round_to_integer(jnp.array(x)), np.rint(x))
    np.testing.assert_array_equal(
        Fixed(0.5, 12).round(jnp.array(x / 2)), np.rint(x).astype(dtype) / 2
    )


def test_half_up_rounds_ties_upwards():
    x = jnp.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49, -0.51])
    found = round_to_integer(x, "half_up")
    np.testing.assert_array_equal(found, [-2, -1, 0, 1, 2, 3, 0, -1])


@pytest.mark.parametrize("mode", MODES)
def test_values_outside_saturate_at_an_asymmetric_range(mode):
    """Fact 13: -2^(b-1) .. 2^(b-1) - 1, also for infinities."""
    x = jnp.array([-jnp.inf, -1e30, -4.6, 3.6, 1e30, jnp.inf])
    fmt = Fixed(1.0, 3)
    found = fmt.round(x, mode, key=jax.random.key(0))
    np.testing.assert_array_equal(found, [-4, -4, -4, 3, 3, 3])
    codes = fmt.encode(x, mode, key=jax.random.key(0))
    np.testing.assert_array_equal(codes, [-4, -4, -4, 3, 3, 3])


@pytest.mark.parametrize("mode", MODES)
def test_nan_stays_nan_and_has_code_0(mode):
    x, key = jnp.array([jnp.nan, 1.0]), jax.random.key(0)
    for scale in (1.0, 0.0):
        found = Fixed(scale, 8).round(x, mode, key=key)
        assert np.isnan(found[0])
        assert found[1] == scale
    np.testing.assert_array_equal(Fixed(1.0, 8).encode(x, mode, key=key), [0, 1])


@pytest.mark.parametrize("mode", MODES)
def test_scale_0_leaves_the_single_value_0(mode):
    x, key = jnp.array([-jnp.inf, -3.0, 0.0, 1e-30, 7.0, jnp.inf]), jax.random.key(0)
    np.testing.assert_array_equal(Fixed(0.0, 8).round(x, mode, key=key), 0)
    np.testing.assert_array_equal(Fixed(0.0, 8).encode(x, mode, key=key), 0)


@pytest.mark.parametrize(
    ("bits", "dtype"), [(2, "int8"), (8, "int8"), (9, "int16"), (16, "int16"), (17, "int32")]
)
def test_codes_take_the_smallest_integer_type_and_decode_exactly(bits, dtype, in_x64):
    fmt = Fixed(0.3, bits)
    x = jnp.array(np.random.default_rng(bits).uniform(-1, 1, 500) * 0.3 * 2**bits)
    codes = fmt.encode(x)
    assert codes.dtype == fmt.code_dtype == dtype
    np.testing.assert_array_equal(fmt.decode(codes, jnp.float64), fmt.round(x))
    assert (int(codes.min()), int(codes.max())) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@pytest.mark.parametrize("mode", MODES)
def test_traced_bits_and_scale_give_the_bits_of_static_ones_in_one_compilation(mode):
    traces = []

    @jax.jit
    def traced(x, scale, bits):
        traces.append(1)
        fmt = Fixed(scale, bits)
        key = jax.random.key(0)
        return fmt.round(x, mode, key=key), fmt.encode(x, mode, key=key)

    x = jnp.array(np.random.default_rng(0).normal(scale=40, size=1000), jnp.float32)
    for bits in range(2, 25):
        scale = 0.1 * bits
        fmt, key = Fixed(scale, bits), jax.random.key(0)
        values, codes = traced(x, scale, bits)
        np.testing.assert_array_equal(
            values, jax.jit(fmt.round, static_argnums=1)(x, mode, key=key)
        )
        np.testing.assert_array_equal(codes, fmt.encode(x, mode, key=key))
        assert codes.dtype == np.int32
    assert len(traces) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("traced", [False, True])
def test_limits_are_exact_for_all_widths(dtype, traced, in_x64):
    """Where float32 has no 2^(b-1) - 1 (above 24 + 1 bits): the next smaller number it has."""
    limits = jax.jit(lambda b: Fixed(1.0, b).limits(dtype))
    for bits in range(2, 33):
        low, high = limits(bits) if traced else Fixed(1.0, bits).limits(dtype)
        assert low.dtype == high.dtype == dtype
        assert int(low) == -(2 ** (bits - 1))
        wanted = 2 ** (bits - 1) - 1
        if int(np.dtype(dtype).type(wanted)) != wanted:
            wanted = int(np.nextafter(np.float32(2 ** (bits - 1)), np.float32(0)))
        assert int(high) == wanted


def test_32_bit_codes_saturate_without_wrapping_in_float32(in_x32):
    codes = Fixed(1.0, 32).encode(jnp.array([-1e12, 1e12], jnp.float32))
    assert int(codes[0]) == -(2**31)
    assert int(codes[1]) == 2**31 - 128


@pytest.mark.parametrize("bits", [2, 8, 16, 32])
def test_spanning_puts_the_largest_code_on_the_radius(bits, in_x64):
    fmt = Fixed.spanning(3.7, bits)
    assert float(fmt.scale) * (2 ** (bits - 1) - 1) == pytest.approx(3.7, rel=1e-14)
    traced = jax.jit(lambda b: Fixed.spanning(3.7, b).scale)(bits)
    assert float(traced) == pytest.approx(float(fmt.scale), rel=1e-15)


def test_given_bits_replace_the_key():
    x = jnp.array([1.25, 1.25, -1.25, -1.25])
    bits = jnp.array([0.24, 0.26, 0.74, 0.76]) * 2.0**32
    found = round_to_integer(x, "stochastic", bits=bits.astype(jnp.uint32))
    np.testing.assert_array_equal(found, [2, 1, -1, -2])


def test_scales_may_be_arrays_that_broadcast():
    x = jnp.array([[1.3, 1.3], [-90.0, 90.0]])
    found = Fixed(jnp.array([0.5, 1.0]), 4).round(x)
    np.testing.assert_array_equal(found, [[1.5, 1.0], [-4.0, 7.0]])


def test_wrong_arguments_are_refused_with_the_reason():
    for bits in (1, 33):
        with pytest.raises(ValueError, match=f"bits = {bits}"):
            Fixed(1.0, bits)
    with pytest.raises(ValueError, match="nearest, half_up, stochastic"):
        round_to_integer(jnp.ones(1), "down")
    with pytest.raises(ValueError, match="key"):
        round_to_integer(jnp.ones(1), "stochastic")
    with pytest.raises(ValueError, match="16 bits"):
        Fixed(1.0, 17).values()
    with pytest.raises(ValueError, match="positive"):
        Fixed.spanning(0.0, 8)
