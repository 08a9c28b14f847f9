"""The compiled functions of one training: initialise, refresh, run many steps, evaluate."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from lpml.data import Dataset, batch_indices
from lpml.models import Supervised
from lpml.optim import PeriodicTransformation
from lpml.training.state import TrainState
from lpml.training.step import Step, make_evaluate, make_refresh, make_step

# Rows of the index buffer: so many steps fit in one call of the compiled loop.
MAX_STEPS_PER_CALL = 16384
MAX_INDICES_PER_CALL = 2**20


class Carry(struct.PyTreeNode):
    """What travels from call to call, and into checkpoints.

    Attributes:
      state: the train state.
      sums: metrics of the steps since the last line of the log, summed.
      count: () int32, how many steps that are.
      bad_step: () int32, the first step with a non-finite loss, -1 while there is none.
    """

    state: TrainState
    sums: dict[str, jax.Array]
    count: jax.Array
    bad_step: jax.Array


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
    ):
        self.model, self.tx, self.batches = model, tx, batches
        self.objective = objective
        self.train = jax.device_put(dataset.train)
        self.test = None if dataset.test is None else jax.device_put(dataset.test)
        step = make_step(model, with_grad_norm=objective == "batch")
        self._run = jax.jit(_many_steps(step), donate_argnums=0)
        self._run_one = jax.jit(_one_step(step), donate_argnums=0)
        refresh = make_refresh(model, batch_size=full_batch_size)
        self._refresh = jax.jit(
            lambda carry, data: carry.replace(state=refresh(carry.state, data)),
            donate_argnums=0,
        )
        self._evaluate = {
            with_gradient: jax.jit(
                make_evaluate(model, with_gradient=with_gradient, batch_size=full_batch_size)
            )
            for with_gradient in (False, True)
        }
        self._step = step

    @property
    def refresh_every(self) -> int | None:
        """Steps between two passes over the data, None where the algorithm wants none."""
        return self.tx.every if isinstance(self.tx, PeriodicTransformation) else None

    def init(self, seed: int) -> Carry:
        """The carry before the first step."""
        return jax.jit(self._init)(jax.random.key(seed), self.example_batch())

    def example_batch(self) -> dict[str, jax.Array]:
        """The first samples of the training set, as a batch of the run's size."""
        index = jnp.arange(self.batches.batch_size, dtype=jnp.int32) % self.batches.size
        return _gather(self.train, index)

    def _init(self, key: jax.Array, batch: dict[str, jax.Array]) -> Carry:
        init_key, run_key = jax.random.split(key)
        params, model_state = self.model.init(init_key, batch)
        state = TrainState.create(
            params=params, tx=self.tx, key=run_key, model_state=model_state
        )
        _, metrics = jax.eval_shape(self._step, state, batch)
        sums = jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), metrics)
        return Carry(state, sums, jnp.zeros((), jnp.int32), jnp.full((), -1, jnp.int32))

    def refresh(self, carry: Carry) -> Carry:
        """The pass over the data that is due before this step."""
        return self._refresh(carry, self.train)

    def run(self, carry: Carry, start: int, count: int) -> Carry:
        """`count` steps from step `start`, at most `batches.rows`; a bad loss is marked."""
        indices = self.batches.indices(start, count)
        if self.model.heavy:
            for index in jnp.asarray(indices[:count]):
                carry = self._run_one(carry, self.train, index)
            return carry
        return self._run(carry, self.train, indices, np.int32(count))

    def measure(self, carry: Carry) -> tuple[Carry, dict[str, float]]:
        """The numbers of a line of the log, and the carry with its sums reset."""
        steps = int(carry.count)
        means = {k: float(v) / max(steps, 1) for k, v in carry.sums.items()} if steps else {}
        if self.objective == "full":
            means.pop("batch_grad_norm", None)
            numbers: dict[str, Any] = dict(self._evaluate[True](carry.state, self.train))
        else:
            numbers = {k.removeprefix("batch_"): v for k, v in means.items()}
            if not steps:  # nothing to take a mean of yet: the first samples stand for it
                numbers = dict(self._evaluate[True](carry.state, self.example_batch()))
            means = {}
        if self.test is not None:
            test = self._evaluate[False](carry.state, self.test)
            numbers |= {f"test_{k}": v for k, v in test.items()}
        numbers.update(means)
        if isinstance(self.tx, PeriodicTransformation) and steps:
            numbers.update(self.tx.report(carry.state.opt_state))
        carry = carry.replace(
            sums=jax.tree.map(jnp.zeros_like, carry.sums), count=jnp.zeros((), jnp.int32)
        )
        fetched = jax.device_get(numbers)  # one transfer; it sorts the names
        return carry, {name: float(fetched[name]) for name in numbers}


def _gather(data: dict[str, jax.Array], index: jax.Array) -> dict[str, jax.Array]:
    return {"index": index, **{k: v[index] for k, v in data.items()}}


def _one_step(step: Step) -> Callable[..., Carry]:
    """`(carry, data, index) -> carry`: a step on the samples of `index`, and its metrics."""

    def run(carry, data, index):
        at = carry.state.step
        state, metrics = step(carry.state, _gather(data, index))
        bad = (carry.bad_step < 0) & ~jnp.isfinite(metrics["batch_loss"])
        return Carry(
            state=state,
            sums=jax.tree.map(jnp.add, carry.sums, metrics),
            count=carry.count + 1,
            bad_step=jnp.where(bad, at, carry.bad_step),
        )

    return run


def _many_steps(step: Step) -> Callable[..., Carry]:
    """A loop of a traced number of steps: one compiled program for every chunk length."""
    one_step = _one_step(step)

    def run(carry, data, indices, count):
        def going(loop):
            i, carry = loop
            return (i < count) & (carry.bad_step < 0)

        def body(loop):
            i, carry = loop
            return i + 1, one_step(carry, data, indices[i])

        return jax.lax.while_loop(going, body, (jnp.zeros_like(count), carry))[1]

    return run
