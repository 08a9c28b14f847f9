"""Residual networks of bottleneck blocks, for large images and for small ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from lpml import quant as quantised
from lpml.models.augment import augmentation
from lpml.models.losses import softmax_cross_entropy
from lpml.models.normalise import normalised
from lpml.models.supervised import Supervised

EXPANSION = 4  # channels behind a block over those inside of it


class BottleneckResNet(nn.Module):
    """A stem, and stages of blocks 1x1, 3x3, 1x1, each stage half the size and twice as wide.

    Layers are numbered in their order, the first block's shortcut of a stage behind its three:
    Conv_0 to Conv_(n - 1), Dense_0.
    """

    outputs: int
    width: int = 64
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    large_images: bool = False
    activation: quantised.Settings = ()
    dtype: str = "float32"
    roles: tuple[quantised.Roles, ...] = ()  # of every layer; empty: full precision

    @nn.compact
    def __call__(self, x, train=False):
        """Maps images (B, H, W, C) to (B, outputs)."""
        if x.ndim != 4:
            raise ValueError(f"a residual network takes images (B, H, W, C), not {x.shape}")
        layers = convolutions(self.blocks) + 1
        roles = iter(self.roles or (quantised.FULL_PRECISION,) * layers)

        def conv(x, channels, side, strides=1):
            # "SAME" would pad strided windows at the far side alone
            x = quantised.Conv(
                channels,
                (side, side),
                strides,
                ((side // 2, side // 2),) * 2,
                use_bias=False,
                param_dtype=self.dtype,
                kernel_init=nn.initializers.he_normal(),
                roles=next(roles),
            )(x)
            return normalised(x, train=train, dtype=self.dtype)

        def act(x):
            return quantised.relu(x, self.activation)

        x = act(conv(x, self.width, 7, 2) if self.large_images else conv(x, self.width, 3))
        if self.large_images:
            x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, blocks in enumerate(self.blocks):
            channels = self.width * 2**stage
            for block in range(blocks):
                strides = 2 if stage and not block else 1
                inside = act(conv(x, channels, 1))
                inside = act(conv(inside, channels, 3, strides))
                y = conv(inside, EXPANSION * channels, 1)
                x = act(y + (x if block else conv(x, EXPANSION * channels, 1, strides)))
        x = jnp.mean(x, (1, 2))
        return quantised.Dense(self.outputs, param_dtype=self.dtype, roles=next(roles))(x)


def convolutions(blocks: Sequence[int]) -> int:
    """Convolutions of a network with so many blocks in each stage, stem and shortcuts too."""
    return 1 + 3 * sum(blocks) + len(blocks)


def resnet50(
    *,
    classes: int,
    width: int = 64,
    blocks: Sequence[int] = (3, 4, 6, 3),
    large_images: bool = False,
    l2: float = 0.0,
    dtype: str = "float32",
    activation: Mapping[str, Any] | None = None,
    quant: Mapping[str, Any] | None = None,
    augment: str | None = None,
) -> Supervised:
    """ResNet-50, and its narrower, shallower or deeper kin (3, 4, 23, 3 is ResNet-101).

    Activation after the addition, shortcuts by a 1 x 1 convolution where the shape changes, the
    stride in the 3 x 3 convolution (where the first paper has it in the 1 x 1 before: as many
    parameters, less lost). Normalisation has no scale and shift, as in `resnet20`, so for 1000
    classes of large images there are 25 503 912 parameters; with them there are 25 557 032.

    Args:
      classes: number of outputs, >= 2.
      width: channels inside of the first stage's blocks, >= 1; four times as many behind them.
      blocks: of each stage, at least 1 each.
      large_images: the stem is a 7 x 7 convolution of stride 2 and a 3 x 3 maximum of stride 2,
        for images of 224 x 224; False: a 3 x 3 convolution, for 32 x 32.
      l2: factor of the L2 term over all parameters.
      dtype: of the parameters.
      activation: the staircase in place of ReLU, see `lpml.quant.activation`; None: ReLU.
      quant: which formats the layers Conv_0 to Conv_52 and Dense_0 round to, see
        `lpml.quant.policy`; None: full precision. Unsigned formats of activations act from
        Conv_1 on.
      augment: `"crop_flip"`, or None: the images as they are.

    References:
      He et al., Deep residual learning for image recognition, CVPR 2016, table 1; Goyal et al.,
      Accurate, large minibatch SGD, arXiv 1706.02677, for the place of the stride.
    """
    if width < 1:
        raise ValueError(f"width = {width} must be at least 1")
    if not blocks or any(count < 1 for count in blocks):
        raise ValueError(f"blocks = {tuple(blocks)} must hold at least 1 for every stage")
    inputs: dict[str, bool | None] = dict.fromkeys(
        (f"Conv_{i}" for i in range(convolutions(blocks))), False
    )
    inputs |= {"Dense_0": False, "Conv_0": None}
    module = BottleneckResNet(
        classes,
        width,
        tuple(blocks),
        large_images,
        quantised.activation(activation),
        dtype,
        quantised.policy(quant).assign(inputs),
    )
    return Supervised(
        module, softmax_cross_entropy, l2=l2, heavy=True, augment=augmentation(augment)
    )
