"""Work of an optimizer that is done on the host, beside the steps, and acts at a fixed step.

A `HostRefreshedTransformation` says what leaves its state and what comes back; `RootRefresher`
does it between two steps. A loop of one's own calls `refresher.after_step(step, opt_state)`.
"""

from lpml.optim.refresher.refresher import InFlight, RootRefresher
from lpml.optim.refresher.results import RootsFailed
from lpml.optim.refresher.settings import HostWork
from lpml.optim.refresher.transformation import (
    HostRefreshedTransformation,
    HostSide,
    Snapshot,
    Solved,
)

__all__ = [
    "HostRefreshedTransformation",
    "HostSide",
    "HostWork",
    "InFlight",
    "RootRefresher",
    "RootsFailed",
    "Snapshot",
    "Solved",
]
