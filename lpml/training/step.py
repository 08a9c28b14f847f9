"""One training step and one refresh, for every algorithm alike."""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import optax

from lpml.formats import child_key
from lpml.models import Supervised
from lpml.optim import PeriodicTransformation, mean_over_data, rows_over_data
from lpml.training.state import TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]

# The child of a step's key that rounds in the model's layers. `split(key, n)` has the
# children 0 to n - 1, and transformations split by their number of leaves.
ROUNDING = 2**31


class Gradient(Protocol):
    """How a step gets the gradient of its batch: by itself, or from many workers."""

    def __call__(
        self,
        objective: Callable[..., Any],
        params: Any,
        model_state: Any,
        batch: Batch,
        key: jax.Array,
    ) -> tuple[Any, Any]:
        """As `value_and_grad(objective, has_aux=True)(params, model_state, batch, key)`."""
        ...  # fmt: skip


def whole_batch(
    objective: Callable[..., Any], params: Any, model_state: Any, batch: Batch, key: jax.Array
) -> tuple[Any, Any]:
    """The gradient of the whole batch at once; see `Gradient`."""
    return jax.value_and_grad(objective, has_aux=True)(params, model_state, batch, key)


def make_step(
    model: Supervised, *, with_grad_norm: bool, gradient: Gradient = whole_batch
) -> Step:
    """`step(state, batch) -> (state, metrics)`.

    Every transformation gets the same extras: `value`, `value_fn`, `grad_fn`, `batch`, `key`,
    `output_difference_fn` and, for models linear in their parameters,
    `gradient_difference_fn`. Those that need none ignore them, and what nobody uses the
    compiler removes: SVRG pays for two gradients, SGD for one. All gradients of a step are
    those of training: one augmentation, the batch's own statistics (see `Supervised`); the
    running averages move once a step, by the batch at the parameters it starts with.

    Args:
      model: the problem.
      with_grad_norm: report the batch gradient's norm (it forces that gradient to be computed).
      gradient: where it comes from.
    """
    training = functools.partial(model.objective, train=True)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        # not fold_in, which alone would take longer than a step of a small linear model
        key = child_key(state.key, state.step)
        rounding_key = jax.random.fold_in(key, ROUNDING)

        # One key for the whole step: gradients of one batch at two points share their noise.
        def gradient_at(params):
            return gradient(training, params, state.model_state, batch, rounding_key)

        (value, (model_state, metrics)), grads = gradient_at(state.params)
        extra: dict[str, Any] = {
            "value": value,
            "value_fn": lambda params: training(params, state.model_state, batch, rounding_key)[
                0
            ],
            "grad_fn": lambda params: gradient_at(params)[1],
            "batch": batch,
            "key": key,
            "output_difference_fn": lambda outputs, change, at: model.loss.difference(
                outputs, change, at["y"]
            ),
        }
        if model.linear:
            extra["gradient_difference_fn"] = lambda anchor, offset: model.gradient_difference(
                anchor, offset, state.model_state, batch
            )
        state = state.apply_gradients(grads=grads, **extra).replace(model_state=model_state)
        metrics = {"batch_loss": value, **{f"batch_{k}": v for k, v in metrics.items()}}
        if with_grad_norm:
            metrics["batch_grad_norm"] = optax.tree.norm(grads)
        return state, metrics

    return step


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _weigh(model: Supervised) -> Callable[[Batch], Any] | None:
    """What the means of a batch are over, None for its samples."""
    return None if model.loss.answers is None else model.weight


def make_refresh(
    model: Supervised, *, batch_size: int, split: Callable[[Batch], Batch] = _as_it_is
) -> Callable[..., TrainState]:
    """`refresh(state, data, prepared={}) -> state`: the pass over the data some want.

    Its gradients are those of evaluation: plain data, running averages for statistics.
    `prepared` is what the transformation made of the data.

    Args:
      model: the problem.
      batch_size: samples of the pass held in memory at a time.
      split: spreads a batch over the devices.
    """

    def refresh(state: TrainState, data: Batch, prepared: Batch | None = None) -> TrainState:
        assert isinstance(state.tx, PeriodicTransformation)
        # the step of the same number draws from children 0 and 1 of its own key
        key = child_key(child_key(state.key, state.step), 2)

        def objective(params, batch):
            return model.objective(params, state.model_state, batch)[0]

        def full_grad(params):
            return mean_over_data(
                lambda batch: jax.grad(objective)(params, batch),
                data,
                batch_size=batch_size,
                constrain=split,
                weigh=_weigh(model),
            )

        def outputs(params):
            return rows_over_data(
                lambda batch: model.outputs(params, state.model_state, batch),
                data,
                batch_size=batch_size,
                constrain=split,
            )

        params, opt_state = state.tx.refresh(
            state.opt_state,
            state.params,
            full_grad_fn=full_grad,
            outputs_fn=outputs,
            key=key,
            data=data,
            prepared=prepared or {},
        )
        return state.replace(params=params, opt_state=opt_state)

    return refresh


def make_evaluate(
    model: Supervised,
    *,
    with_gradient: bool,
    batch_size: int,
    split: Callable[[Batch], Batch] = _as_it_is,
) -> Callable[[TrainState, Batch], Metrics]:
    """`evaluate(state, data) -> metrics`: the objective over a whole data set.

    Gives `loss`, with `with_gradient` also `grad_norm` (2-norm of the full gradient), and
    `accuracy` for classifiers. `split` spreads a batch over the devices.
    """

    def evaluate(state: TrainState, data: Batch) -> Metrics:
        def measure(batch):
            def objective(params):
                return model.objective(params, state.model_state, batch)

            if with_gradient:
                (value, (_, metrics)), grads = jax.value_and_grad(objective, has_aux=True)(
                    state.params
                )
                return {"loss": value, **metrics}, grads
            value, (_, metrics) = objective(state.params)
            return {"loss": value, **metrics}, ()

        metrics, grads = mean_over_data(
            measure, data, batch_size=batch_size, constrain=split, weigh=_weigh(model)
        )
        if with_gradient:
            metrics["grad_norm"] = optax.tree.norm(grads)
        return metrics

    return evaluate
