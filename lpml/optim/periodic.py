"""Optax transformations that also pass over the whole data set every so many steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lpml.optim.reporting import ReportingTransformation, nothing_to_report

Params = Any
OptState = Any


class Refreshed(NamedTuple):
    """What a refresh gives back."""

    params: Params
    opt_state: OptState


class PeriodicTransformation(ReportingTransformation):
    """An optax transformation with one more function, `refresh`, wanted every `every` steps.

    It is an ordinary `(init, update)` pair for optax. A loop that knows `refresh` calls

        params, opt_state = tx.refresh(
            opt_state, params, full_grad_fn=..., outputs_fn=..., key=..., data=..., prepared=...
        )

    before step 0, `every`, 2 * `every`, ... where `full_grad_fn(params)` is the gradient of
    the objective over the whole data set, `data` that set on the device (`x`, `y`), and
    `prepared` what `prepare` made of it. A loop that does not know it passes `full_grad_fn`
    to `update` instead, which then refreshes by itself when the step is due; of the rest it
    may pass nothing.

    `report`, `prepare` and `inner_loop` are those of a `ReportingTransformation`.
    """

    every: int
    refresh: Callable[..., Refreshed]

    def __new__(cls, init, update, *, every, refresh, report=nothing_to_report, **further):
        """Builds the pair and hangs the further functions on it."""
        self = super().__new__(cls, init, update, report=report, **further)
        self.every, self.refresh = every, refresh
        return self


def periodic(init, inner_update, *, every, refresh, report=nothing_to_report, **further):
    """Joins an inner step and a refresh to a `PeriodicTransformation`.

    Args:
      init: `params -> opt_state`; the state has a field `step`, steps taken so far.
      inner_update: `(grads, opt_state, params, **extra) -> (updates, opt_state)`.
      every: steps between two refreshes, >= 1.
      refresh: see `PeriodicTransformation`.
      report: see `PeriodicTransformation`.
      further: `prepare` and `inner_loop`, see `ReportingTransformation`.
    """
    if every < 1:
        raise ValueError(f"inner_steps = {every} must be at least 1")

    def update(grads, opt_state, params=None, *, full_grad_fn=None, key=None, **extra):
        if params is None:
            raise ValueError("this transformation needs the current `params` in update")
        if full_grad_fn is None:
            return inner_update(grads, opt_state, params, key=key, **extra)

        def due():
            return Refreshed(
                *refresh(opt_state, params, full_grad_fn=full_grad_fn, key=key, **extra)
            )

        at, opt_state = jax.lax.cond(
            opt_state.step % every == 0, due, lambda: Refreshed(params, opt_state)
        )
        if "grad_fn" in extra:  # a refresh may have moved the point that `grads` belongs to
            grads = extra["grad_fn"](at)
        updates, opt_state = inner_update(grads, opt_state, at, key=key, **extra)
        moved = jax.tree.map(lambda a, u, p: a + u - p, at, updates, params)
        return moved, opt_state

    return PeriodicTransformation(
        init, update, every=every, refresh=refresh, report=report, **further
    )


def learning_rate_at(learning_rate: optax.ScalarOrSchedule, count: jax.Array) -> jax.Array:
    """The rate of a step: evaluated at use, so that schedules act inside an epoch too."""
    return jnp.asarray(learning_rate(count) if callable(learning_rate) else learning_rate)


def check_weight_decay(weight_decay: float | jax.Array) -> None:
    """Raises ValueError where the factor is a number below 0."""
    if isinstance(weight_decay, (int, float)) and not weight_decay >= 0:
        raise ValueError(f"weight_decay = {weight_decay} must not be negative")


def check_learning_rate(learning_rate: optax.ScalarOrSchedule) -> None:
    """Raises ValueError where the rate is a number that is not positive."""
    if isinstance(learning_rate, (int, float)) and not learning_rate > 0:
        raise ValueError(f"learning_rate = {learning_rate} must be positive")


def require_key(key: jax.Array | None, what: str) -> jax.Array:
    """The PRNG key, or a ValueError that says who wanted it."""
    if key is None:
        raise ValueError(f"{what} needs a PRNG `key` passed to update")
    return key


def not_yet_known(params: optax.Params) -> optax.Params:
    """NaN in every entry: a forgotten first refresh must not pass for training."""
    return jax.tree.map(lambda p: jnp.full(jnp.shape(p), jnp.nan, jnp.result_type(p)), params)
