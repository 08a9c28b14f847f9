"""What runs measure without training: a function for each kind of measurement.

A config names one in its section `measurement`, with that function's keyword arguments.
"""

from lpml.measurements.coarse_correlation import coarse_correlation
from lpml.measurements.coarse_descent import coarse_descent
from lpml.measurements.coarse_line import coarse_line
from lpml.measurements.decimal_accuracy import decimal_accuracy
from lpml.measurements.expanding_sum_error import expanding_sum_error
from lpml.measurements.gradient_blow_up import gradient_blow_up
from lpml.measurements.matmul_error import matmul_error
from lpml.measurements.measurement import Measurement
from lpml.measurements.product_sqnr import product_sqnr
from lpml.measurements.quantized_training import quantized_training
from lpml.measurements.refresh_overhead import refresh_overhead
from lpml.measurements.root_accuracy import root_accuracy
from lpml.measurements.scale_exponents import scale_exponents
from lpml.measurements.shampoo_state_error import shampoo_state_error
from lpml.measurements.sqnr import sqnr, vsq_sqnr
from lpml.measurements.staircase_error import staircase_curve, staircase_error

__all__ = [
    "Measurement",
    "coarse_correlation",
    "coarse_descent",
    "coarse_line",
    "decimal_accuracy",
    "expanding_sum_error",
    "gradient_blow_up",
    "matmul_error",
    "product_sqnr",
    "quantized_training",
    "refresh_overhead",
    "root_accuracy",
    "scale_exponents",
    "shampoo_state_error",
    "sqnr",
    "staircase_curve",
    "staircase_error",
    "vsq_sqnr",
]
