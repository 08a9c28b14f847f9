"""Optimizers as optax transformations, one algorithm a file."""

from lpml.optim.adam import adam
from lpml.optim.full_gradient import mean_over_data
from lpml.optim.halp import HALPState, halp
from lpml.optim.lm_halp import LMHALPState, lm_halp
from lpml.optim.low_precision import lp_sgd, lp_svrg, sgd
from lpml.optim.momentum import momentum
from lpml.optim.periodic import PeriodicTransformation, Refreshed
from lpml.optim.shampoo import ShampooState, shampoo
from lpml.optim.svrg import SVRGState, svrg

__all__ = [
    "HALPState",
    "LMHALPState",
    "PeriodicTransformation",
    "Refreshed",
    "SVRGState",
    "ShampooState",
    "adam",
    "halp",
    "lm_halp",
    "lp_sgd",
    "lp_svrg",
    "mean_over_data",
    "momentum",
    "sgd",
    "shampoo",
    "svrg",
]
