"""The mean of the workers' gradients, of which few bits cross the wire."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lpml.formats import Format, Scaled, by_name, random_bits
from lpml.parallel.codecs import Codec, FormatCodec, Message, StochasticCodec
from lpml.quant.gradients import (
    check_bits,
    clip_to_deviations,
    codes_on,
    dequantized,
    largest_code,
    largest_magnitude,
    spacing,
)

SCHEMES = ("one_shot", "two_shot", "shared_scale")
# Behind the keys of the workers, which are fold_in(key, worker).
_OWNERS = 2**31


@dataclasses.dataclass(frozen=True)
class Exchange:
    """How gradients are sent.

    Args:
      bits: 2 to 8, of SQ_m (`lpml.quant.stochastic_quantize`).
      clip: gradients are clipped at so many standard deviations first, tensor by tensor;
        None: they are not. Unbiased without, see `lpml.quant.clip_bias`.
      scheme: `"one_shot"`: every worker gets all others' codes, (workers - 1) bits / 8 bytes
        per entry, the least noise. `"two_shot"`: every worker averages a part of the entries
        and sends the mean in codes again, 2 (workers - 1) / workers bits / 8 bytes, with
        noise twice. `"shared_scale"`: codes in units of the largest scale are summed as
        integers, of 8 bits where the sum fits.
      format: a number format in place of SQ_m, or its name; its width counts in place of
        `bits`. Rounded stochastically, which is unbiased within the format's own range; what
        is beyond saturates. A scaled format brings its scales with it (those of the MX
        formats' own rule, "floor", let the largest entries saturate). Not for
        `"shared_scale"`.
      exempt_below: tensors of fewer entries go together in one float32 mean.

    Raises:
      ValueError: a setting that does not exist or does not go with another.
    """

    bits: int = 4
    clip: float | None = None
    scheme: str = "one_shot"
    format: Format | Scaled | str | None = None
    exempt_below: int = 1024

    def __post_init__(self):
        check_bits(self.bits)
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip = {self.clip} must be positive, or None for no clipping")
        if self.scheme not in SCHEMES:
            known = ", ".join(SCHEMES)
            raise ValueError(f"scheme {self.scheme!r} does not exist; choose from {known}")
        if isinstance(self.exempt_below, bool) or not isinstance(self.exempt_below, int):
            raise ValueError(f"exempt_below = {self.exempt_below!r} must be a whole number")
        if self.exempt_below < 0:
            raise ValueError(f"exempt_below = {self.exempt_below} must not be negative")
        if self.format is None:
            return
        if self.scheme == "shared_scale":
            raise ValueError(
                'scheme "shared_scale" sums codes of SQ_m; leave format away, or choose '
                '"one_shot" or "two_shot"'
            )
        found = self.codec.format
        if not getattr(getattr(found, "element", found), "signed", True):
            raise ValueError(f"gradients have signs, and format = {self.format} has none")
        if found.static_bits is None:
            raise ValueError("a format whose width is traced cannot be sent; give a number")

    @property
    def codec(self) -> Any:
        """What makes messages of tensors."""
        if self.format is None:
            return StochasticCodec(self.bits)
        return FormatCodec(
            by_name(self.format) if isinstance(self.format, str) else self.format
        )


def quantized_mean(grads: Any, key: jax.Array, *, axis_name: str, exchange: Exchange) -> Any:
    """The mean over the workers of an axis, the same bits on every one of them.

    Inside of `jax.shard_map` over that axis (with `check_vma=False`, as it cannot see that
    the result is the same everywhere), or of `jax.vmap(axis_name=...)`, which simulates the
    workers on one device and gives the same up to the rounding of float32: a backend may sum
    the workers' values in another order, or contract a product and a sum.

    An entry that is not finite makes its tensor NaN on every worker (under `"two_shot"` the
    part of the tensor that has one owner), so that a check of the update or of the next loss
    sees it. A tensor of zeros stays one.

    Args:
      grads: pytree of floats, this worker's; computed in float32.
      key: PRNG key, the same on all workers; each folds its index into it, so that their
        noise is independent. A new one for each step.
      axis_name: of the workers.
      exchange: how to send.

    Raises:
      ValueError: no such axis here, or leaves that are no floats.
    """
    workers, worker = _place(axis_name)
    leaves, structure = jax.tree.flatten(grads)
    for leaf in leaves:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(f"gradients are floats, and one is of {leaf.dtype}; leave it away")
    large = [i for i, leaf in enumerate(leaves) if leaf.size >= exchange.exempt_below]
    small = [i for i in range(len(leaves)) if i not in large]
    flat = [leaf.astype(jnp.float32).ravel() for leaf in leaves]
    means: dict[int, jax.Array] = {}
    if small:
        means |= zip(small, _exact([flat[i] for i in small], axis_name), strict=True)
    if large:
        tensors = [flat[i] for i in large]
        if exchange.clip is not None:
            tensors = [clip_to_deviations(x, exchange.clip) for x in tensors]
        group = _Group(axis_name, workers, key, jax.random.fold_in(key, worker), worker)
        sent = _SENDING[exchange.scheme](tensors, group, exchange)
        means |= zip(large, sent, strict=True)
    shaped = [means[i].reshape(x.shape).astype(x.dtype) for i, x in enumerate(leaves)]
    return jax.tree.unflatten(structure, shaped)


@dataclasses.dataclass(frozen=True)
class _Group:
    """The workers, seen by one of them."""

    axis: str
    workers: int
    key: jax.Array  # of all
    own: jax.Array  # of this one
    worker: jax.Array

    def noise(self, tensor: int, shape: tuple[int, ...]) -> jax.Array:
        """This worker's random words for a tensor."""
        return random_bits(jax.random.fold_in(self.own, tensor), shape, "hash")

    def owner_noise(self, tensor: int, shape: tuple[int, ...]) -> jax.Array:
        """The words with which this worker rounds the means of the part that it owns."""
        own = jax.random.fold_in(jax.random.fold_in(self.key, _OWNERS), self.worker)
        return random_bits(jax.random.fold_in(own, tensor), shape, "hash")


def _place(axis_name):
    try:
        return jax.lax.axis_size(axis_name), jax.lax.axis_index(axis_name)
    except NameError as error:
        raise ValueError(
            f"there is no axis {axis_name!r} here; call this inside of jax.shard_map over it, "
            "or of jax.vmap with that axis_name"
        ) from error


def _exact(tensors, axis):
    """Float32 means, by one collective."""
    mean = jax.lax.pmean(jnp.concatenate(tensors), axis)
    return _cut(mean, [x.size for x in tensors])


def _one_shot(tensors, group, exchange):
    codec = exchange.codec
    gather = functools.partial(jax.lax.all_gather, axis_name=group.axis)
    messages = [codec.encode(x, group.noise(i, x.shape)) for i, x in enumerate(tensors)]
    gathered = _each(gather, messages)
    return [_mean(codec, m, x.size) for m, x in zip(gathered, tensors, strict=True)]


def _two_shot(tensors, group, exchange):
    codec = exchange.codec
    there = functools.partial(
        jax.lax.all_to_all, axis_name=group.axis, split_axis=0, concat_axis=0, tiled=True
    )
    back = functools.partial(jax.lax.all_gather, axis_name=group.axis)
    rows = [_rows(x, group.workers) for x in tensors]
    noise = [group.noise(i, x.shape) for i, x in enumerate(rows)]
    parts = _each(there, [jax.vmap(codec.encode)(x, z) for x, z in zip(rows, noise)])
    owned = [_mean(codec, m, x.shape[1]) for m, x in zip(parts, rows, strict=True)]
    words = [group.owner_noise(i, x.shape) for i, x in enumerate(owned)]
    means = _each(back, [codec.encode(x, z) for x, z in zip(owned, words, strict=True)])
    decoded = [_decoded(codec, m, x.size) for m, x in zip(means, owned, strict=True)]
    return [d.ravel()[: x.size] for d, x in zip(decoded, tensors, strict=True)]


def _shared_scale(tensors, group, exchange):
    bits, axis = exchange.bits, group.axis
    sizes = jnp.concatenate([largest_magnitude(x, (0,)) for x in tensors])
    # an infinity survives every maximum, a NaN not every one
    sizes = jax.lax.pmax(jnp.where(jnp.isfinite(sizes), sizes, jnp.inf), axis)
    scales = spacing(sizes, bits)
    codes = [
        codes_on(x, scales[i], bits, group.noise(i, x.shape)) for i, x in enumerate(tensors)
    ]
    whole = jnp.concatenate(codes).astype(sum_dtype(bits, group.workers))
    sums = _cut(jax.lax.psum(whole, axis), [x.size for x in tensors])
    return [dequantized(total, scales[i]) / group.workers for i, total in enumerate(sums)]


_SENDING = {"one_shot": _one_shot, "two_shot": _two_shot, "shared_scale": _shared_scale}


def sum_dtype(bits: int, workers: int) -> jnp.dtype:
    """The narrowest integer type in which a sum of the workers' codes cannot overflow."""
    most = largest_code(bits) * workers
    for dtype in (jnp.int8, jnp.int16):
        if most <= jnp.iinfo(dtype).max:
            return jnp.dtype(dtype)
    return jnp.dtype(jnp.int32)


def row_length(count: int, workers: int) -> int:
    """Entries of a tensor that one worker owns under `"two_shot"`."""
    return -(-count // workers)


def _rows(x, workers):
    """(n,) as one row per owner, zeros behind the last."""
    length = row_length(x.size, workers)
    return jnp.pad(x, (0, length * workers - x.size)).reshape(workers, length)


def _each(collective: Callable[..., Any], messages: list[Message]) -> list[Message]:
    """The messages after one collective of all their bytes and one of their few floats."""
    parts = []
    for field in zip(*messages, strict=True):
        # Simulated, a collective is nothing, and a compiler that fuses what is behind it with
        # what is before rounds every code anew for every field of every byte it shares.
        whole = jax.lax.optimization_barrier(collective(jnp.concatenate(field, axis=-1)))
        parts.append(_cut(whole, [part.shape[-1] for part in field]))
    return [Message(*pair) for pair in zip(*parts, strict=True)]


def _mean(codec: Codec, message: Message, count: int) -> jax.Array:
    """The mean of the workers' messages, (workers, ...): summed in their order everywhere."""
    numbers = _decoded(codec, message, count)
    total = numbers[0]
    for worker in range(1, len(numbers)):
        total = total + numbers[worker]
    return total / len(numbers)


def _decoded(codec, message, count):
    return jax.vmap(lambda words, floats: codec.decode(Message(words, floats), count))(*message)


def _cut(whole, sizes):
    """Consecutive parts of the last axis."""
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [whole[..., end - size : end] for end, size in zip(ends, sizes, strict=True)]
