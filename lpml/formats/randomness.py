"""Random words for stochastic rounding, from a PRNG key, at three prices."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

GENERATORS = ("threefry", "rbg", "hash")


def random_bits(
    key: jax.Array, shape: tuple[int, ...], rng: str = "threefry"
) -> UInt32[Array, "..."]:
    """Uniform 32-bit words of `shape`.

    Args:
      key: a PRNG key, typed or raw.
      shape: of the result.
      rng: `"threefry"`: `jax.random.bits`, JAX's own streams, and about ten times the cost
        of the rounding. `"rbg"`: the backend's generator, faster; its words may differ
        between backends, and under vmap or sharding. `"hash"`: a hash of the key and of an
        element's index, computed where it is used and nearly free; the same words under
        eager, jit and sharding. Not cryptographic: for rounding only.

    Raises:
      ValueError: unknown `rng`; or "hash" for more than 2^32 elements, where it repeats.
    """
    if rng not in GENERATORS:
        known = ", ".join(GENERATORS)
        raise ValueError(f"rng {rng!r} does not exist; choose from {known}")
    if rng == "threefry":
        return jax.random.bits(key, shape, jnp.uint32)
    words = jax.random.key_data(key)
    if rng == "rbg":
        four = jnp.resize(words, (4,))
        return jax.random.bits(jax.random.wrap_key_data(four, impl="rbg"), shape, jnp.uint32)
    return _hashed(words, shape)


def _hashed(words, shape):
    if math.prod(shape) > 2**32:
        raise ValueError(f'rng "hash" repeats after 2^32 elements; shape {shape} has more')
    # Neighbouring keys must not give shifted copies of one stream: every word of the key goes
    # through the mixer, and the two halves of the seed enter at different stages.
    first, second = np.uint32(0x243F6A88), np.uint32(0x85A308D3)
    for word in (words[i] for i in range(words.shape[0])):
        first = _mixed(first ^ word)
        second = _mixed(second + first + np.uint32(0x9E3779B9))
    return _mixed(_mixed(_index(shape) + first) ^ second)


def _index(shape):
    """Row-major position of every element; one iota per axis, so that it can be sharded."""
    index = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = np.uint32(math.prod(shape[axis + 1 :]) % 2**32)
        index += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * stride
    return index


def _mixed(h):
    """A bijection of 32-bit words in which every bit sways every other (Wellons' lowbias32)."""
    h = (h ^ (h >> 16)) * np.uint32(0x7FEB352D)
    h = (h ^ (h >> 15)) * np.uint32(0x846CA68B)
    return h ^ (h >> 16)
