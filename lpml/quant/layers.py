"""Flax layers whose products are rounded; parameters as in flax.linen, so either loads them."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from lpml.quant.products import FULL_PRECISION, Padding, Roles, conv, dense

STREAM = "rounding"


class Dense(nn.Module):
    """`nn.Dense` with formats: y = x kernel + bias, see `lpml.quant.dense`.

    Bias and sums stay in full precision. Stochastic gradients draw from the rng stream
    "rounding"; without that stream (evaluation) they are rounded to nearest.
    """

    features: int
    use_bias: bool = True
    param_dtype: Any = jnp.float32
    kernel_init: Any = nn.linear.default_kernel_init
    bias_init: Any = nn.initializers.zeros
    roles: Roles = FULL_PRECISION

    @nn.compact
    def __call__(self, x):
        """Maps (..., inputs) to (..., features)."""
        x, kernel, bias = _parameters(self, x, (x.shape[-1], self.features))
        y = dense(x, kernel, self.roles, key=_key(self))
        return y if bias is None else y + bias


class Conv(nn.Module):
    """`nn.Conv` of one batch axis with formats, see `lpml.quant.conv`; else as `Dense`."""

    features: int
    kernel_size: Sequence[int]
    strides: Sequence[int] | int = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    param_dtype: Any = jnp.float32
    kernel_init: Any = nn.linear.default_kernel_init
    bias_init: Any = nn.initializers.zeros
    roles: Roles = FULL_PRECISION

    @nn.compact
    def __call__(self, x):
        """Maps (B, *space, C) to (B, *places, features)."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        x, kernel, bias = _parameters(self, x, shape)
        y = conv(
            x, kernel, self.roles, strides=self.strides, padding=self.padding, key=_key(self)
        )
        return y if bias is None else y + bias


def _parameters(layer, x, shape):
    """Inputs, kernel of `shape` and bias (or None), in the widest of their dtypes."""
    kernel = layer.param("kernel", layer.kernel_init, shape, layer.param_dtype)
    bias = None
    if layer.use_bias:
        bias = layer.param("bias", layer.bias_init, (layer.features,), layer.param_dtype)
    return promote_dtype(x, kernel, bias, dtype=None)


def _key(layer):
    return layer.make_rng(STREAM) if layer.roles.draws and layer.has_rng(STREAM) else None
