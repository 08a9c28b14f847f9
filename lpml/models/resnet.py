"""Residual networks for small images."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from lpml import quant as quantised
from lpml.models.augment import augmentation
from lpml.models.losses import softmax_cross_entropy
from lpml.models.normalise import check_norm, normalised
from lpml.models.supervised import Supervised

STAGES = 3
SAME = ((1, 1), (1, 1))  # "SAME" would pad strided windows at the far side alone


class ResNet(nn.Module):
    """A convolution, three stages of two-layer blocks, each half the size and twice as wide.

    Layers are numbered in their order: Conv_0 to Conv_(depth - 2), Dense_0.
    """

    outputs: int
    width: int = 16
    depth: int = 20
    activation: quantised.Settings = ()
    dtype: str = "float32"
    roles: tuple[quantised.Roles, ...] = ()  # of every layer; empty: full precision
    norm: str = "batch"

    @nn.compact
    def __call__(self, x, train=False):
        """Maps images (B, H, W, C) to (B, outputs)."""
        if x.ndim != 4:
            raise ValueError(f"a residual network takes images (B, H, W, C), not {x.shape}")
        roles = iter(self.roles or (quantised.FULL_PRECISION,) * self.depth)

        def conv(x, channels, strides=1):
            x = quantised.Conv(
                channels,
                (3, 3),
                strides,
                SAME,
                use_bias=False,
                param_dtype=self.dtype,
                kernel_init=nn.initializers.he_normal(),
                roles=next(roles),
            )(x)
            return normalised(x, train=train, dtype=self.dtype, norm=self.norm)

        x = quantised.relu(conv(x, self.width), self.activation)
        for stage in range(STAGES):
            channels = self.width * 2**stage
            for block in range((self.depth - 2) // (2 * STAGES)):
                strides = 2 if stage and not block else 1
                inside = quantised.relu(conv(x, channels, strides), self.activation)
                joined = conv(inside, channels) + _shortcut(x, channels, strides)
                x = quantised.relu(joined, self.activation)
        x = jnp.mean(x, (1, 2))
        return quantised.Dense(self.outputs, param_dtype=self.dtype, roles=next(roles))(x)


def _shortcut(x, channels, strides):
    """Every other pixel, and channels of zeros: no parameters (option A of the paper)."""
    x = x[:, ::strides, ::strides]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, channels - x.shape[-1])))


def resnet20(
    *,
    classes: int,
    width: int = 16,
    depth: int = 20,
    l2: float = 0.0,
    dtype: str = "float32",
    activation: Mapping[str, Any] | None = None,
    quant: Mapping[str, Any] | None = None,
    augment: str | None = None,
    norm: str = "batch",
) -> Supervised:
    """ResNet-20 for images of 32 x 32, and its narrower, shallower or deeper kin.

    The block is the first paper's: activation after the addition, shortcuts without
    parameters. Normalisation has no scale and shift, in the float network too, so that either
    network starts from the other. What is normalised goes into the activation as it is,
    except at the end of a block, where the shortcut is added to it first.

    Args:
      classes: number of outputs, >= 2.
      width: channels of the first stage, >= 1.
      depth: 6 n + 2 layers, n >= 1 blocks a stage.
      l2: factor of the L2 term over all parameters.
      dtype: of the parameters.
      activation: the staircase in place of ReLU, see `lpml.quant.activation`; None: ReLU.
      quant: which formats the layers Conv_0 to Conv_18 and Dense_0 round to, see
        `lpml.quant.policy`; None: full precision. Unsigned formats of activations act from
        Conv_1 on.
      augment: `"crop_flip"`, or None: the images as they are.
      norm: `"batch"`, or `"group"`: over four channels of a sample (`width` is then a multiple
        of 4), for methods whose full gradient must be the mean of the samples' gradients.

    References:
      He et al., Deep residual learning for image recognition, CVPR 2016, section 4.2.
    """
    check_norm(norm)
    if width < 1:
        raise ValueError(f"width = {width} must be at least 1")
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"depth = {depth} must be 6 n + 2 with n >= 1: 8, 14, 20, ...")
    inputs: dict[str, bool | None] = {f"Conv_{i}": False for i in range(depth - 1)}
    inputs |= {"Dense_0": False, "Conv_0": None}
    module = ResNet(
        classes,
        width,
        depth,
        quantised.activation(activation),
        dtype,
        quantised.policy(quant).assign(inputs),
        norm,
    )
    return Supervised(
        module, softmax_cross_entropy, l2=l2, heavy=True, augment=augmentation(augment)
    )
