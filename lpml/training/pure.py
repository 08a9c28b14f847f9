"""The pure functions of one training, and what travels between their calls."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from lpml.models import Supervised
from lpml.optim import ReportingTransformation, inner_loop_of
from lpml.parallel import Placement
from lpml.training.buckets import Buckets
from lpml.training.scoring import Translations
from lpml.training.state import TrainState
from lpml.training.step import (
    Metrics,
    Step,
    make_evaluate,
    make_refresh,
    make_step,
    whole_batch,
)
from lpml.training.workers import Workers


class Carry(struct.PyTreeNode):
    """What travels from call to call, and into checkpoints.

    Attributes:
      state: the train state.
      sums: metrics of the steps since the last line of the log, summed; none where the
        transformation has a loop of its own, which computes no loss.
      count: () int32, how many steps that are.
      bad_step: () int32, the first step with a non-finite loss (or, in a loop of the
        transformation's own, any such number), -1 while there is none.
      beside: in checkpoints, what the host has ready for later steps; else None.
    """

    state: TrainState
    sums: dict[str, jax.Array]
    count: jax.Array
    bad_step: jax.Array
    beside: Any = None


class Functions(NamedTuple):
    """The pure functions of one training, for a given model and transformation."""

    init: Callable[[jax.Array, dict[str, jax.Array]], Carry]  # (key, batch)
    step: Callable[[Carry, dict[str, jax.Array], jax.Array], Carry]  # (carry, data, index)
    run: Callable[..., Carry]  # (carry, data, prepared, indices, count): many steps
    refresh: Callable[..., Carry]  # (carry, data, prepared={})
    evaluate: Callable[[TrainState, dict[str, jax.Array]], Metrics]
    evaluate_with_gradient: Callable[[TrainState, dict[str, jax.Array]], Metrics]
    report: Callable[[TrainState], Metrics]
    tell: Callable[[TrainState, dict[str, jax.Array]], jax.Array] | None  # (state, test set)


def functions(
    model: Supervised,
    tx: optax.GradientTransformation,
    *,
    objective: str,
    full_batch_size: int,
    place: Placement | None = None,
    workers: Workers | None = None,
    translations: Translations | None = None,
    buckets: Buckets | None = None,
) -> Functions:
    """What `Program` compiles; arguments as there. `tx` may hold traced settings.

    `prepared` is what `tx` made of the training set, {} where it makes nothing. A `tx` with a
    loop of its own is never asked for a single `step`.
    """
    place = place or Placement()
    gradient = whole_batch if workers is None else workers.gradient(place)
    if buckets is not None:
        gradient = buckets.gradient(gradient)
    made = make_step(model, with_grad_norm=objective == "batch", gradient=gradient)
    step = _placed(made, place)
    own_loop = inner_loop_of(tx)

    def init(key, batch):
        init_key, run_key = jax.random.split(key)
        params, model_state = model.init(init_key, batch)
        state = TrainState.create(params=params, tx=tx, key=run_key, model_state=model_state)
        metrics = {} if own_loop else jax.eval_shape(step, state, batch)[1]
        sums = jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), metrics)
        return Carry(state, sums, jnp.zeros((), jnp.int32), jnp.full((), -1, jnp.int32))

    def one_step(carry, data, index):
        at = carry.state.step
        state, metrics = step(carry.state, gather(data, index))
        bad = (carry.bad_step < 0) & ~jnp.isfinite(metrics["batch_loss"])
        return Carry(
            state=state,
            sums=jax.tree.map(jnp.add, carry.sums, metrics),
            count=carry.count + 1,
            bad_step=jnp.where(bad, at, carry.bad_step),
        )

    passes: dict[str, Any] = {"batch_size": full_batch_size, "split": place.split}
    pass_over = make_refresh(model, **passes)

    def refresh(carry, data, prepared=None):
        return carry.replace(state=pass_over(carry.state, data, prepared))

    def report(state):
        own = tx.report(state.opt_state) if isinstance(tx, ReportingTransformation) else {}
        return own if workers is None else {**own, **workers.report(state.params)}

    return Functions(
        init=init,
        step=one_step,
        run=_steps_over_data(one_step) if own_loop is None else _steps_of(own_loop),
        refresh=refresh,
        evaluate=make_evaluate(model, with_gradient=False, **passes),
        evaluate_with_gradient=make_evaluate(model, with_gradient=True, **passes),
        report=report,
        tell=None if translations is None else translations.tell,
    )


def gather(data: dict[str, jax.Array], index: jax.Array) -> dict[str, jax.Array]:
    """The samples of `index` as a batch, with their numbers."""
    return {"index": index, **{k: v[index] for k, v in data.items()}}


def _placed(step: Step, place: Placement) -> Step:
    """The step on a batch split over the devices; what it gives is whole on each."""

    def placed(state, batch):
        return place.whole(step(state, place.split(batch)))

    return placed


def _steps_over_data(step):
    """`run` of `Functions`: one step after another."""
    steps = many_steps(step)

    def run(carry, data, prepared, indices, count):
        del prepared
        return steps(carry, data, indices, count)

    return run


def _steps_of(inner_loop):
    """`run` of `Functions` by a transformation's own loop; no steps once there is a bad one."""

    def run(carry, data, prepared, indices, count):
        del data
        state, good = carry.state, carry.bad_step < 0
        count = jnp.where(good, count, 0)
        params, opt_state, bad_step = inner_loop(
            state.opt_state, state.params, prepared, indices, count, key=state.key
        )
        return carry.replace(
            state=state.replace(step=state.step + count, params=params, opt_state=opt_state),
            count=carry.count + count,
            bad_step=jnp.where(good, jnp.asarray(bad_step, jnp.int32), carry.bad_step),
        )

    return run


def many_steps(step: Callable[..., Carry]) -> Callable[..., Carry]:
    """A loop of a traced number of steps: one compiled program for every chunk length.

    `(carry, data, indices, count, *further) -> carry`; it ends early once every run in the
    carry has a bad step.
    """

    def run(carry, data, indices, count, *further):
        def going(loop):
            i, carry = loop
            return (i < count) & jnp.any(carry.bad_step < 0)

        def body(loop):
            i, carry = loop
            return i + 1, step(carry, data, indices[i], *further)

        return jax.lax.while_loop(going, body, (jnp.zeros_like(count), carry))[1]

    return run
