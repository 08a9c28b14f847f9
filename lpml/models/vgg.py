"""VGG networks for small images."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from lpml import quant as quantised
from lpml.models.augment import augmentation
from lpml.models.losses import softmax_cross_entropy
from lpml.models.normalise import normalised
from lpml.models.supervised import Supervised

# channels of each convolution, in widths, and whether 2 x 2 pooling follows
VGG11 = (
    (1, True),
    (2, True),
    (4, False),
    (4, True),
    (8, False),
    (8, True),
    (8, False),
    (8, True),
)


class VGG(nn.Module):
    """3 x 3 convolutions, each normalised and activated, with pooling between; one dense layer.

    Layers are numbered in their order: Conv_0, Conv_1, ..., Dense_0.
    """

    outputs: int
    width: int = 64
    plan: tuple[tuple[int, bool], ...] = VGG11
    activation: quantised.Settings = ()
    dtype: str = "float32"
    roles: tuple[quantised.Roles, ...] = ()  # of every layer; empty: full precision

    @nn.compact
    def __call__(self, x, train=False):
        """Maps images (B, H, W, C) to (B, outputs)."""
        if x.ndim != 4:
            raise ValueError(f"VGG takes images (B, H, W, C), not {x.shape}")
        roles = self.roles or (quantised.FULL_PRECISION,) * (len(self.plan) + 1)
        for (channels, pooled), own in zip(self.plan, roles):
            x = quantised.Conv(
                channels * self.width,
                (3, 3),
                use_bias=False,
                param_dtype=self.dtype,
                kernel_init=nn.initializers.he_normal(),
                roles=own,
            )(x)
            x = normalised(x, train=train, dtype=self.dtype)
            x = quantised.relu(x, self.activation)
            if pooled:  # "SAME": an image of one pixel stays one
                x = nn.max_pool(x, (2, 2), strides=(2, 2), padding="SAME")
        x = x.reshape(len(x), -1)
        return quantised.Dense(self.outputs, param_dtype=self.dtype, roles=roles[-1])(x)


def vgg11(
    *,
    classes: int,
    width: int = 64,
    l2: float = 0.0,
    dtype: str = "float32",
    activation: Mapping[str, Any] | None = None,
    quant: Mapping[str, Any] | None = None,
    augment: str | None = None,
) -> Supervised:
    """VGG-11 with one dense layer, as is usual for images of 32 x 32.

    Normalisation without scale and shift is in front of every activation, in the float
    network too, so that either network starts from the other.

    Args:
      classes: number of outputs, >= 2.
      width: channels of the first convolution, >= 1; the last has 8 times as many.
      l2: factor of the L2 term over all parameters.
      dtype: of the parameters.
      activation: the staircase in place of ReLU, see `lpml.quant.activation`; None: ReLU.
      quant: which formats the layers Conv_0 to Conv_7 and Dense_0 round to, see
        `lpml.quant.policy`; None: full precision. Unsigned formats of activations act from
        Conv_1 on.
      augment: `"crop_flip"`, or None: the images as they are.

    References:
      Simonyan and Zisserman, Very deep convolutional networks for large-scale image
      recognition, ICLR 2015, configuration A.
    """
    if width < 1:
        raise ValueError(f"width = {width} must be at least 1")
    inputs: dict[str, bool | None] = {f"Conv_{i}": False for i in range(len(VGG11))}
    inputs |= {"Dense_0": False, "Conv_0": None}
    module = VGG(
        classes,
        width,
        VGG11,
        quantised.activation(activation),
        dtype,
        quantised.policy(quant).assign(inputs),
    )
    return Supervised(
        module, softmax_cross_entropy, l2=l2, heavy=True, augment=augmentation(augment)
    )
