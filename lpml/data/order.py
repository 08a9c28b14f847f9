"""The order of the samples: a pure function of (seed, step), whatever was asked before.

Random bits come from Philox, a counter-based generator (Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", SC 2011): a step's bits are found by setting the counter, so
that a run resumed at step s draws what an unbroken run draws, without replaying s steps.
"""

import functools
import operator
from collections.abc import Callable

import numpy as np

_WORDS = 4  # 64-bit outputs of one Philox counter value
_BLOCK = 4096  # least number of positions worth one call of the generator


def batch_indices(
    seed: int, start: int, count: int, *, size: int, batch_size: int, sampling: str
) -> np.ndarray:
    """The sample indices of steps start..start+count-1.

    Args:
      seed: at least 0.
      start: first step, at least 0.
      count: number of steps, at least 0.
      size: number of samples, 1 to 2**31 - 1.
      batch_size: samples a step, at least 1; it may exceed size.
      sampling: 'replacement', each index uniform and independent; 'shuffle', the stream of
        one random permutation an epoch, cut into batches that run across epoch borders;
        'sequential', positions modulo size.

    Returns:
      int32 (count, batch_size) in 0..size-1. Row i depends on (seed, start + i) alone.

    Raises:
      ValueError: an argument out of its range, or an unknown sampling.
    """
    if sampling not in _SAMPLINGS:
        known = ", ".join(_SAMPLINGS)
        raise ValueError(f"sampling is {sampling!r} but must be one of {known}.")
    for name, value, least in (
        ("seed", seed, 0),
        ("start", start, 0),
        ("count", count, 0),
        ("size", size, 1),
        ("batch_size", batch_size, 1),
    ):
        if value < least:
            raise ValueError(f"{name} is {value} but must be at least {least}.")
    if size >= 2**31:
        raise ValueError(f"size is {size} but must be less than 2**31: indices are int32.")
    # Python's integers: numpy's would overflow in start * batch_size.
    numbers = (operator.index(n) for n in (seed, start, count, size, batch_size))
    return _SAMPLINGS[sampling](*numbers)


def bucketed_indices(
    seed: int, start: int, count: int, *, buckets: np.ndarray, batch_size: int
) -> np.ndarray:
    """The sample indices of steps, each from one bucket: sentences of similar length, say.

    Every epoch shuffles the samples, lays them down bucket by bucket, cuts that circle at a
    place of chance into batches, and shuffles these. Where one bucket ends and the next begins
    a batch has samples of both. What is too little for a batch, another part in every epoch,
    is left out.

    Args:
      seed: at least 0.
      start: first step, at least 0.
      count: number of steps, at least 0.
      buckets: (N,) int, the bucket of every sample.
      batch_size: samples a step, 1 to N.

    Returns:
      int32 (count, batch_size) in 0..N-1. Row i depends on (seed, start + i) alone.

    Raises:
      ValueError: a batch_size out of its range.
    """
    if not 1 <= batch_size <= len(buckets):
        raise ValueError(f"batch_size is {batch_size} but must be 1 to {len(buckets)}.")
    rows = len(buckets) // batch_size
    drawn = np.empty((count, batch_size), np.int32)
    done = 0
    while done < count:
        epoch, first = divmod(operator.index(start) + done, rows)
        part = _bucketed_epoch(seed, epoch, buckets, batch_size)[first : first + count - done]
        drawn[done : done + len(part)] = part
        done += len(part)
    return drawn


def _bucketed_epoch(seed: int, epoch: int, buckets: np.ndarray, batch_size: int) -> np.ndarray:
    size = len(buckets)
    bits = _random_rows(seed, 2, epoch, 1, size)[0]
    rows = size // batch_size
    cut, *places = _random_rows(seed, 3, epoch, 1, 1 + rows)[0]
    circle = np.roll(np.lexsort((bits, buckets)), -int(cut % np.uint64(size)))
    batches = circle[: rows * batch_size].reshape(rows, batch_size)
    return batches[np.argsort(places, kind="stable")]


def _replacement(seed: int, start: int, count: int, size: int, batch_size: int) -> np.ndarray:
    bits = _random_rows(seed, 0, start, count, batch_size)
    # Multiply-shift instead of modulo: the bias is at most size / 2**32 of each probability.
    return (((bits >> np.uint64(32)) * np.uint64(size)) >> np.uint64(32)).astype(np.int32)


def _shuffle(seed: int, start: int, count: int, size: int, batch_size: int) -> np.ndarray:
    first, total = start * batch_size, count * batch_size
    length = _block_epochs(size) * size
    indices = np.empty(total, np.int32)
    done = 0
    while done < total:
        block, offset = divmod(first + done, length)
        part = _epoch_block(seed, block, size)[offset : offset + total - done]
        indices[done : done + len(part)] = part
        done += len(part)
    return indices.reshape(count, batch_size)


def _sequential(_: int, start: int, count: int, size: int, batch_size: int) -> np.ndarray:
    positions = np.arange(count * batch_size, dtype=np.int64) + start * batch_size % size
    return (positions % size).astype(np.int32).reshape(count, batch_size)


_SAMPLINGS: dict[str, Callable[[int, int, int, int, int], np.ndarray]] = {
    "replacement": _replacement,
    "shuffle": _shuffle,
    "sequential": _sequential,
}


def _block_epochs(size: int) -> int:
    return max(1, _BLOCK // size)


# The loop asks for short stretches of steps, many from one epoch: without the cache each
# would sort the epoch anew.
@functools.lru_cache(maxsize=4)
def _epoch_block(seed: int, block: int, size: int) -> np.ndarray:
    """The permutations of `_block_epochs(size)` epochs, one after the other, read-only."""
    epochs = _block_epochs(size)
    bits = _random_rows(seed, 1, block * epochs, epochs, size)
    # Sorting random keys rests on the bit generator alone, whose stream numpy keeps fixed;
    # Generator.permutation may change between versions. Stable: equal on every machine.
    permutations = np.argsort(bits, axis=1, kind="stable").astype(np.int32).reshape(-1)
    permutations.flags.writeable = False
    return permutations


def _random_rows(seed: int, stream: int, start: int, count: int, width: int) -> np.ndarray:
    """uint64 (count, width): rows start..start+count-1 of the bits of (seed, stream)."""
    ticks = -(-width // _WORDS)
    key = np.random.SeedSequence([seed, stream]).generate_state(2, np.uint64)
    generator = np.random.Philox(key=key, counter=start * ticks % 2**256)
    bits = np.asarray(generator.random_raw(count * ticks * _WORDS), np.uint64)
    return bits.reshape(count, ticks * _WORDS)[:, :width]
