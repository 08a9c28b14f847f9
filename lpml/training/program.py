"""The compiled functions of one training: initialise, refresh, run many steps, evaluate."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lpml.data import Dataset, batch_indices
from lpml.models import Supervised
from lpml.optim import PeriodicTransformation, inner_loop_of, prepare_of
from lpml.parallel import Placement
from lpml.training import portable
from lpml.training.beside import beside
from lpml.training.buckets import Buckets
from lpml.training.pure import Carry, Functions, functions, gather
from lpml.training.scoring import Translations
from lpml.training.step import Metrics
from lpml.training.workers import Workers

# Rows of the index buffer: so many steps fit in one call of the compiled loop.
MAX_STEPS_PER_CALL = 16384
MAX_INDICES_PER_CALL = 2**17


@dataclasses.dataclass(frozen=True)
class Batches:
    """How training samples are drawn: a pure function of (seed, step)."""

    seed: int
    size: int
    batch_size: int
    sampling: str
    buckets: Buckets | None = None

    @property
    def rows(self) -> int:
        """Steps whose indices fit in one call's buffer."""
        return int(np.clip(MAX_INDICES_PER_CALL // self.batch_size, 16, MAX_STEPS_PER_CALL))

    def indices(self, start: int, count: int) -> np.ndarray:
        """Sample indices of steps start .. start + count - 1, padded to (rows, batch) int32."""
        padded = np.zeros((self.rows, self.batch_size), np.int32)
        padded[:count] = self._drawn(start, count)
        return padded

    def _drawn(self, start, count):
        if self.buckets is not None:
            return self.buckets.indices(self.seed, start, count, self.batch_size)
        return batch_indices(
            self.seed,
            start,
            count,
            size=self.size,
            batch_size=self.batch_size,
            sampling=self.sampling,
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
      place: the devices; every batch is split over them, the carry is whole on each but for
        what its optimizer shares out.
      alone: the same transformation as of one device, whose state is the form of a checkpoint;
        None: as `tx`.
      workers: among whom a batch is shared out, each of whom has a gradient; None: nobody.
      start_from: folder of the run to take the first parameters from; see `starting`.
      translations: whose BLEU is `test_bleu` at every line of the log; None: nobody's.
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
        alone: optax.GradientTransformation | None = None,
        workers: Workers | None = None,
        start_from: str | None = None,
        translations: Translations | None = None,
    ):
        self.start_from, self.workers = start_from, workers
        self.translations = translations
        self.model, self.tx, self.batches = model, tx, batches
        self.alone = tx if alone is None else alone
        self.dataset = dataset
        self.beside = beside(tx)
        self.objective = objective
        self.full_batch_size = full_batch_size
        self.place = place = place or Placement()
        pure = self.pure(tx)
        self._init = place.jit(pure.init)
        self._run = place.jit(pure.run, donate_argnums=(0,))
        self._run_one = place.jit(pure.step, donate_argnums=(0,))
        self._refresh = place.jit(pure.refresh, donate_argnums=(0,))
        self._evaluate = place.jit(pure.evaluate)
        self._evaluate_with_gradient = place.jit(pure.evaluate_with_gradient)
        self._reset = place.jit(lambda sums: jax.tree.map(jnp.zeros_like, sums))
        self._report = pure.report
        self._tell = place.jit(pure.tell) if pure.tell else None

    def pure(self, tx: optax.GradientTransformation) -> Functions:
        """The functions of this training, not compiled, with `tx` for its transformation."""
        return functions(
            self.model,
            tx,
            objective=self.objective,
            full_batch_size=self.full_batch_size,
            place=self.place,
            workers=self.workers,
            translations=self.translations,
            buckets=self.batches.buckets,
        )

    @functools.cached_property
    def train(self) -> dict[str, jax.Array]:
        """The training set on the device."""
        return self.place.put(self.dataset.train)

    @functools.cached_property
    def prepared(self) -> dict[str, jax.Array]:
        """What the transformation made of the training set, on the device; {}: nothing."""
        prepare = prepare_of(self.tx)
        if prepare is None:
            return {}
        made = prepare(self.dataset.train)
        as_they_are = {id(v): self.train[k] for k, v in self.dataset.train.items()}
        fresh = {k: v for k, v in made.items() if id(v) not in as_they_are}
        old = {k: as_they_are[id(v)] for k, v in made.items() if k not in fresh}
        return {**self.place.put(fresh), **old}

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
        """What a checkpoint holds, as shapes and dtypes; nothing is computed or moved.

        That is what `init` gives on one device.
        """
        if self.alone is self.tx:
            return self.beside.shapes(self._shapes(self._init))
        alone = self._shapes(self.pure(self.alone).init)
        # the structure is that of this program's carry, of which `tx` is a part
        own = alone.replace(state=alone.state.replace(tx=self._laid_shapes.state.tx))
        return self.beside.shapes(own)

    def gathered(self, carry: Carry) -> Carry:
        """The carry in the form of a checkpoint; of several processes, all must call it."""
        if self.alone is self.tx:
            return carry
        return portable.gathered(carry, self.shapes())

    def laid(self, carry: Carry) -> Carry:
        """The carry of a checkpoint's form in numpy arrays, laid where this program wants it.

        Its key is given in words.
        """
        like = self._laid_shapes
        opt_state = portable.padded(carry.state.opt_state, like.state.opt_state)
        carry = carry.replace(state=carry.state.replace(opt_state=opt_state))
        if carry.beside is not None:
            beside = portable.padded(carry.beside, self.beside.shapes(like).beside)
            carry = carry.replace(beside=beside)
        return self.place.put(carry)

    @functools.cached_property
    def _laid_shapes(self) -> Carry:
        return self._shapes(self._init)

    def _shapes(self, init: Callable[..., Carry]) -> Carry:
        size = self.batches.batch_size
        batch = {
            k: jax.ShapeDtypeStruct((size, *v.shape[1:]), v.dtype)
            for k, v in self.dataset.train.items()
        }
        batch["index"] = jax.ShapeDtypeStruct((size,), jnp.int32)
        return jax.eval_shape(init, jax.eval_shape(jax.random.key, 0), batch)

    def example_batch(self) -> dict[str, jax.Array]:
        """The first samples of the training set, as a batch of the run's size."""
        index = jnp.arange(self.batches.batch_size, dtype=jnp.int32) % self.batches.size
        return gather(self.train, index)

    def refresh(self, carry: Carry) -> Carry:
        """The pass over the data that is due before this step."""
        return self._refresh(carry, self.train, self.prepared)

    def run(self, carry: Carry, start: int, count: int) -> Carry:
        """`count` steps from step `start`, at most `rows`; a bad loss is marked."""
        indices = self.batches.indices(start, count)
        if self.model.heavy and inner_loop_of(self.tx) is None:
            for index in self.place.each(indices[:count]):
                carry = self._run_one(carry, self.train, index)
            return carry
        laid = self.place.indices(indices)
        return self._run(carry, self.train, self.prepared, laid, np.int32(count))

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

    def scores(self, carry: Carry) -> dict[str, Any]:
        """What is counted outside of the program: BLEU, where translations are wanted."""
        if self._tell is None or self.translations is None:
            return {}
        told = self._tell(carry.state, self.test)
        return {"test_bleu": self.translations.bleu(told)}


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

    def scores(self, carry: Carry) -> dict[str, Any]: ...  # noqa: D102


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
    numbers |= program.scores(carry)
    return numbers | means | (dict(program.report(carry)) if steps else {})
