"""What runs measure without training: a function for each kind of measurement.

A config names one in its section `measurement`, with that function's keyword arguments.
"""

from lpml.measurements.decimal_accuracy import decimal_accuracy
from lpml.measurements.expanding_sum_error import expanding_sum_error
from lpml.measurements.matmul_error import matmul_error
from lpml.measurements.measurement import Measurement
from lpml.measurements.product_sqnr import product_sqnr
from lpml.measurements.scale_exponents import scale_exponents
from lpml.measurements.sqnr import sqnr, vsq_sqnr

__all__ = [
    "Measurement",
    "decimal_accuracy",
    "expanding_sum_error",
    "matmul_error",
    "product_sqnr",
    "scale_exponents",
    "sqnr",
    "vsq_sqnr",
]
