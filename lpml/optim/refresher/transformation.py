"""What an optimizer has beside `init` and `update` when the host solves for its matrices."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from lpml.optim.clock import Clock
from lpml.optim.refresher.settings import HostWork
from lpml.optim.reporting import ReportingTransformation, nothing_to_report

Stacks = dict[str, Any]
"""Matrices by the name of their stack, [K, b, b]; or one number per matrix, [K]."""


class Snapshot(NamedTuple):
    """What leaves the device."""

    stacks: Stacks  # [K, b, b], the matrices to be solved for
    step: jax.Array  # () int32, steps taken
    attempts: jax.Array  # () int32, the most refreshes that any matrix has seen


class Solved(NamedTuple):
    """What a worker makes of some matrices of a stack."""

    matrix: np.ndarray  # [K, b, b], in their dtype
    ok: np.ndarray  # [K] bool: may be used
    asked: np.ndarray  # [K] bool: False where there was nothing to solve for (zeros)


@dataclasses.dataclass(frozen=True)
class HostSide:
    """The host's part in an optimizer.

    Args:
      clock: the steps after which a snapshot is taken.
      work: when the results come back, and who computes them.
      take: opt_state -> `Snapshot`; traced.
      solve: (name of a stack, [K, b, b] numpy) -> `Solved`, matrix by matrix: how a stack is
        cut among workers must not matter. It can be pickled.
      put: (opt_state, matrices, ok, drop, step) -> opt_state; traced. `ok` [K] bool of every
        stack: take the new matrix; `drop` [K]: use none at all; `step` that of the snapshot.
    """

    clock: Clock
    work: HostWork
    take: Callable[[optax.OptState], Snapshot]
    solve: Callable[[str, np.ndarray], Solved]
    put: Callable[..., optax.OptState]

    def __post_init__(self):
        self.work.check(self.clock.every)

    def delay(self, step: int) -> int:
        """Steps from the snapshot after `step` to its swap."""
        return self.work.delay_of(self.clock.every, first=step == self.clock.first)


class HostRefreshedTransformation(ReportingTransformation):
    """An optax transformation some of whose matrices come from the host.

    It is an ordinary `(init, update)` pair. A loop that knows `host` gives the transformation
    to a `RootRefresher`, and calls that after every step.

    `report(opt_state)` gives numbers worth a line in the log (scalars by name).
    """

    host: HostSide

    def __new__(cls, init, update, *, host, report=nothing_to_report):
        """Builds the pair and hangs the further parts on it."""
        self = super().__new__(cls, init, update, report=report)
        self.host = host
        return self
