"""Where formats act in a network: quantised products, layers, and which layer gets what."""

from lpml.quant.layers import Conv, Dense
from lpml.quant.policy import Policy, policy
from lpml.quant.products import FULL_PRECISION, Roles, conv, dense

__all__ = ["FULL_PRECISION", "Conv", "Dense", "Policy", "Roles", "conv", "dense", "policy"]
