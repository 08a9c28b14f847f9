"""Work of one run on several devices: where its arrays lie, and which process does what."""

from lpml.parallel.exchange import Exchange, quantized_mean
from lpml.parallel.meeting import Meeting, ProcessFailure
from lpml.parallel.mesh import Placement, placement
from lpml.parallel.wire import WireReport, compiled_wire_bytes, wire_report

__all__ = [
    "Exchange",
    "Meeting",
    "Placement",
    "ProcessFailure",
    "WireReport",
    "compiled_wire_bytes",
    "placement",
    "quantized_mean",
    "wire_report",
]
