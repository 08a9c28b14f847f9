"""What every scaled format promises: as elementwise ones, but values depend on the block.

Values of a block need not survive a second rounding under scales that are rounded themselves,
and larger numbers need not become larger values, so neither is demanded of all.
"""

import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml import formats

NAMES = (
    *("vsq4", "vsq3v32m6", "mxfp8e4m3", "mxfp8e5m2", "mxfp6e2m3", "mxfp6e3m2", "mxfp4"),
    *("mxint8", "nvfp4", "int4channel", "int8channel", "fp8tensor"),
)
CASES = {name: formats.by_name(name) for name in NAMES} | {
    "vsq4 per tensor, paper order": formats.VSQ(outer="tensor", order="paper"),
    "vsq4 unsigned": formats.VSQ(signed=False),
    "nvfp4 four over six": formats.NVFP4("four_over_six"),
    "mxfp4 even": formats.MXFP4("even"),
    "tables": formats.Scaled(formats.Table([-1.0, -0.3, 0.0, 0.2, 1.0]), 16),
}
# What takes longest to compile, and whose parts others have as well.
LATER = ("vsq3v32m6", "nvfp4 four over six", "tables")
every_format = pytest.mark.parametrize(
    "fmt",
    [
        pytest.param(fmt, id=name, marks=[pytest.mark.slow] if name in LATER else [])
        for name, fmt in CASES.items()
    ],
)
# the elements' own contract covers the others
every_mode = pytest.mark.parametrize("mode", ["nearest", "stochastic"])


def numbers(shape=(4, 6, 64), seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.standard_t(3, shape), jnp.float32)


@functools.partial(jax.jit, static_argnames="mode")
def rounded(fmt, x, mode="nearest", bits=None):
    return fmt.round(x, mode, bits=bits)


def words(x):
    return formats.random_bits(jax.random.key(1), x.shape)


@every_format
@every_mode
def test_eager_jit_and_vmap_agree_with_the_format_as_an_argument(fmt, mode):
    x = numbers()
    bits = words(x) if mode == "stochastic" else None
    eager = np.asarray(fmt.round(x, mode, bits=bits))
    np.testing.assert_array_equal(rounded(fmt, x, mode, bits), eager)
    constant = jax.jit(lambda x, b: fmt.round(x, mode, bits=b))(x, bits)
    np.testing.assert_array_equal(constant, eager)
    each = [fmt.round(s, mode, bits=None if bits is None else bits[i]) for i, s in enumerate(x)]
    mapped = jax.vmap(lambda x, b: fmt.round(x, mode, bits=b))(x, bits)
    np.testing.assert_array_equal(mapped, np.stack(each))


@every_format
@every_mode
def test_codes_are_what_rounding_rounds_to(fmt, mode):
    x = numbers()
    bits = words(x) if mode == "stochastic" else None
    encoded = fmt.encode(x, mode, bits=bits)
    assert encoded.codes.dtype == fmt.code_dtype
    assert encoded.codes.shape == x.shape
    found = fmt.round(x, mode, bits=bits)
    np.testing.assert_array_equal(fmt.decode(encoded), found)
    run = jax.jit(lambda x, b: fmt.decode(fmt.encode(x, mode, bits=b)))
    np.testing.assert_array_equal(run(x, bits), found)
    mapped = jax.vmap(fmt.decode)(jax.vmap(fmt.encode)(x))
    np.testing.assert_array_equal(mapped, np.stack([fmt.round(part) for part in x]))


@every_format
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_a_chain_of_rounded_operations_is_the_same_under_jit(fmt, dtype):
    def chain(fmt, x, y, z):
        product = fmt.round(x * y)
        total = fmt.decode(fmt.encode(fmt.round(product + z) - y), x.dtype)
        return fmt.round(total * y) + product

    x, y, z = (numbers((8, 64), seed).astype(dtype) for seed in range(3))
    eager = np.asarray(chain(fmt, x, y, z))
    assert np.isfinite(eager.astype(np.float32)).all()
    np.testing.assert_array_equal(jax.jit(chain)(fmt, x, y, z), eager)
    np.testing.assert_array_equal(jax.jit(functools.partial(chain, fmt))(x, y, z), eager)


@every_format
@pytest.mark.parametrize("mode", ["nearest", "zero"])
def test_a_callers_constant_is_not_joined_with_a_scale(fmt, mode):
    x = numbers((64, 256))

    def chain(x):
        twice = fmt.round(fmt.round(x, mode) * 1.7, mode)
        return twice, fmt.decode(fmt.encode(x * 1.7, mode)) * 1.5

    jax.tree.map(np.testing.assert_array_equal, jax.jit(chain)(x), chain(x))


