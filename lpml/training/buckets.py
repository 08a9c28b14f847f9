"""Batches of sentences of similar length, and steps that are no longer than their batch."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lpml.data import Dataset, bucketed_indices, lengths
from lpml.models.search import Marks
from lpml.training.step import Batch, Gradient


@dataclasses.dataclass(frozen=True)
class Buckets:
    """Lengths that batches are cut to.

    Attributes:
      lengths: growing; the last is the data's own.
      of: (N,) int, the bucket of every training sample.
    """

    lengths: tuple[int, ...]
    of: np.ndarray

    def indices(self, seed: int, start: int, count: int, batch_size: int) -> np.ndarray:
        """Sample indices of steps; see `bucketed_indices`."""
        return bucketed_indices(seed, start, count, buckets=self.of, batch_size=batch_size)

    def gradient(self, gradient: Gradient) -> Callable[..., Any]:
        """The gradient of a batch without the places that are padding to all of it.

        The shortest of the lengths that holds the batch is found in the program, which has a
        branch for each: it is compiled once, and no sample is cut, whatever the batch. Padding
        has no effect, so the numbers are those of the whole batch but for the order of sums
        (and for the draws of dropout, which know its shape).
        """

        def of_batch(objective, params, model_state, batch, key):
            def at(length):
                def branch(params, model_state, batch, key):
                    return gradient(objective, params, model_state, _cut(batch, length), key)

                return branch

            which = jnp.searchsorted(jnp.asarray(self.lengths), _needed(batch))
            branches = [at(length) for length in self.lengths]
            return jax.lax.switch(which, branches, params, model_state, batch, key)

        return of_batch


def buckets_of(dataset: Dataset, upto: Sequence[int]) -> Buckets:
    """The buckets of a data set of sentences in pairs.

    Args:
      dataset: of translations.
      upto: lengths in pieces, END included, growing and at least 2; that of the data is the
        last bucket's, and longer ones are of no use.

    Raises:
      ValueError: lengths that do not grow, or other data.
    """
    if dataset.text is None or dataset.train["x"].ndim != 3:
        raise ValueError(
            f"buckets = {tuple(upto)} are lengths of sentences in pairs, of which this data "
            "set has none; leave buckets out"
        )
    if any(b <= a for a, b in zip((1, *upto), upto)):
        raise ValueError(f"buckets = {tuple(upto)} must grow and be at least 2")
    longest = dataset.train["x"].shape[-1]
    if min(upto, default=0) >= longest:
        raise ValueError(
            f"buckets = {tuple(upto)} are all as long as the data's sentences, {longest}; give "
            "shorter ones or leave buckets out"
        )
    ends = (*(length for length in upto if length < longest), longest)
    return Buckets(ends, np.searchsorted(ends, lengths(dataset.train)))


def _needed(batch: Batch) -> jax.Array:
    """() int32: places up to the last that is no padding in some sample."""
    read = jnp.any(batch["x"] != Marks().padding, axis=(0, 1))
    used = read | jnp.any(batch["y"] >= 0, axis=0)
    return jnp.max(jnp.where(used, jnp.arange(1, len(used) + 1), 0))


def _cut(batch: Batch, length: int) -> Batch:
    return {**batch, "x": batch["x"][..., :length], "y": batch["y"][..., :length]}
