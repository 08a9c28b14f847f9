"""Where formats act in a network: products, activations, layers, weights, and who gets what."""

from lpml.quant.activation_layer import QuantizedReLU, Settings, activation, relu
from lpml.quant.activations import binary_activation, half_gaussian_alpha, quantized_relu
from lpml.quant.differences import difference
from lpml.quant.gradients import (
    QuantizedGradient,
    blow_up_bound,
    clip_bias,
    clip_to_deviations,
    quantization_variance,
    stochastic_quantize,
)
from lpml.quant.layers import Conv, Dense
from lpml.quant.loss_aware import laq, lat2, objective
from lpml.quant.offset_formats import offset_format, unit_roundoff
from lpml.quant.policy import Policy, policy
from lpml.quant.products import FULL_PRECISION, Roles, conv, dense
from lpml.quant.quantized_weights import PackedWeights, QuantizedWeights, TwoScaleWeights

__all__ = [
    "FULL_PRECISION",
    "Conv",
    "Dense",
    "PackedWeights",
    "Policy",
    "QuantizedGradient",
    "QuantizedReLU",
    "QuantizedWeights",
    "Roles",
    "Settings",
    "TwoScaleWeights",
    "activation",
    "binary_activation",
    "blow_up_bound",
    "clip_bias",
    "clip_to_deviations",
    "conv",
    "dense",
    "difference",
    "half_gaussian_alpha",
    "laq",
    "lat2",
    "objective",
    "offset_format",
    "policy",
    "quantization_variance",
    "quantized_relu",
    "relu",
    "stochastic_quantize",
    "unit_roundoff",
]
