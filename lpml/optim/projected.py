"""Optax transformations whose parameters are exact values that adding an update would miss."""

from collections.abc import Callable
from typing import Any

from lpml.optim.reporting import ReportingTransformation, nothing_to_report

Params = Any
OptState = Any


class ProjectedTransformation(ReportingTransformation):
    """An optax transformation that also says what the parameters are, given its state.

    It is an ordinary `(init, update)` pair for optax, whose updates lead to the parameters of
    `visible` up to rounding: p + (q - p) can miss q by one unit in the last place. A loop that
    knows it calls

        params = tx.visible(opt_state, params)

    after `init` and after every update was applied, and has the exact values.

    `report(opt_state)` gives numbers worth a line in the log (scalars by name).
    """

    visible: Callable[[OptState, Params], Params]

    def __new__(cls, init, update, *, visible, report=nothing_to_report):
        """Builds the pair and hangs the further functions on it."""
        self = super().__new__(cls, init, update, report=report)
        self.visible = visible
        return self