@every_format
def test_elements_are_values_times_the_scale(fmt):
    x = numbers()
    encoded = fmt.encode(x)
    elements = np.asarray(fmt.element.decode(encoded.codes), np.float64)
    assert np.isclose(elements[..., None], fmt.values(), rtol=1e-6).any(-1).all()
    assert fmt.static_bits == fmt.element.static_bits
    assert isinstance(fmt, formats.Format)


@every_format
def test_stochastic_rounding_is_unbiased_inside_of_the_range(fmt):
    if fmt.order == "paper":
        pytest.skip("elements are drawn under another scale than the one they get")
    x = jnp.abs(numbers((1, 64))) if fmt.values()[0] == 0 else numbers((1, 64))
    keys = jax.random.split(jax.random.key(3), 4000)
    draws = np.asarray(
        jax.vmap(lambda key: fmt.round(x, "stochastic", key=key))(keys), np.float64
    )[:, 0]
    inside = np.asarray(jax.grad(lambda x: fmt.round(x, gradient="clipped").sum())(x)[0], bool)
    error = np.maximum(draws.std(0), 1e-9) / np.sqrt(len(draws))
    near = np.abs(draws.mean(0) - np.asarray(x[0], np.float64)) < 5 * error + 1e-5
    assert near[inside].all()
    assert inside.sum() > 40


@every_format
@every_mode
def test_gradients_are_the_named_ones(fmt, mode):
    x, key = numbers((2, 64)), jax.random.key(0)

    def slope(gradient):
        return np.asarray(
            jax.grad(lambda x: fmt.round(x, mode, key=key, gradient=gradient).sum())(x)
        )

    np.testing.assert_array_equal(slope("straight_through"), 1)
    np.testing.assert_array_equal(slope("none"), 0)
    clipped = slope("clipped")
    assert set(np.unique(clipped)) <= {0, 1}
    encoded = fmt.encode(x, "zero")
    elements = np.abs(np.asarray(fmt.element.decode(encoded.codes)))
    # what is clipped has the largest element; what has none is not (negatives of unsigned)
    if fmt.values()[0] < 0:
        assert (elements[clipped == 0] >= np.abs(fmt.values()).max() * (1 - 1e-6)).all()


@every_format
def test_bad_arguments_are_refused_in_one_sentence(fmt):
    x = jnp.ones((2, 64))
    with pytest.raises(ValueError, match="nearest"):
        fmt.round(x, "up")
    with pytest.raises(ValueError, match="key"):
        fmt.round(x, "stochastic")
    with pytest.raises(ValueError, match="uint32"):
        fmt.round(x, "stochastic", bits=jnp.zeros((2, 64), jnp.int32))
    with pytest.raises(ValueError, match="straight_through, clipped, none"):
        fmt.round(x, gradient="soft")
    with pytest.raises(ValueError, match="axis 2 is none"):
        fmt.round(x, axis=2)


@every_format
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_the_dtype_of_the_numbers_is_kept(fmt, dtype):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.linspace(-1, 1, 64).astype(dtype)
        assert fmt.round(x).dtype == jnp.dtype(dtype)
        assert fmt.decode(fmt.encode(x), dtype).dtype == jnp.dtype(dtype)
        np.testing.assert_array_equal(fmt.decode(fmt.encode(x), dtype), fmt.round(x))


@every_format
def test_bits_are_what_a_key_stands_for_and_empty_arrays_are_taken(fmt):
    x, key = numbers(), jax.random.key(4)
    bits = formats.random_bits(key, x.shape)
    np.testing.assert_array_equal(
        fmt.round(x, "stochastic", bits=bits), fmt.round(x, "stochastic", key=key)
    )
    assert fmt.round(jnp.zeros((0, 64))).shape == (0, 64)


def test_sharded_arrays_are_rounded_alike():
    """On 4 devices, rows apart; maxima over all devices are exact."""
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    ran = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) == len(CASES)


def compare_sharded():
    """Run in a process of its own: exits with an AssertionError, or prints how many agreed."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()), "data")
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    assert len(mesh.devices) == 4
    x = numbers()
    for fmt in CASES.values():
        parts = rounded(fmt, jax.device_put(x, place))
        np.testing.assert_array_equal(parts, rounded(fmt, x))
    print(len(CASES))


if __name__ == "__main__":
    compare_sharded()
