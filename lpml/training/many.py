"""Many trainings that differ only in numbers, as one compiled program."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lpml.training.beside import Nothing
from lpml.training.program import (
    MAX_INDICES_PER_CALL,
    Carry,
    Program,
    line_of,
    many_steps,
)
from lpml.training.step import Metrics

Settings = dict[str, jax.Array]
"""Traced settings: (P,) arrays by name, one entry per training."""


class ManyPrograms:
    """P trainings under `vmap`: one compilation, one step for all of them.

    They share everything static (model, shapes, schedule) and may differ in seed, in the
    numbers of `settings` and in the contents of their data. A carry has a leading axis of P.
    A training whose loss is not finite goes on computing, so that the others need no branch;
    its `bad_step` tells.

    Args:
      programs: one per training; the first is the pattern.
      settings: values per training of every traced setting, (P,) each, all int or all float.
      make_tx: the transformation for traced scalars by name.
      likes: the carry of each training by itself, as shapes (see `split`).
    """

    def __init__(
        self,
        programs: Sequence[Program],
        settings: Mapping[str, Sequence[int | float]],
        make_tx: Callable[[Mapping[str, Any]], optax.GradientTransformation],
        *,
        likes: Sequence[Carry],
    ):
        self.programs = programs
        self.pattern = programs[0]
        self.objective, self.beside = self.pattern.objective, Nothing()
        self._settings = {name: weak_array(values) for name, values in settings.items()}
        self._make_tx = make_tx
        self._likes = likes
        axis = None if self._data_shared else 0
        step = self._lifted("step", (0, axis, 0), jit=False)
        # the loop is outside of vmap: inside, its condition would become a select per step
        self._run = jax.jit(
            many_steps(lambda carry, data, index, values: step(values, carry, data, index)),
            donate_argnums=0,
        )
        self._run_one = jax.jit(step, donate_argnums=1)
        self._init = self._lifted("init", (0, axis))
        self._refresh = self._one_by_one("refresh", donate_argnums=1)
        self._evaluate = {
            with_gradient: self._one_by_one(name)
            for with_gradient, name in (
                (False, "evaluate"),
                (True, "evaluate_with_gradient"),
            )
        }
        self._report = self._lifted("report", (0,))

    @property
    def rows(self) -> int:
        """Most steps of one call of `run`."""
        per_step = self.pattern.batches.batch_size * len(self.programs)
        return min(self.pattern.rows, max(16, MAX_INDICES_PER_CALL // per_step))

    @functools.cached_property
    def train(self) -> dict[str, jax.Array]:
        """The training set: shared, or (P, N, ...) where the trainings differ in it."""
        return self._placed([program.dataset.train for program in self.programs])

    @functools.cached_property
    def test(self) -> dict[str, jax.Array] | None:
        """The test set, as `train`."""
        tests = [program.dataset.test for program in self.programs]
        return None if tests[0] is None else self._placed(tests)

    def init(self, seeds: Sequence[int]) -> Carry:
        """The carry before the first step; leading axis P."""
        return self._init(self._settings, _keys(seeds), self.example_batch())

    def example_batch(self) -> dict[str, jax.Array]:
        """The first samples of the training set; with a leading axis P as `train` has."""
        size = self.pattern.batches.batch_size
        index = jnp.arange(size, dtype=jnp.int32) % self.pattern.batches.size
        if self._data_shared:
            return {"index": index, **{k: v[index] for k, v in self.train.items()}}
        rows = {k: v[:, index] for k, v in self.train.items()}
        return {"index": jnp.tile(index, (len(self.programs), 1)), **rows}

    def refresh(self, carry: Carry) -> Carry:
        """The pass over the data that is due before this step."""
        return self._refresh(self._settings, carry, self.train)

    def run(self, carry: Carry, start: int, count: int) -> Carry:
        """`count` steps from step `start`, at most `rows`; bad losses are marked."""
        indices = self._indices(start, count)
        if self.pattern.model.heavy:
            for index in jnp.asarray(indices[:count]):
                carry = self._run_one(self._settings, carry, self.train, index)
            return carry
        return self._run(carry, self.train, indices, np.int32(count), self._settings)

    def measure(self, carry: Carry) -> tuple[Carry, list[dict[str, float]]]:
        """The numbers of a line of the log for every training, and the carry, sums reset."""
        steps = int(np.asarray(carry.count)[0])
        numbers = line_of(self, carry, steps)
        carry = carry.replace(
            sums=jax.tree.map(jnp.zeros_like, carry.sums), count=jnp.zeros_like(carry.count)
        )
        columns = {name: np.asarray(numbers[name], float) for name in numbers}
        return carry, [
            {name: float(column[i]) for name, column in columns.items()}
            for i in range(len(self.programs))
        ]

    def evaluate(
        self, carry: Carry, *, with_gradient: bool, data: dict[str, jax.Array] | None = None
    ) -> Metrics:
        """The objective of every training over `data`, by default its training set; (P,)."""
        data = self.train if data is None else data
        return self._evaluate[with_gradient](self._settings, carry.state, data)

    def report(self, carry: Carry) -> Metrics:
        """What the transformations say of themselves; (P,) each."""
        return self._report(self._settings, carry.state)

    def stacked(self, carries: Sequence[Carry]) -> Carry:
        """The carries of single trainings, in the dtypes of this program, as one.

        A traced width is stored in the widest code, so codes may change their type here.
        """
        keys = _keys([0] * len(self.programs))
        like = jax.eval_shape(self._init, self._settings, keys, self.example_batch())
        pattern = jax.tree.structure(like)  # with this program's transformation

        def stack(wanted, *leaves):
            joined = jnp.stack(leaves)
            keys = jax.dtypes.issubdtype(wanted.dtype, jax.dtypes.prng_key)
            return joined if keys else joined.astype(wanted.dtype)

        rows = [jax.tree.unflatten(pattern, jax.tree.leaves(carry)) for carry in carries]
        return jax.tree.map(stack, like, *rows)

    def split(self, carry: Carry, rows: Sequence[int]) -> list[Carry]:
        """The carries of the trainings `rows`, each as its single program would hold it."""
        words = jax.random.key_data(carry.state.key)
        impl = jax.random.key_impl(carry.state.key)
        plain = carry.replace(state=carry.state.replace(key=words))
        host = jax.device_get(plain)  # one transfer
        return [self._single(host, row, impl) for row in rows]

    def _single(self, host, row, impl):
        like = self._likes[row]
        key = jax.random.wrap_key_data(host.state.key[row], impl=impl)
        host = host.replace(state=host.state.replace(key=np.zeros(len(self.programs))))
        leaves = [leaf[row] for leaf in jax.tree.leaves(host)]
        carry = jax.tree.unflatten(jax.tree.structure(like), leaves)
        carry = carry.replace(state=carry.state.replace(key=key))
        return jax.tree.map(
            lambda leaf, wanted: leaf if leaf is key else np.asarray(leaf, wanted.dtype),
            carry,
            like,
        )

    @functools.cached_property
    def _data_shared(self) -> bool:
        return all(p.dataset is self.pattern.dataset for p in self.programs)

    def _placed(self, parts):
        if self._data_shared:
            return jax.device_put(parts[0])
        return {name: jnp.stack([part[name] for part in parts]) for name in parts[0]}

    def _indices(self, start, count):
        """Sample indices (rows, P, batch) int32; trainings of one seed see the same."""
        drawn: dict[int, np.ndarray] = {}
        for program in self.programs:
            seed = program.batches.seed
            if seed not in drawn:
                drawn[seed] = program.batches.indices(start, count)[: self.rows]
        return np.stack([drawn[p.batches.seed] for p in self.programs], axis=1)

    def _lifted(self, name, in_axes, *, jit=True, **options):
        """A pure function of the single program for P trainings: `(settings, *arguments)`."""
        mapped = jax.vmap(self._called(name), in_axes=(0, *in_axes))
        return jax.jit(mapped, **options) if jit else mapped

    def _one_by_one(self, name, **options):
        """`_lifted` for passes over the data `(settings, thing, data)`, in a compiled loop.

        Each sums in the order of a single run; under `vmap` another order would move the
        floor that float64 sets to a gradient norm by a third. They are rare, and large
        enough to fill the device by themselves.
        """
        call = self._called(name)

        def run(settings, thing, data):
            if self._data_shared:
                return jax.lax.map(lambda each: call(*each, data), (settings, thing))
            return jax.lax.map(lambda each: call(*each), (settings, thing, data))

        return jax.jit(run, **options)

    def _called(self, name):
        pattern = self.pattern

        def call(settings, *arguments):
            tx = self._make_tx(settings)
            pure = pattern.pure(tx)
            # traced settings live in `tx` only inside of the trace: what comes in and goes
            # out holds the pattern's
            arguments = [_with_tx(argument, tx) for argument in arguments]
            return _with_tx(getattr(pure, name)(*arguments), pattern.tx)

        return call


def _keys(seeds):
    return jnp.stack([jax.random.key(seed) for seed in seeds])


def _with_tx(thing, tx):
    """A carry with another transformation; anything else as it is."""
    if not isinstance(thing, Carry):
        return thing
    tx = optax.with_extra_args_support(tx)
    return thing.replace(state=thing.state.replace(tx=tx))


def weak_array(values: Sequence[int | float]) -> jax.Array:
    """Numbers as one array that, like a Python number, takes the dtype of what it meets.

    So a traced rate in a float32 step gives float32 even where x64 is enabled, as the same
    rate written in a config does.
    """
    return jax.lax.concatenate([jnp.asarray(value)[None] for value in values], 0)
