"""CifarNet: the network of TernGrad's and the quantised models' studies of gradients."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lpml import quant as quantised
from lpml.models.augment import center_crop, random_crop
from lpml.models.losses import softmax_cross_entropy
from lpml.models.supervised import Supervised

LAYERS = ("Conv_0", "Conv_1", "Dense_0", "Dense_1", "Dense_2")
# Local response normalisation: neighbours on either side, and a = 0.001 / 9, b = 3/4.
NEIGHBOURS, FACTOR, POWER = 4, 0.001 / 9, 0.75


def local_response(x: Float[Array, "... channels"]) -> Float[Array, "... channels"]:
    """x_c / (1 + a sum over |c' - c| <= 4 of x_c'^2)^(3/4), over the channels."""
    # a sum over a window as a difference of sums costs accuracy; nine shifted adds do not
    frame = [(0, 0)] * (x.ndim - 1) + [(NEIGHBOURS, NEIGHBOURS)]
    squares = jnp.pad(x * x, frame)
    total = sum(squares[..., i : i + x.shape[-1]] for i in range(2 * NEIGHBOURS + 1))
    return x * (1 + FACTOR * total) ** -POWER


class CifarNet(nn.Module):
    """Two 5x5 convolutions with 3x3 pooling and response normalisation, three dense layers."""

    outputs: int
    width: int = 64
    hidden: tuple[int, int] = (384, 192)
    crop: int | None = 24
    dtype: str = "float32"
    roles: tuple[quantised.Roles, ...] = (quantised.FULL_PRECISION,) * len(LAYERS)
    activation: quantised.Settings = ()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images (B, H, W, C) to (B, outputs)."""
        if x.ndim != 4:
            raise ValueError(f"CifarNet takes images (B, H, W, C), not {x.shape}")
        if self.crop is not None:
            x = center_crop(x, self.crop)

        def pooled(x):
            return nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")

        def convolved(x, roles):
            x = quantised.Conv(self.width, (5, 5), param_dtype=self.dtype, roles=roles)(x)
            return quantised.relu(x, self.activation)

        x = local_response(pooled(convolved(x, self.roles[0])))
        x = pooled(local_response(convolved(x, self.roles[1])))
        x = x.reshape(len(x), -1)
        for width, roles in zip(self.hidden, self.roles[2:-1]):
            x = quantised.Dense(width, param_dtype=self.dtype, roles=roles)(x)
            x = quantised.relu(x, self.activation)
        return quantised.Dense(self.outputs, param_dtype=self.dtype, roles=self.roles[-1])(x)


def cifarnet(
    *,
    classes: int,
    width: int = 64,
    hidden: tuple[int, int] = (384, 192),
    crop: int | None = 24,
    l2: float = 0.0,
    dtype: str = "float32",
    quant: Mapping[str, Any] | None = None,
    activation: Mapping[str, Any] | None = None,
    augment: str | None = None,
) -> Supervised:
    """CifarNet; with 24 x 24 crops of CIFAR-10 its largest layer has 884 736 weights.

    Args:
      classes: number of outputs, >= 2.
      width: filters of either convolution, >= 1.
      hidden: units of the two hidden dense layers.
      crop: side of the images' middle that the network sees; None: the whole image.
      l2: factor of the L2 term over all parameters.
      dtype: of the parameters.
      quant: which formats the layers Conv_0, Conv_1, Dense_0, Dense_1, Dense_2 round to, see
        `lpml.quant.policy`; None: full precision.
      activation: the staircase in place of ReLU, see `lpml.quant.activation`; None: ReLU.
      augment: `"crop_flip"`: training sees crops of side `crop` at random, mirrored with
        probability 1/2; None: the middle. (TernGrad's script also changes brightness and
        contrast; this does not.)

    References:
      Wen et al., TernGrad, NeurIPS 2017; Hou et al., Analysis of quantized models, ICLR 2019,
      section 4.3.
    """
    if width < 1 or len(hidden) != 2 or min(hidden) < 1:
        raise ValueError(
            f"width = {width} and hidden = {tuple(hidden)} must be positive, hidden a pair"
        )
    if crop is not None and crop < 1:
        raise ValueError(f"crop = {crop} must be at least 1")
    if augment not in (None, "crop_flip"):
        raise ValueError(f"augment {augment!r} does not exist; choose crop_flip")
    if augment and crop is None:
        raise ValueError("augment = 'crop_flip' needs crop, the side of what is cut out")
    inputs = {name: None if name == LAYERS[0] else False for name in LAYERS}
    roles = quantised.policy(quant).assign(inputs)
    module = CifarNet(
        classes,
        width,
        (hidden[0], hidden[1]),
        crop,
        dtype,
        roles,
        quantised.activation(activation),
    )
    changed = random_crop(crop) if augment and crop else None
    return Supervised(module, softmax_cross_entropy, l2=l2, heavy=True, augment=changed)
