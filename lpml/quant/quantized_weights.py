"""Weights in few bits: small integers, the scales that they share, and both without gaps."""

import math

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int8, UInt8

from lpml.formats.packing import pack_codes, packed_size, unpack_codes
from lpml.quant.loss_aware_levels import LevelSet


class PackedWeights(struct.PyTreeNode):
    """What `pack()` of quantised weights makes: codes as a stream of bits.

    Attributes:
      words: (size,) uint8; fields of `bits` bits hold code + K, and (code + 1) / 2 with 1 bit.
      scales: the quantised weights, without their codes.
      shape: of the weights; static.
    """

    words: UInt8[Array, " size"]
    scales: "QuantizedWeights | TwoScaleWeights"
    shape: tuple[int, ...] = struct.field(pytree_node=False)

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return self.words.nbytes + _bytes_of_scales(self.scales)

    def unpack(self) -> "QuantizedWeights | TwoScaleWeights":
        """The weights as before `pack()`."""
        bits = self.scales.bits
        fields = unpack_codes(self.words, bits, math.prod(self.shape))
        largest = LevelSet(bits).count
        codes = 2 * fields - 1 if bits == 1 else fields - largest
        return self.scales.replace(codes=codes.astype(jnp.int8).reshape(self.shape))


class QuantizedWeights(struct.PyTreeNode):
    """scale * level(code), by `laq`.

    Attributes:
      codes: int8, of the weights' shape: +-1 with 1 bit; -K..K, K = 2^(bits-1) - 1, of linear
        levels (value code / K * scale); of logarithmic ones 0 for zero and else sign *
        (1 + j) for 2^-j * scale.
      scale: the largest level (the papers' alpha), >= 0; of shape () per tensor, 1 along the
        axes that share a scale, or (..., n / group) per group.
      bits: 1 to 8; static.
      levels: "linear" or "log"; static.
    """

    codes: Int8[Array, "*shape"]
    scale: Float[Array, "*scales"]
    bits: int = struct.field(pytree_node=False)
    levels: str = struct.field(pytree_node=False, default="linear")

    def dequantize(self) -> Float[Array, "*shape"]:
        """The weights as floats of the scale's dtype."""
        levels = LevelSet(self.bits, self.levels)
        # a product, because a compiler may make one of a division, and rounds otherwise
        unit = _spread(self.scale * (1 / levels.top), self.codes.shape)
        return levels.decode(self.codes, self.scale.dtype) * unit

    def pack(self) -> PackedWeights:
        """The same at its true size, with codes of exactly `bits` bits."""
        return _packed(self)

    @property
    def nbytes(self) -> int:
        """Bytes that `pack()` takes: `bits` per weight, and the scales."""
        return packed_size(self.codes.size, self.bits) + _bytes_of_scales(self)


class TwoScaleWeights(struct.PyTreeNode):
    """Ternary weights with a scale per sign, by `lat2`: positive, 0 or -negative.

    Attributes:
      codes: int8 of the weights' shape, -1, 0 or 1.
      positive: what code 1 stands for, >= 0; shapes as of `QuantizedWeights.scale`.
      negative: minus what code -1 stands for, >= 0.
    """

    codes: Int8[Array, "*shape"]
    positive: Float[Array, "*scales"]
    negative: Float[Array, "*scales"]

    @property
    def bits(self) -> int:
        """Of a code: 2."""
        return 2

    def dequantize(self) -> Float[Array, "*shape"]:
        """The weights as floats of the scales' dtype."""
        up, down = (_spread(s, self.codes.shape) for s in (self.positive, self.negative))
        return jnp.where(self.codes > 0, up, jnp.where(self.codes < 0, -down, 0))

    def pack(self) -> PackedWeights:
        """The same at its true size, with codes of exactly `bits` bits."""
        return _packed(self)

    @property
    def nbytes(self) -> int:
        """Bytes that `pack()` takes: `bits` per weight, and the scales."""
        return packed_size(self.codes.size, self.bits) + _bytes_of_scales(self)


def _spread(scale, shape):
    """`scale`, such that it broadcasts to `shape`: a scale per group is repeated."""
    if scale.ndim == 0 or scale.shape[-1] in (1, shape[-1]):
        return scale
    return jnp.repeat(scale, shape[-1] // scale.shape[-1], axis=-1)


def _bytes_of_scales(weights):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(weights.replace(codes=None)))


def _packed(weights):
    wide = weights.codes.ravel().astype(jnp.int32)
    bits = weights.bits
    fields = (wide + 1) // 2 if bits == 1 else wide + LevelSet(bits).count
    return PackedWeights(
        pack_codes(fields, bits), weights.replace(codes=None), weights.codes.shape
    )
