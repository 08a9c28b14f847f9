"""The random words an optimizer rounds with: cheap, and drawn from the key of the step."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lpml.formats import child_key, random_bits
from lpml.formats.branches import elementwise_once
from lpml.optim.periodic import require_key


def leaf_keys(rounding: str, key: jax.Array | None, count: int) -> list[Any]:
    """The words of a PRNG key for each of `count` leaves; None unless "stochastic" wants them.

    Args:
      rounding: the mode.
      key: PRNG key, a fresh one each step; leaf i has its child i.
      count: of leaves.

    Raises:
      ValueError: a key is wanted, and there is none.
    """
    if rounding != "stochastic":
        return [None] * count
    key = require_key(key, "stochastic rounding")
    return [jax.random.key_data(child_key(key, i)) for i in range(count)]


def words(key: jax.Array, shape: tuple[int, ...], start: jax.typing.ArrayLike = 0) -> jax.Array:
    """Uniform uint32 of `shape`: a hash, where threefry would be most of a step."""
    return random_bits(key, shape, "hash", start=start)


def dither(
    rounding: str, key: jax.Array | None, leaves: Sequence[jax.Array], after: Any = None
) -> list[Any]:
    """Words shaped like each leaf, in memory; None for each unless they are wanted.

    Arguments as of `leaf_keys`. In memory, since a loop over float64 that hashed as well would
    be kept to as few integers at a time as there are float64 in a vector.
    """
    return [
        own if own is None else stored_words(own, jnp.shape(leaf), after)
        for own, leaf in zip(leaf_keys(rounding, key, len(leaves)), leaves)
    ]


def stored_words(key: jax.Array, shape: tuple[int, ...], after: Any = None) -> jax.Array:
    """`words`, found in memory by all readers; `after` as of `computed_once`."""

    def drawn(part, start, key):
        return words(key, part.shape, start)

    key = jax.random.key_data(key)
    after = key[0] if after is None else after
    return elementwise_once(drawn, jnp.zeros(shape, jnp.uint32), key, after=after)
