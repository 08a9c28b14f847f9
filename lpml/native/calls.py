"""The kernels as functions of arrays, to be called under `jax.jit` on the CPU.

Shapes: N samples, K outputs, d coordinates padded with zeros to `stride`, T indices.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lpml.native.library import kernels

LOSSES = ("squared", "logistic", "softmax")
BLOCK_BYTES = 64
CHUNK = 1024  # coordinates that share a generator
LANE_WORDS = 16  # 32-bit words of its state
SHIFTS = {8: (8, 14), 16: (0, 14)}
COUNT_EVERY = 8


class Seen(NamedTuple):
    """What the steps since `nothing_seen` saw.

    Attributes:
      saturated: () float32, codes that were clipped, by a count of one step in eight.
      peak: () float32, largest magnitude of a code, in one step of eight.
      steepest: () float32, largest coefficient: steps of a code for a row entry of one.
      clipped: () float32, coefficients that did not fit in 16 bits.
      bad_step: () int32, the first step with a number that is not finite; -1: none.
    """

    saturated: jax.Array
    peak: jax.Array
    steepest: jax.Array
    clipped: jax.Array
    bad_step: jax.Array


def stride_of(features: int, dtype: jax.typing.DTypeLike) -> int:
    """Entries of a row of `features` once it is padded to whole blocks of 64 bytes."""
    block = BLOCK_BYTES // jnp.dtype(dtype).itemsize
    return -(-features // block) * block


def padded(rows: np.ndarray) -> np.ndarray:
    """Rows (N, d) as (N, stride), with zeros; themselves where nothing is to be padded.

    An array that is as it should be is not copied, also one that is mapped from a file.
    """
    features = rows.shape[1]
    stride = stride_of(features, rows.dtype)
    if stride == features and rows.flags.c_contiguous:
        return rows
    wide = np.zeros((len(rows), stride), rows.dtype)
    wide[:, :features] = rows
    return wide


def noise_shape(outputs: int, stride: int) -> tuple[int, int, int]:
    """Shape of the uint32 words that seed the noise; none of a generator's may all be 0."""
    return outputs, -(-stride // CHUNK), LANE_WORDS


def nothing_seen() -> jax.Array:
    """What the kernels add their observations to; (8,) uint32."""
    return jnp.zeros(8, jnp.uint32).at[5].set(np.uint32(0xFFFFFFFF))


def seen(words: jax.Array) -> Seen:
    """The observations in `words`, (8,) uint32."""

    def long(low):
        return words[low].astype(jnp.float32) + words[low + 1].astype(jnp.float32) * 2.0**32

    return Seen(
        saturated=long(0) * COUNT_EVERY,
        clipped=long(2),
        peak=words[4].astype(jnp.float32),
        bad_step=jax.lax.bitcast_convert_type(words[5], jnp.int32),
        steepest=jax.lax.bitcast_convert_type(words[6], jnp.float32),
    )


class Places(NamedTuple):
    """Which kernels do it.

    Attributes:
      threads: that share the coordinates out, at least 1. Codes do not tell how many.
      instructions: "plain", "avx2", "avx512" or "auto", the widest that runs here.
    """

    threads: int = 1
    instructions: str = "auto"


class Steps(NamedTuple):
    """Which steps a call takes.

    Attributes:
      samples: (T,) int32 their numbers, of which the first `taken` count.
      taken: () int32.
      first: () int32, absolute number of the first step.
    """

    samples: jax.Array
    taken: jax.Array
    first: jax.Array


def halp_steps(
    codes: jax.Array,
    noise: jax.Array,
    watched: jax.Array,
    *,
    rows: jax.Array,
    h: jax.Array,
    steps: Steps,
    at_anchor: jax.Array,
    seed: jax.Array,
    scalars: jax.Array,
    shift: jax.Array,
    loss: str,
    places: Places = Places(),  # noqa: B008  (a tuple: nothing can change it)
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Steps of HALP in integers; the arithmetic is docs/NATIVE.md's.

    Args:
      codes: (K, stride) int8 or int16, the offset.
      noise: (K, chunks, 16) uint32, state of the generators, see `noise_shape`.
      watched: (8,) uint32, see `nothing_seen`.
      rows: (N, stride) of the codes' type, without its least value.
      h: (K, stride) int16: rate * full gradient, in steps of a code / 2^shift (int8) or
        / 2^(16 - shift) (int16).
      steps: which.
      at_anchor: (N, K) float32 predictions at the anchor; of any shape for squared error.
      seed: (2,) uint32 of the coefficients' rounding.
      scalars: (3,) float32: change of an output per unit of codes . row; steps of a code per
        unit of slope and row entry; share of the offset that the L2 term takes away a step.
      shift: () int32, 8 to 14 for int8, 0 to 14 for int16.
      loss: of LOSSES.
      places: which kernels.

    Returns:
      codes, noise, watched after the steps.
    """
    samples, taken, first = _whole(*steps)
    arguments = (
        *(codes, noise, watched, rows, h, samples, taken),
        *(at_anchor, seed, first, scalars, *_whole(shift)),
    )
    return _call("lpml_halp", arguments, (codes, noise, watched), (0, 1, 2), loss, places)


def float_steps(
    offset: jax.Array,
    watched: jax.Array,
    *,
    rows: jax.Array,
    h: jax.Array | None,
    steps: Steps,
    at_anchor: jax.Array,
    y: jax.Array,
    scalars: jax.Array,
    loss: str,
    places: Places = Places(),  # noqa: B008
) -> tuple[jax.Array, jax.Array]:
    """Steps of SVRG on the offset from the anchor; without `h`, of SGD on the weights.

    Args:
      offset: (K, stride) float32.
      watched: see `nothing_seen`.
      rows: (N, stride) float32.
      h: (K, stride) float32, rate * full gradient.
      steps: which.
      at_anchor: (N, K) float32 predictions at the anchor; of any shape for squared error.
      y: (N,) float32 targets or classes, for SGD.
      scalars: (2,) float32: the rate, and 1 - rate * l2.
      loss: of LOSSES.
      places: which kernels.

    Returns:
      offset, watched after the steps.
    """
    if h is None:
        h = jnp.zeros((0,), jnp.float32)
    samples, taken, first = _whole(*steps)
    arguments = (
        *(offset, watched, rows, h, samples, taken),
        *(at_anchor, y, first, scalars),
    )
    return _call("lpml_svrg", arguments, (offset, watched), (0, 1), loss, places)


class Pass(NamedTuple):
    """What a pass over the data gives.

    Attributes:
      outputs: (N, K) float64, moved to the new anchor; of codes alone.
      gradient: as the weights, float64: of the mean loss without L2 term.
      predictions: (N, K) float32.
      loss: () float64, the mean.
    """

    outputs: jax.Array
    gradient: jax.Array
    predictions: jax.Array
    loss: jax.Array


def full_pass(
    weights: jax.Array,
    *,
    rows: jax.Array,
    y: jax.Array,
    outputs: jax.Array | None = None,
    scalars: jax.Array | None = None,
    loss: str,
    places: Places = Places(),  # noqa: B008
) -> Pass:
    """The gradient of the mean loss; needs x64.

    Args:
      weights: (K, d) float64, all sums are then float64; or (K, stride) int8, codes of the
        move from the last anchor, with `outputs`.
      rows: (N, d) float64, float32 or int8; int8 with the codes.
      y: (N,) float64 targets or classes.
      outputs: (N, K) float64 at the last anchor, where codes are given.
      scalars: (2,) float64: change of an output per unit of codes . row, and what one in a
        row stands for; 1 by default.
      loss: of LOSSES.
      places: which kernels.

    Raises:
      ValueError: x64 is not enabled.
    """
    if jnp.result_type(float) != jnp.float64:
        raise ValueError("a pass over the data is made in float64: enable x64")
    if outputs is None:
        outputs = jnp.zeros((0, 0), jnp.float64)
    if scalars is None:
        scalars = jnp.ones(2, jnp.float64)
    predictions = jax.ShapeDtypeStruct((len(rows), len(weights)), jnp.float32)
    results = (
        outputs,
        jax.ShapeDtypeStruct(weights.shape, jnp.float64),
        predictions,
        jax.ShapeDtypeStruct((), jnp.float64),
    )
    arguments = (outputs, rows, weights, y, scalars)
    return Pass(*_call("lpml_pass", arguments, results, (0,), loss, places))


def _whole(*numbers):
    """Numbers as the kernels want them: int32, also where JAX makes 64 bits of Python's."""
    return [jnp.asarray(number, jnp.int32) for number in numbers]


def _call(name, arguments, results, in_place, loss, places):
    kernels()
    types = [jax.ShapeDtypeStruct(r.shape, r.dtype) for r in results]
    call = jax.ffi.ffi_call(
        name,
        types,
        input_output_aliases={i: i for i in in_place},
        vmap_method="sequential",
    )
    # the attributes' types are part of the interface: 64-bit integers
    return call(
        *arguments,
        loss=np.int64(LOSSES.index(loss)),
        threads=np.int64(places.threads),
        instructions=places.instructions,
    )
