"""LeNet-5, in the form common since Caffe: ReLU and max pooling."""

import flax.linen as nn

from lpml.models.losses import softmax_cross_entropy
from lpml.models.supervised import Supervised


class LeNet5(nn.Module):
    """Two 5x5 convolutions with 2x2 pooling, then three dense layers."""

    outputs: int
    widths: tuple[int, ...] = (6, 16, 120, 84)
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        """Maps images (B, H, W, C) to (B, outputs)."""
        if x.ndim != 4 or min(x.shape[1:3]) < 4:
            raise ValueError(
                f"LeNet-5 takes images (B, H, W, C) of 4 x 4 or more, not {x.shape}"
            )
        for channels in self.widths[:2]:
            x = nn.Conv(channels, (5, 5), padding="SAME", param_dtype=self.dtype)(x)
            x = nn.max_pool(nn.relu(x), (2, 2), strides=(2, 2))
        x = x.reshape(len(x), -1)
        for width in self.widths[2:]:
            x = nn.relu(nn.Dense(width, param_dtype=self.dtype)(x))
        return nn.Dense(self.outputs, param_dtype=self.dtype)(x)


def lenet5(
    *,
    classes: int,
    widths: tuple[int, ...] = (6, 16, 120, 84),
    l2: float = 0.0,
    dtype: str = "float32",
) -> Supervised:
    """LeNet-5 on images of any size of at least 4 x 4.

    Args:
      classes: number of outputs, >= 2.
      widths: channels of the two convolutions, then units of the two hidden dense layers.
      l2: factor of the L2 term over all parameters.
      dtype: of the parameters.

    References:
      LeCun et al., Gradient-based learning applied to document recognition, 1998.
    """
    module = LeNet5(classes, tuple(widths), dtype)
    return Supervised(module, softmax_cross_entropy, l2=l2, heavy=True)
