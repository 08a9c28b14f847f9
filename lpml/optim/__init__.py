"""Optimizers as optax transformations, one algorithm a file."""

from lpml.optim.adagrad import adagrad
from lpml.optim.adam import adam
from lpml.optim.few_bits import FewBitsState, in_few_bits
from lpml.optim.full_gradient import mean_over_data, rows_over_data
from lpml.optim.halp import HALPState, halp
from lpml.optim.linear_problem import LinearProblem
from lpml.optim.lm_halp import LMHALPState, lm_halp
from lpml.optim.loss_aware import (
    BitsReport,
    LossAwareState,
    all_but,
    bits_report,
    loss_aware_quantization,
    master_params,
    quantized_params,
    weights_only,
)
from lpml.optim.loss_aware_recipe import loss_aware
from lpml.optim.low_precision import lp_sgd, lp_svrg, sgd
from lpml.optim.momentum import momentum
from lpml.optim.muon import muon
from lpml.optim.periodic import PeriodicTransformation, Refreshed
from lpml.optim.projected import ProjectedTransformation
from lpml.optim.refresher import HostRefreshedTransformation, RootRefresher, RootsFailed
from lpml.optim.reporting import ReportingTransformation, inner_loop_of, prepare_of
from lpml.optim.shampoo import ShampooState, shampoo
from lpml.optim.soap import SoapState, soap
from lpml.optim.svrg import SVRGState, svrg

__all__ = [
    "BitsReport",
    "FewBitsState",
    "HALPState",
    "HostRefreshedTransformation",
    "LMHALPState",
    "LinearProblem",
    "LossAwareState",
    "PeriodicTransformation",
    "ProjectedTransformation",
    "Refreshed",
    "ReportingTransformation",
    "RootRefresher",
    "RootsFailed",
    "SVRGState",
    "ShampooState",
    "SoapState",
    "adagrad",
    "adam",
    "all_but",
    "bits_report",
    "halp",
    "in_few_bits",
    "inner_loop_of",
    "lm_halp",
    "loss_aware",
    "loss_aware_quantization",
    "lp_sgd",
    "lp_svrg",
    "master_params",
    "mean_over_data",
    "momentum",
    "muon",
    "prepare_of",
    "quantized_params",
    "rows_over_data",
    "sgd",
    "shampoo",
    "soap",
    "svrg",
    "weights_only",
]
