"""Mini-batch HALP with 8-bit matrix products, beside the same program in floats.

    PYTHONPATH=. python benchmarks/minibatch_int8.py

A step of softmax regression on a batch: outputs of the offset x_B z, the change of the
derivatives, and the gradient x_B^T v. In `int8` both products are those of int8 matrices summed
in int32 (`lax.dot_general` with `preferred_element_type`), the derivatives are rounded to int8
and the offset stochastically to int8; in float32 and bfloat16 nothing is rounded. On a GPU
XLA gives the int8 products to the tensor cores; XLA's CPU compiler has no fast ones. Medians of
interleaved rounds.
"""

import functools
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from lpml.formats import random_bits
from lpml.models.losses import softmax_cross_entropy

SHAPES = [(64, 784, 10), (256, 4096, 10), (256, 4096, 128)]
LARGE = [(1024, 4096, 1024)]  # a minute a step in int8 on a CPU
STEPS, ROUNDS = 20, 9


def product(a, b):
    """The matrix product in the type that its operands are summed in."""
    wide = jnp.int32 if a.dtype == jnp.int8 else jnp.float32
    return jax.lax.dot_general(a, b, (((1,), (0,)), ((), ())), preferred_element_type=wide)


def step(dtype, z, x, outputs, h, key):
    """One step of offset z (d, K) on a batch x (B, d) with outputs (B, K) at the anchor."""
    scale = 1e-3
    change = product(x, z).astype(jnp.float32) * scale
    slopes = softmax_cross_entropy.difference(outputs, change, None)
    if dtype == jnp.int8:
        unit = jnp.max(jnp.abs(slopes)) / 127 + 1e-30
        codes = jnp.round(slopes / unit).astype(jnp.int8)
        move = product(x.T, codes).astype(jnp.float32) * unit + h
        noise = random_bits(key, z.shape, "hash").astype(jnp.float32) * 2.0**-32
        return jnp.clip(jnp.floor(z - move + noise), -128, 127).astype(jnp.int8)
    move = product(x.T, slopes.astype(dtype)) + h
    return (z - move).astype(dtype)


@functools.partial(jax.jit, static_argnums=0)
def steps(dtype, z, x, outputs, h):
    """Steps one after the other, each with another part of the batch first."""

    def body(i, z):
        rolled = jnp.roll(x, i, axis=0)
        return step(dtype, z, rolled, outputs, h, jax.random.key(0))

    return jax.lax.fori_loop(0, STEPS, body, z)


def main():
    print(f"device: {jax.devices()[0].device_kind}")
    random = np.random.default_rng(0)
    on_cpu = jax.default_backend() == "cpu"
    for batch, features, classes in SHAPES if on_cpu else SHAPES + LARGE:
        codes = random.integers(-127, 128, (batch, features), np.int8)
        outputs = jnp.asarray(random.normal(size=(batch, classes)), jnp.float32)
        h = jnp.asarray(1e-3 * random.normal(size=(features, classes)), jnp.float32)
        types = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "int8": jnp.int8}
        seconds = {name: [] for name in types}
        for round_number in range(ROUNDS + 1):
            for name, dtype in types.items():
                x, z = jnp.asarray(codes, dtype), jnp.zeros((features, classes), dtype)
                jax.block_until_ready((x, z))
                start = time.perf_counter()
                jax.block_until_ready(steps(dtype, z, x, outputs, h))
                if round_number:
                    seconds[name].append((time.perf_counter() - start) / STEPS)
        print(f"B = {batch}, d = {features}, K = {classes}")
        for name, times in seconds.items():
            ratio = statistics.median(np.array(seconds["float32"]) / np.array(times))
            print(f"  {name:9} {statistics.median(times) * 1e6:9.1f} us/step  {ratio:5.2f}")


if __name__ == "__main__":
    main()
