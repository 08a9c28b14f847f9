"""Optax transformations that have something to say in the log."""

from collections.abc import Callable

import jax
import optax


def nothing_to_report(opt_state: optax.OptState) -> dict[str, jax.Array]:
    """The report of a transformation that has nothing to say."""
    del opt_state
    return {}


class ReportingTransformation(optax.GradientTransformationExtraArgs):
    """An optax transformation with numbers worth a line in the log.

    It is an ordinary `(init, update)` pair; `report(opt_state)` gives scalars by name.
    """

    report: Callable[[optax.OptState], dict[str, jax.Array]]

    def __new__(cls, init, update, *, report=nothing_to_report):
        """Builds the pair and hangs the report on it."""
        self = super().__new__(cls, init, update)
        self.report = report
        return self
