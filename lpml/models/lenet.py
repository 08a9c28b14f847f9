"""LeNet-5, in the form common since Caffe: ReLU and max pooling."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from lpml import quant as quantised
from lpml.models.losses import softmax_cross_entropy
from lpml.models.normalise import normalised
from lpml.models.supervised import Supervised

LAYERS = ("Conv_0", "Conv_1", "Dense_0", "Dense_1", "Dense_2")


class LeNet5(nn.Module):
    """Two 5x5 convolutions with 2x2 pooling, then three dense layers."""

    outputs: int
    widths: tuple[int, ...] = (6, 16, 120, 84)
    dtype: str = "float32"
    roles: tuple[quantised.Roles, ...] = (quantised.FULL_PRECISION,) * len(LAYERS)
    activation: quantised.Settings = ()
    normalise: bool = False

    @nn.compact
    def __call__(self, x, train=False):
        """Maps images (B, H, W, C) to (B, outputs)."""
        if x.ndim != 4 or min(x.shape[1:3]) < 4:
            raise ValueError(
                f"LeNet-5 takes images (B, H, W, C) of 4 x 4 or more, not {x.shape}"
            )

        def activated(x):
            if self.normalise:
                x = normalised(x, train=train, dtype=self.dtype)
            return quantised.relu(x, self.activation)

        for channels, roles in zip(self.widths[:2], self.roles[:2]):
            x = quantised.Conv(channels, (5, 5), param_dtype=self.dtype, roles=roles)(x)
            x = nn.max_pool(activated(x), (2, 2), strides=(2, 2))
        x = x.reshape(len(x), -1)
        for width, roles in zip(self.widths[2:], self.roles[2:-1]):
            x = activated(quantised.Dense(width, param_dtype=self.dtype, roles=roles)(x))
        return quantised.Dense(self.outputs, param_dtype=self.dtype, roles=self.roles[-1])(x)


def lenet5(
    *,
    classes: int,
    widths: tuple[int, ...] = (6, 16, 120, 84),
    l2: float = 0.0,
    dtype: str = "float32",
    quant: Mapping[str, Any] | None = None,
    activation: Mapping[str, Any] | None = None,
    normalise: bool | None = None,
) -> Supervised:
    """LeNet-5 on images of any size of at least 4 x 4.

    Args:
      classes: number of outputs, >= 2.
      widths: channels of the two convolutions, then units of the two hidden dense layers.
      l2: factor of the L2 term over all parameters.
      dtype: of the parameters.
      quant: which formats the layers Conv_0, Conv_1, Dense_0, Dense_1, Dense_2 round to, see
        `lpml.quant.policy`; None: full precision. Unsigned formats of activations act from
        Conv_1 on; the images enter Conv_0 with a sign, unless `layers` says otherwise.
      activation: the staircase in place of ReLU, see `lpml.quant.activation`; None: ReLU.
      normalise: whether batch normalisation without scale and shift is in front of every
        activation; None: with a staircase, whose step is made for it. A float network that a
        quantised one shall start from needs it too.

    References:
      LeCun et al., Gradient-based learning applied to document recognition, 1998.
    """
    # what comes out of a ReLU, pooled or not, has no sign
    inputs = {name: None if name == LAYERS[0] else False for name in LAYERS}
    roles = quantised.policy(quant).assign(inputs)
    settings = quantised.activation(activation)
    normalise = bool(settings) if normalise is None else normalise
    module = LeNet5(classes, tuple(widths), dtype, roles, settings, normalise)
    return Supervised(module, softmax_cross_entropy, l2=l2, heavy=True)
