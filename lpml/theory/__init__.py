"""The theory of straight-through estimators as closed forms: oracles for tests, and curves."""

from lpml.theory.critical import (
    at_angle,
    best_v,
    has_spurious_minimum,
    identity_residual,
    profile,
    saddle_theta,
    spurious_loss,
    spurious_minimum,
)
from lpml.theory.estimators import ESTIMATORS, IDENTITY, RELU, Estimator, clipped_relu
from lpml.theory.sampled import (
    sampled_coarse_gradient,
    sampled_coarse_gradients,
    sampled_loss,
)
from lpml.theory.staircase import (
    ROUNDINGS,
    best_alpha,
    quantisation_error,
    staircase,
    thresholds,
)
from lpml.theory.two_layer import (
    TwoLayer,
    angle,
    coarse_gradient,
    correlation,
    descent_ratio,
    gradient,
    loss,
    theta,
)

__all__ = [
    "ESTIMATORS",
    "IDENTITY",
    "RELU",
    "ROUNDINGS",
    "Estimator",
    "TwoLayer",
    "angle",
    "at_angle",
    "best_alpha",
    "best_v",
    "clipped_relu",
    "coarse_gradient",
    "correlation",
    "descent_ratio",
    "gradient",
    "has_spurious_minimum",
    "identity_residual",
    "loss",
    "profile",
    "quantisation_error",
    "saddle_theta",
    "sampled_coarse_gradient",
    "sampled_coarse_gradients",
    "sampled_loss",
    "spurious_loss",
    "spurious_minimum",
    "staircase",
    "theta",
    "thresholds",
]
