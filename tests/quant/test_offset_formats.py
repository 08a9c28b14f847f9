"""What offsets are held in: how far off, how wide, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml.quant import offset_format, unit_roundoff

FORMATS = {
    "float16": "float16",
    "bfloat16": "bfloat16",
    "e4m3fn": "float8_e4m3fn",
    "e5m2": "float8_e5m2",
    "int8": "int8",
    "fixed8": "int8",
    "int16": "int16",
    "e3m2": "uint8",
}


def drawn(size):
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 50)) * 10.0 ** random.uniform(-6, 0, size=(40, 50))
    return (size * x).astype(np.float32)


@pytest.mark.parametrize("size", [1e-25, 1e-9, 1.0, 1e9])
@pytest.mark.parametrize("name", FORMATS)
def test_an_entry_is_off_by_at_most_u_times_the_largest(name, size):
    x = drawn(size)
    fmt = offset_format(name)
    held = jax.jit(fmt.hold)(x)
    assert held.codes.dtype == FORMATS[name]
    error = np.abs(np.float64(fmt.read(held, jnp.float32)) - x).max()
    most = np.abs(x).max()
    assert 0.1 * unit_roundoff(name) * most < error <= unit_roundoff(name) * most


@pytest.mark.parametrize("name", ["float16", "bfloat16", "e4m3fn", "e5m2"])
def test_floats_err_relative_to_the_entry(name):
    """But for entries so small beside the largest that they are subnormal there."""
    x = drawn(1e-12)
    fmt = offset_format(name)
    error = np.abs(np.float64(fmt.read(fmt.hold(jnp.asarray(x)), jnp.float32)) - x)
    normal = np.abs(x) > np.abs(x).max() * 2.0**-12
    assert (error <= unit_roundoff(name) * np.abs(x))[normal].all()


@pytest.mark.parametrize("name", FORMATS)
def test_the_scale_is_a_power_of_two_and_nothing_saturates(name):
    fmt = offset_format(name)
    for size in (3e-20, 1.0, 448.0, 65504.0, 65505.0, 7e9):
        held = fmt.hold(jnp.array([size, -size, size / 3], jnp.float32))
        scale = 1.0 if held.scale is None else float(held.scale)
        assert np.log2(scale) == np.rint(np.log2(scale))
        first = float(fmt.read(held, jnp.float32)[0])
        assert first == pytest.approx(size, rel=unit_roundoff(name))


@pytest.mark.parametrize("name", FORMATS)
def test_held_offsets_are_held_again_without_loss(name):
    fmt = offset_format(name)
    once = fmt.read(fmt.hold(jnp.asarray(drawn(1e-5))), jnp.float32)
    np.testing.assert_array_equal(fmt.read(fmt.hold(once), jnp.float32), once)


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_stays_nothing_and_a_broken_number_is_seen(name):
    fmt = offset_format(name)
    np.testing.assert_array_equal(fmt.read(fmt.hold(jnp.zeros(5)), jnp.float32), 0)
    assert fmt.hold(jnp.zeros((0, 3))).codes.shape == (0, 3)
    for wrong in (np.nan, np.inf):
        held = fmt.hold(jnp.array([1.0, wrong]))
        assert not np.isfinite(np.float64(fmt.read(held, jnp.float32))).all()


def test_float32_is_left_as_it_is():
    x = jnp.asarray(drawn(1e-30))
    for name in (None, "float32"):
        fmt = offset_format(name)
        np.testing.assert_array_equal(fmt.read(fmt.hold(x), jnp.float32), x)


@pytest.mark.parametrize("name", ["posit8", "mxfp8e4m3", "int8tensor"])
def test_other_kinds_of_formats_are_refused(name):
    with pytest.raises(ValueError, match="minifloat or fixed point"):
        offset_format(name)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="does not exist"):
        offset_format("float17")


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere it is a barrier")
@pytest.mark.parametrize("name", ["float16", "e4m3fn", "int8"])
def test_an_offset_of_many_readers_is_rounded_once(name):
    fmt = offset_format(name)

    def read_twice(x):
        held = fmt.hold(jnp.tanh(x))
        values = fmt.read(held, jnp.float32)
        return values.sum(0), 2 * values.T

    # without a branch XLA's CPU compiler rounds in each of the two loops
    text = jax.jit(read_twice).lower(jnp.ones((64, 64))).compile().as_text()
    assert text.count(" conditional(") == 1


@pytest.mark.parametrize("name", ["float16", "e4m3fn", "int8"])
def test_rows_of_a_batch_are_held_as_each_alone(name):
    fmt = offset_format(name)
    rows = np.stack([drawn(1e-9), 0 * drawn(1), np.full((40, 50), np.nan, np.float32)])
    many = jax.jit(jax.vmap(fmt.hold))(rows)
    for i, row in enumerate(rows):
        one = fmt.hold(jnp.asarray(row))
        for found, wanted in zip(many, one, strict=True):
            np.testing.assert_array_equal(np.float64(found[i]), np.float64(wanted))
