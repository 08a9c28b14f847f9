"""A tensor as bytes and back: what one worker sends of one tensor."""

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from lpml.formats import Format, Scaled, pack_codes, packed_size, unpack_codes
from lpml.quant.gradients import codes_on, dequantized, largest_code, largest_magnitude, spacing


class Message(NamedTuple):
    """One tensor on the wire."""

    words: jax.Array  # uint8 (bytes,)
    floats: jax.Array  # float32 (numbers,); the first is NaN if an entry was not finite


class Codec(Protocol):
    """How numbers become messages. Frozen; sizes follow from the number of entries alone."""

    def encode(self, x: jax.Array, noise: jax.Array) -> Message:
        """The message of (n,) float32, rounded by (n,) random uint32 words."""
        ...

    def decode(self, message: Message, count: int) -> jax.Array:
        """The (count,) float32 of a message; all NaN if an entry was not finite."""
        ...

    def sizes(self, count: int) -> tuple[int, int]:
        """How many words and floats a message of `count` entries has."""
        ...


@dataclasses.dataclass(frozen=True)
class StochasticCodec:
    """SQ_m: codes -K..K with K added, packed, and the scale.

    Args:
      bits: 2 to 8.
    """

    bits: int

    def encode(self, x: jax.Array, noise: jax.Array) -> Message:
        """See `Codec`."""
        scale = spacing(largest_magnitude(x, (0,)), self.bits)
        codes = codes_on(x, scale, self.bits, noise) + jnp.int8(largest_code(self.bits))
        return Message(pack_codes(codes, self.bits), scale)

    def decode(self, message: Message, count: int) -> jax.Array:
        """See `Codec`."""
        fields = unpack_codes(message.words, self.bits, count)
        return dequantized(fields - largest_code(self.bits), message.floats)

    def sizes(self, count: int) -> tuple[int, int]:
        """See `Codec`."""
        return packed_size(count, self.bits), 1


@dataclasses.dataclass(frozen=True)
class FormatCodec:
    """Codes of a number format, rounded stochastically, and whether all entries were finite.

    The format has no scale of the tensor's but its own, if it is a scaled one: those lie
    along the flattened tensor, and the codes of a scale are packed as well.

    Args:
      format: of a known width.
    """

    format: Format | Scaled

    def encode(self, x: jax.Array, noise: jax.Array) -> Message:
        """See `Codec`."""
        finite = jnp.all(jnp.isfinite(x))
        # where the flag says that it is lost, the rest only has to be harmless
        parts = jax.tree.leaves(self._encoded(jnp.where(finite, x, 0), noise))
        words = [_packed(parts[i].reshape(-1), b) for i, b in self._widths(parts).items()]
        floats = [p.reshape(-1).astype(jnp.float32) for p in _floating(parts)]
        flag = jnp.where(finite, 1.0, jnp.nan).astype(jnp.float32)
        return Message(jnp.concatenate(words), jnp.concatenate([flag[None], *floats]))

    def decode(self, message: Message, count: int) -> jax.Array:
        """See `Codec`."""
        like, structure = self._parts_like(count)
        widths = self._widths(like)
        words, floats, parts = message.words, message.floats[1:], []
        for i, part in enumerate(like):
            if i in widths:
                size = _packed_bytes(part.size, widths[i])
                fields, words = words[:size], words[size:]
                numbers = _unpacked(fields, widths[i], part.size)
                if jnp.iinfo(part.dtype).min < 0:
                    numbers = _signed(numbers, widths[i])
            else:
                numbers, floats = floats[: part.size], floats[part.size :]
            parts.append(numbers.astype(part.dtype).reshape(part.shape))
        values = self.format.decode(jax.tree.unflatten(structure, parts), jnp.float32)
        return jnp.where(jnp.isnan(message.floats[0]), jnp.nan, values[:count])

    def sizes(self, count: int) -> tuple[int, int]:
        """See `Codec`."""
        like, _ = self._parts_like(count)
        widths = self._widths(like)
        words = sum(_packed_bytes(like[i].size, bits) for i, bits in widths.items())
        return words, 1 + sum(part.size for part in _floating(like))

    def _encoded(self, x, noise):
        # blocks that are not full are filled with zeros
        block = getattr(self.format, "block", 1)
        missing = -x.shape[0] % block if isinstance(block, int) else 0
        x, noise = (jnp.pad(part, (0, missing)) for part in (x, noise))
        return self.format.encode(x, "stochastic", bits=noise)

    def _parts_like(self, count):
        """Shapes and types of what the format makes of `count` numbers, and its structure."""
        structures = []

        def leaves(x, noise):
            found, structure = jax.tree.flatten(self._encoded(x, noise))
            structures.append(structure)
            return found

        kinds = (jnp.float32, jnp.uint32)
        like = jax.eval_shape(leaves, *(jax.ShapeDtypeStruct((count,), kind) for kind in kinds))
        return like, structures[0]

    def _widths(self, parts):
        """Bits per code of the parts that are codes: first the elements', then the scales'."""
        of_scales = getattr(getattr(self.format, "scale_format", None), "static_bits", 8)
        return {
            i: of_scales if i else self.format.static_bits
            for i, part in enumerate(parts)
            if jnp.issubdtype(part.dtype, jnp.integer)
        }


def _floating(parts: list[Any]) -> list[Any]:
    return [part for part in parts if jnp.issubdtype(part.dtype, jnp.floating)]


def _packed(codes, bits):
    """Codes of any width: the lowest 8 bits of all, then what is above them."""
    if bits <= 8:
        return pack_codes(codes, bits)
    low, high = codes & codes.dtype.type(255), codes >> 8
    return jnp.concatenate([pack_codes(low, 8), _packed(high, bits - 8)])


def _packed_bytes(count, bits):
    planes = [min(8, bits - done) for done in range(0, bits, 8)]
    return sum(packed_size(count, plane) for plane in planes)


def _unpacked(words, bits, count):
    """The unsigned fields of `_packed`, int32 (of which all bits count)."""
    if bits <= 8:
        return unpack_codes(words, bits, count)
    low = unpack_codes(words[:count], 8, count)
    return low | (_unpacked(words[count:], bits - 8, count) << 8)


def _signed(fields, bits):
    """Two's complement of `bits` bits."""
    if bits == 32:
        return fields
    half = 1 << (bits - 1)
    return (fields ^ half) - half


def bytes_of(sizes: tuple[int, int]) -> int:
    """Bytes of a message of so many words and floats."""
    return sizes[0] + 4 * sizes[1]
