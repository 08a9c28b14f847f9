"""Optax transformations with something to say in the log, and perhaps a loop of their own."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

Prepare = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
InnerLoop = Callable[..., tuple[optax.Params, optax.OptState, jax.Array]]


def nothing_to_report(opt_state: optax.OptState) -> dict[str, jax.Array]:
    """The report of a transformation that has nothing to say."""
    del opt_state
    return {}


class ReportingTransformation(optax.GradientTransformationExtraArgs):
    """An optax transformation with numbers worth a line in the log.

    It is an ordinary `(init, update)` pair; `report(opt_state)` gives scalars by name. It may
    have two further parts, which are None where it does not, for a loop that knows them:

    `prepare(train)` gives arrays by name, made once of the training set (numpy arrays `x`
    (N, ...) and `y` (N,), which must be left as they are). They lie on the device beside the
    training set, of which an array given back as it came is no second copy.

    `inner_loop(opt_state, params, prepared, indices, count, *, key)` takes many steps in one
    call, in place of as many of `update`. It is traced. `prepared` are the arrays of `prepare`
    ({} without it), `indices` (R, batch) int32 the samples of the steps, one step a row, of
    which the first `count`, () int32, are to be taken: none where that is 0. `key` is the base
    key of the run, the same in all calls. It gives `(params, opt_state, bad_step)`: the visible
    parameters, and the step, () int32, at which a number first was not finite, -1 for none.
    Steps are numbered from the start of the run, so the state has to count them. Runs are cut
    into calls by the clock: whatever a step draws must be a function of `key`, its number and
    its samples. What it gives overwrites what it was given, so no array may be given twice.
    """

    report: Callable[[optax.OptState], dict[str, jax.Array]]
    prepare: Prepare | None
    inner_loop: InnerLoop | None

    def __new__(cls, init, update, *, report=nothing_to_report, prepare=None, inner_loop=None):
        """Builds the pair and hangs the further functions on it."""
        self = super().__new__(cls, init, update)
        self.report, self.prepare, self.inner_loop = report, prepare, inner_loop
        return self


def prepare_of(tx: Any) -> Prepare | None:
    """What the transformation makes of the training set; None: nothing."""
    return tx.prepare if isinstance(tx, ReportingTransformation) else None


def inner_loop_of(tx: Any) -> InnerLoop | None:
    """The transformation's own loop; None: it has none."""
    return tx.inner_loop if isinstance(tx, ReportingTransformation) else None
