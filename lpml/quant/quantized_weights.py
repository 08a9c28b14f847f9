"""Weights in few bits: small integers and the scales that they share."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int8

from lpml.quant.loss_aware_levels import LevelSet


def spread(scale: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`scale`, such that it broadcasts to `shape`: a scale per group is repeated."""
    if scale.ndim == 0 or scale.shape[-1] in (1, shape[-1]):
        return scale
    return jnp.repeat(scale, shape[-1] // scale.shape[-1], axis=-1)


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
        unit = spread(self.scale / levels.top, self.codes.shape)
        return levels.decode(self.codes, self.scale.dtype) * unit
