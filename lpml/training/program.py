"""The compiled functions of one training: initialise, refresh, run many steps, evaluate."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from lpml.data import Dataset, batch_indices
from lpml.models import Supervised
from lpml.optim import PeriodicTransformation, ReportingTransformation
from lpml.parallel import Placement
from lpml.training.beside import beside
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

# Rows of the index buffer: so many steps fit in one call of the compiled loop.
MAX_STEPS_PER_CALL = 16384
MAX_INDICES_PER_CALL = 2**17


class Carry(struct.PyTreeNode):
    """What travels from call to call, and into checkpoints.

    Attributes:
      state: the train state.
      sums: metrics of the steps since the last line of the log, summed.
      count: () int32, how many steps that are.
      bad_step: () int32, the first step with a non-finite loss, -1 while there is none.
      beside: in checkpoints, what the host has ready for later steps; else None.
    """

    state: TrainState
    sums: dict[str, jax.Array]
    count: jax.Array
    bad_step: jax.Array
    beside: Any = None


@dataclasses.dataclass(frozen=True)
class Batches:
    """How training samples are drawn: a pure function of (seed, step)."""

    seed: int
    size: int
    batch_size: int
    sampling: str

    @property
    def rows(self) -> int:
        """Steps whose indices fit in one call's buffer."""
        return int(np.clip(MAX_INDICES_PER_CALL // self.batch_size, 16, MAX_STEPS_PER_CALL))

    def indices(self, start: int, count: int) -> np.ndarray:
        """Sample indices of steps start .. start + count - 1, padded to (rows, batch) int32."""
        drawn = batch_indices(
            self.seed,
            start,
            count,
            size=self.size,
            batch_size=self.batch_size,
            sampling=self.sampling,
        )
        padded = np.zeros((self.rows, self.batch_size), np.int32)
        padded[:count] = drawn
        return padded


class Functions(NamedTuple):
    """The pure functions of one training, for a given model and transformation."""

    init: Callable[[jax.Array, dict[str, jax.Array]], Carry]  # (key, batch)
    step: Callable[[Carry, dict[str, jax.Array], jax.Array], Carry]  # (carry, data, index)
    refresh: Callable[[Carry, dict[str, jax.Array]], Carry]  # (carry, data)
    evaluate: Callable[[TrainState, dict[str, jax.Array]], Metrics]
    evaluate_with_gradient: Callable[[TrainState, dict[str, jax.Array]], Metrics]
    report: Callable[[TrainState], Metrics]


def functions(
    model: Supervised,
    tx: optax.GradientTransformation,
    *,
    objective: str,
    full_batch_size: int,
    place: Placement | None = None,
    workers: Workers | None = None,
) -> Functions:
    """What `Program` compiles; arguments as there. `tx` may hold traced settings."""
    place = place or Placement()
    gradient = whole_batch if workers is None else workers.gradient(place)
    made = make_step(model, with_grad_norm=objective == "batch", gradient=gradient)
    step = _placed(made, place)

    def init(key, batch):
        init_key, run_key = jax.random.split(key)
        params, model_state = model.init(init_key, batch)
        state = TrainState.create(params=params, tx=tx, key=run_key, model_state=model_state)
        _, metrics = jax.eval_shape(step, state, batch)
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
    refresh = make_refresh(model, **passes)

    def report(state):
        own = tx.report(state.opt_state) if isinstance(tx, ReportingTransformation) else {}
        return own if workers is None else {**own, **workers.report(state.params)}

    return Functions(
        init=init,
        step=one_step,
        refresh=lambda carry, data: carry.replace(state=refresh(carry.state, data)),
        evaluate=make_evaluate(model, with_gradient=False, **passes),
        evaluate_with_gradient=make_evaluate(model, with_gradient=True, **passes),
        report=report,
    )


class Program:
    """One training, compiled once: no recompilation across steps, chunk lengths or epochs.

    Args:
      model: the problem.
      tx: the transformation.
      dataset: numpy arrays; moved to the device once.
      batches: the order of the samples.
      objective: `"full"`: `loss` and `grad_norm` are measured over the whole training set at
        every line of the log; `"batch"`: they are means over the steps since the last line
        (at step 0, of the first samples).
      full_batch_size: samples at a time in passes over the data.
      place: the devices; every batch is split over them, the carry is whole on each.
      workers: among whom a batch is shared out, each of whom has a gradient; None: nobody.
      start_from: folder of the run to take the first parameters from; see `starting`.
    """

    def __init__(
        self,
        model: Supervised,
        tx: optax.GradientTransformation,
        dataset: Dataset,
        *,
        batches: Batches,
        objective: str,
        full_batch_size: int,
        place: Placement | None = None,
        workers: Workers | None = None,
        start_from: str | None = None,
    ):
        self.start_from, self.workers = start_from, workers
        self.model, self.tx, self.batches = model, tx, batches
        self.dataset = dataset
        self.beside = beside(tx)
        self.objective = objective
        self.full_batch_size = full_batch_size
        self.place = place = place or Placement()
        pure = self.pure(tx)
        self._init = place.jit(pure.init)
        self._run = place.jit(many_steps(pure.step), donate_argnums=(0,))
        self._run_one = place.jit(pure.step, donate_argnums=(0,))
        self._refresh = place.jit(pure.refresh, donate_argnums=(0,))
        self._evaluate = place.jit(pure.evaluate)
        self._evaluate_with_gradient = place.jit(pure.evaluate_with_gradient)
        self._reset = place.jit(lambda sums: jax.tree.map(jnp.zeros_like, sums))
        self._report = pure.report

    def pure(self, tx: optax.GradientTransformation) -> Functions:
        """The functions of this training, not compiled, with `tx` for its transformation."""
        return functions(
            self.model,
            tx,
            objective=self.objective,
            full_batch_size=self.full_batch_size,
            place=self.place,
            workers=self.workers,
        )

    @functools.cached_property
    def train(self) -> dict[str, jax.Array]:
        """The training set on the device."""
        return self.place.put(self.dataset.train)

    @functools.cached_property
    def test(self) -> dict[str, jax.Array] | None:
        """The test set on the device."""
        return None if self.dataset.test is None else self.place.put(self.dataset.test)

    @property
    def refresh_every(self) -> int | None:
        """Steps between two passes over the data, None where the algorithm wants none."""
        return self.tx.every if isinstance(self.tx, PeriodicTransformation) else None

    @property
    def rows(self) -> int:
        """Most steps of one call of `run`."""
        return self.batches.rows

    def init(self, seed: int) -> Carry:
        """The carry before the first step."""
        return self._init(jax.random.key(seed), self.example_batch())

    def shapes(self) -> Carry:
        """What a checkpoint holds, as shapes and dtypes; nothing is computed or moved."""
        size = self.batches.batch_size
        batch = {
            k: jax.ShapeDtypeStruct((size, *v.shape[1:]), v.dtype)
            for k, v in self.dataset.train.items()
        }
        batch["index"] = jax.ShapeDtypeStruct((size,), jnp.int32)
        carry = jax.eval_shape(self._init, jax.eval_shape(jax.random.key, 0), batch)
        return self.beside.shapes(carry)

    def example_batch(self) -> dict[str, jax.Array]:
        """The first samples of the training set, as a batch of the run's size."""
        index = jnp.arange(self.batches.batch_size, dtype=jnp.int32) % self.batches.size
        return gather(self.train, index)

    def refresh(self, carry: Carry) -> Carry:
        """The pass over the data that is due before this step."""
        return self._refresh(carry, self.train)

    def run(self, carry: Carry, start: int, count: int) -> Carry:
        """`count` steps from step `start`, at most `rows`; a bad loss is marked."""
        indices = self.batches.indices(start, count)
        if self.model.heavy:
            for index in self.place.each(indices[:count]):
                carry = self._run_one(carry, self.train, index)
            return carry
        return self._run(carry, self.train, self.place.indices(indices), np.int32(count))

    def measure(self, carry: Carry) -> tuple[Carry, dict[str, float]]:
        """The numbers of a line of the log, and the carry with its sums reset."""
        steps = int(carry.count)
        numbers = line_of(self, carry, steps)
        sums, count = self._reset((carry.sums, carry.count))
        carry = carry.replace(sums=sums, count=count)
        fetched = jax.device_get(numbers)  # one transfer; it sorts the names
        own = self.beside.report() if steps else {}
        return carry, {name: float(fetched[name]) for name in numbers} | own

    def evaluate(
        self, carry: Carry, *, with_gradient: bool, data: dict[str, jax.Array] | None = None
    ) -> Metrics:
        """The objective over `data`, by default the training set."""
        function = self._evaluate_with_gradient if with_gradient else self._evaluate
        return function(carry.state, self.train if data is None else data)

    def report(self, carry: Carry) -> Metrics:
        """What the transformation says of itself."""
        return self._report(carry.state)


class Measured(Protocol):
    """What `line_of` asks of a program, of one training or of many side by side."""

    objective: str

    @property
    def test(self) -> dict[str, jax.Array] | None: ...  # noqa: D102

    def example_batch(self) -> dict[str, jax.Array]: ...  # noqa: D102

    def evaluate(  # noqa: D102
        self, carry: Carry, *, with_gradient: bool, data: dict[str, jax.Array] | None = None
    ) -> Metrics: ...

    def report(self, carry: Carry) -> Metrics: ...  # noqa: D102


def line_of(program: Measured, carry: Carry, steps: int) -> dict[str, Any]:
    """The numbers of a line of the log, `steps` steps after the last; not all fetched yet."""
    means = {}
    if steps:
        means = {k: np.asarray(v, float) / steps for k, v in carry.sums.items()}
    if program.objective == "full":
        means.pop("batch_grad_norm", None)
        numbers: dict[str, Any] = dict(program.evaluate(carry, with_gradient=True))
    else:
        numbers = {k.removeprefix("batch_"): v for k, v in means.items()}
        if not steps:  # nothing to take a mean of yet: the first samples stand for it
            batch = program.example_batch()
            numbers = dict(program.evaluate(carry, with_gradient=True, data=batch))
        means = {}
    if program.test is not None:
        test = program.evaluate(carry, with_gradient=False, data=program.test)
        numbers |= {f"test_{k}": v for k, v in test.items()}
    return numbers | means | (dict(program.report(carry)) if steps else {})


def gather(data: dict[str, jax.Array], index: jax.Array) -> dict[str, jax.Array]:
    """The samples of `index` as a batch, with their numbers."""
    return {"index": index, **{k: v[index] for k, v in data.items()}}


def _placed(step: Step, place: Placement) -> Step:
    """The step on a batch split over the devices; what it gives is whole on each."""

    def placed(state, batch):
        return place.whole(step(state, place.split(batch)))

    return placed


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
