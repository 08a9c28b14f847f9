"""Formats as compilers see them: chains of operations under jit, arrays on several devices."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from number_formats import CASES
from test_formats_contract import every_format, spread

from lpml import formats


@every_format
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_chain_of_rounded_operations_is_the_same_under_jit(fmt, dtype):
    """Casts and products that a compiler merges or drops must not show."""

    def chain(fmt, x, y, z):
        product = fmt.round(x * y)
        total = fmt.decode(fmt.encode(fmt.round(product + z) - y))
        return fmt.round(total * y) + product

    numbers = np.random.default_rng(0).uniform(-1, 1, (3, 2000))
    x, y, z = jnp.asarray(spread(fmt, numbers)).astype(dtype)
    y = y / jnp.max(jnp.abs(y))
    eager = np.asarray(chain(fmt, x, y, z))
    assert np.isfinite(eager).all()
    np.testing.assert_array_equal(jax.jit(chain)(fmt, x, y, z), eager)
    np.testing.assert_array_equal(jax.jit(functools.partial(chain, fmt))(x, y, z), eager)


@every_format
@pytest.mark.parametrize("mode", ["nearest", "zero"])
def test_a_callers_constant_is_not_joined_with_a_scale_of_the_formats(fmt, mode):
    """The compiler may make one product of two factors, if it sees both."""
    x = jnp.asarray(spread(fmt, np.random.default_rng(1).uniform(-1, 1, 20_000)), jnp.float32)
    x = x / 4

    def chain(x):
        twice = fmt.round(fmt.round(x, mode) * 1.7, mode)
        return twice, fmt.decode(fmt.encode(x * 1.7, mode)) * 1.5

    jax.tree.map(np.testing.assert_array_equal, jax.jit(chain)(x), chain(x))


def test_sharded_arrays_are_rounded_alike():
    """On 4 devices, hash's random words included."""
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

    @jax.jit
    def everything(fmt, x, key):
        words = {rng: formats.random_bits(key, x.shape, rng) for rng in ("threefry", "hash")}
        drawn = [fmt.round(x, "stochastic", bits=bits) for bits in words.values()]
        fixed = [fmt.round(x, mode) for mode in formats.MODES if mode != "stochastic"]
        return drawn, fixed, fmt.decode(fmt.encode(x))

    mesh = jax.sharding.Mesh(np.array(jax.devices()), "data")
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    assert len(mesh.devices) == 4
    for fmt in CASES.values():
        x = jnp.asarray(spread(fmt, np.linspace(-1.5, 1.5, 96))).reshape(8, 12)
        whole = everything(fmt, x, jax.random.key(5))
        parts = everything(fmt, jax.device_put(x, place), jax.random.key(5))
        jax.tree.map(np.testing.assert_array_equal, parts, whole)
    print(len(CASES))


if __name__ == "__main__":
    compare_sharded()
