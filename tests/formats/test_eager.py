"""Calls outside of jit: one program, for all scales, with the results of operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml import formats
from lpml.formats.protocol import Elementwise

SHAPE = (3, 5, 64)


@pytest.fixture
def compiled():
    """The programs that were compiled since the test began."""
    seen = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    jax.clear_caches()
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


def numbers(seed):
    return jax.device_put(np.random.default_rng(seed).standard_normal(SHAPE, np.float32))


@pytest.mark.parametrize("name", ["e4m3fn", "posit8", "int8tensor", "nvfp4", "vsq4"])
def test_every_call_is_one_program_and_the_next_compiles_none(name, compiled):
    fmt, x, y = formats.by_name(name), numbers(0), numbers(1)
    compiled.clear()
    codes = fmt.encode(x)
    assert len(compiled) == 1
    values = fmt.round(x)
    assert len(compiled) == 2
    back = fmt.decode(codes)
    assert len(compiled) == 3
    fmt.decode(fmt.encode(y))
    fmt.round(y)
    assert len(compiled) == 3
    np.testing.assert_array_equal(back, values)


def test_another_scale_compiles_nothing(compiled):
    x = numbers(0)
    formats.Fixed(0.25, 8).round(x)
    compiled.clear()
    found = formats.Fixed(0.5, 8).round(x)
    assert not compiled
    np.testing.assert_array_equal(found, np.round(2 * np.asarray(x)) / 2)


def test_outside_of_jit_too_a_gradient_and_a_batch_are_one_program_each(compiled):
    fmt, x = formats.by_name("nvfp4"), numbers(0)
    one = jnp.ones(SHAPE)
    compiled.clear()
    _, back = jax.vjp(fmt.round, x)
    np.testing.assert_array_equal(back(one)[0], one)
    assert len(compiled) <= 2  # values, and the cotangents
    compiled.clear()
    jax.vmap(fmt.round)(x)
    assert len(compiled) == 1


@pytest.mark.parametrize("name", ["e4m3fn", "e3m2", "posit8", "nvfp4", "vsq4", "mxint8"])
@pytest.mark.parametrize("mode", ["nearest", "stochastic"])
def test_operation_by_operation_the_bits_are_the_same(name, mode):
    fmt, x = formats.by_name(name), numbers(2)
    words = formats.random_bits(jax.random.key(0), SHAPE)
    found = fmt.round(x, mode, bits=words)
    with jax.disable_jit():
        np.testing.assert_array_equal(fmt.round(x, mode, bits=words), found)


def test_an_int_and_its_equals_of_other_types_are_not_taken_for_each_other():
    x = numbers(0)
    formats.Fixed(0.5, 4).round(x, "nearest")
    with pytest.raises(ValueError, match="True"):
        formats.Fixed(0.5, True).round(x, "nearest")


class Halves(Elementwise):
    """Multiples of 0.5, by a class that is no pytree and whose objects have no hash."""

    __hash__ = None
    static_bits = 8

    def _round(self, x, mode, bits):  # noqa: ARG002
        return jnp.round(2 * x) / 2


def test_a_format_that_no_cache_knows_is_called_all_the_same():
    x = numbers(0)
    np.testing.assert_array_equal(Halves().round(x), np.round(2 * np.asarray(x)) / 2)
