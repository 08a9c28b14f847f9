"""Work of one run on several devices: where its arrays lie, and which process does what."""

from lpml.parallel.exchange import Exchange, quantized_mean
from lpml.parallel.meeting import Meeting, ProcessFailure
from lpml.parallel.mesh import Placement, placement

__all__ = [
    "Exchange",
    "Meeting",
    "Placement",
    "ProcessFailure",
    "placement",
    "quantized_mean",
]
