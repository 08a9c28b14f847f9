"""Random words for stochastic rounding, from a PRNG key, at three prices; keys at the least."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

GENERATORS = ("threefry", "rbg", "hash")


def random_bits(
    key: jax.Array,
    shape: tuple[int, ...],
    rng: str = "threefry",
    *,
    start: jax.typing.ArrayLike = 0,
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
      start: () integer; of "hash", gives the elements from this one on of a longer array, in
        row-major order.

    Raises:
      ValueError: unknown `rng`; a `start` other than 0 for one that has none; or "hash" for
        more than 2^32 elements, where it repeats.
    """
    if rng not in GENERATORS:
        known = ", ".join(GENERATORS)
        raise ValueError(f"rng {rng!r} does not exist; choose from {known}")
    if rng != "hash" and not (isinstance(start, int) and start == 0):
        raise ValueError(f'rng {rng!r} has no `start`; only "hash" has')
    if rng == "threefry":
        return jax.random.bits(key, shape, jnp.uint32)
    words = jax.random.key_data(key)
    if rng == "rbg":
        four = jnp.resize(words, (4,))
        return jax.random.bits(jax.random.wrap_key_data(four, impl="rbg"), shape, jnp.uint32)
    return _hashed(words, shape, jnp.asarray(start).astype(jnp.uint32))


def child_key(key: jax.Array, number: jax.typing.ArrayLike) -> jax.Array:
    """A key of the same kind for part `number` of what `key` is for, by a hash.

    What `jax.random.fold_in` does, at the price of a few multiplications: a threefry block is
    a loop of its own on a CPU, and takes longer than a whole step of a small linear model.
    Children of one key never coincide. For rounding noise and such, not for secrets.

    Args:
      key: a PRNG key, typed or raw.
      number: () integer; its lower 32 bits count.
    """
    words = jax.random.key_data(key)
    number = jnp.asarray(number).astype(jnp.uint32)
    first, second = _seed([*(words[i] for i in range(len(words))), number])
    drawn = [first, second]
    while len(drawn) < len(words):  # kinds of key with more than two words
        drawn.append(_mixed(drawn[-2] + drawn[-1]))
    child = jnp.stack(drawn[: len(words)])
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(child, impl=jax.random.key_impl(key))
    return child


def _hashed(words, shape, start):
    if math.prod(shape) > 2**32:
        raise ValueError(f'rng "hash" repeats after 2^32 elements; shape {shape} has more')
    # Neighbouring keys must not give shifted copies of one stream: the two halves of the seed
    # enter at different stages.
    first, second = _seed([words[i] for i in range(len(words))])
    return _mixed(_mixed(_index(shape) + (start + first)) ^ second)


def _seed(words):
    """Two words that depend on all of `words`."""
    first, second = np.uint32(0x243F6A88), np.uint32(0x85A308D3)
    for word in words:
        first = _mixed(first ^ word)
        second = _mixed(second + first + np.uint32(0x9E3779B9))
    return first, second


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
