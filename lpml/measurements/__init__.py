"""What runs measure without training: a function for each kind of measurement.

A config names one in its section `measurement`, with that function's keyword arguments.
"""

from lpml.measurements.decimal_accuracy import decimal_accuracy
from lpml.measurements.expanding_sum_error import expanding_sum_error
from lpml.measurements.matmul_error import matmul_error
from lpml.measurements.measurement import Measurement

__all__ = ["Measurement", "decimal_accuracy", "expanding_sum_error", "matmul_error"]
