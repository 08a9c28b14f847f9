import dataclasses
import functools
from typing import NamedTuple

import jax
import numpy as np
import optax
import pytest
from sklearn.datasets import make_regression

from lpml import models
from lpml.data import Dataset, quantize_inputs
from lpml.models import Supervised
from lpml.optim import PeriodicTransformation, mean_over_data


class History(NamedTuple):
    """What a training leaves behind; R runs, K epochs."""

    weights: np.ndarray  # (R, K, ...) the iterate after each epoch
    report: dict[str, np.ndarray]  # (R, K) by name
    opt_state: object  # the last one, leading axis R


@dataclasses.dataclass(frozen=True)
class Problem:
    """Arrays and a model, with what any training loop has to know of them."""

    model: Supervised
    x: np.ndarray
    y: np.ndarray
    input_scale: float | None = None

    @property
    def data(self):
        return {"x": self.x, "y": self.y}

    @property
    def optimum(self):
        """Minimiser of mean (x . w - y)^2 + (l2 / 2) ||w||^2, by normal equations."""
        x = np.asarray(self.x, np.float64)
        hessian = 2 * x.T @ x / len(x) + self.model.l2 * np.eye(x.shape[1])
        return np.linalg.solve(hessian, 2 * x.T @ self.y / len(x))

    def grad_norm(self, weights):
        """2-norm of the full gradient in float64 at weights (..., d, 1) of least squares."""
        x, w = np.asarray(self.x, np.float64), np.asarray(weights, np.float64)[..., 0]
        grad = 2 * (w @ x.T - self.y) @ x / len(x) + self.model.l2 * w
        return np.linalg.norm(grad, axis=-1)

    def init(self):
        return self.model.init(jax.random.key(0), {"x": self.x[:1]})[0]

    def batch(self, index):
        data = {name: jax.numpy.asarray(leaf) for name, leaf in self.data.items()}
        return {"index": index, **{name: leaf[index] for name, leaf in data.items()}}

    def loss(self, params, batch):
        return self.model.objective(params, {}, batch)[0]

    def full_grad(self, params):
        return mean_over_data(lambda batch: jax.grad(self.loss)(params, batch), self.data)

    def outputs(self, params):
        return self.model.outputs(params, {}, self.data)

    def step(self, tx, params, state, index, key, *, difference=True, **extra):
        """One step of a user's own loop; `difference`: offer the exact difference."""
        batch = self.batch(index)
        if difference:
            extra["gradient_difference_fn"] = lambda anchor, offset: (
                self.model.gradient_difference(anchor, offset, {}, batch)
            )
        updates, state = tx.update(
            jax.grad(self.loss)(params, batch),
            state,
            params,
            key=key,
            batch=batch,
            grad_fn=lambda at: jax.grad(self.loss)(at, batch),
            output_difference_fn=lambda out, change, b: self.model.loss.difference(
                out, change, b["y"]
            ),
            **extra,
        )
        return optax.apply_updates(params, updates), state

    def refresh(self, tx, params, state, key=None):
        return tx.refresh(
            state, params, full_grad_fn=self.full_grad, outputs_fn=self.outputs, key=key
        )

    def epoch(self, tx, params, state, order, key):
        """A refresh (where the transformation has one) and the steps over `order` (T, B)."""
        if isinstance(tx, PeriodicTransformation):
            params, state = self.refresh(tx, params, state, jax.random.fold_in(key, 10**6))

        order = jax.numpy.asarray(order)

        def body(t, carry):
            return self.step(tx, *carry, order[t], jax.random.fold_in(key, t))

        return jax.lax.fori_loop(0, len(order), body, (params, state))

    def trajectory(self, tx, count, *, start=0, carry=None, explicit=True, difference=True):
        """All iterates (count, d, 1) and the last (params, state), step by step in Python.

        `explicit`: calls refresh when it is due; else update gets `full_grad_fn`.
        """
        extra = {} if explicit else {"full_grad_fn": self.full_grad}
        step = jax.jit(lambda *args: self.step(tx, *args, difference=difference, **extra))
        refresh = jax.jit(lambda *args: self.refresh(tx, *args))
        params, state = carry or (self.init(), tx.init(self.init()))
        kept = []
        for t in range(start, start + count):
            key = jax.random.key(t)
            if explicit and t % tx.every == 0:
                params, state = refresh(params, state, key)
            params, state = step(params, state, np.array([7 * t % len(self.x)]), key)
            kept.append(np.asarray(jax.tree.leaves(params)[0]))
        return np.array(kept), (params, state)

    def train(self, make_tx, points, *, epochs, steps=None, batch_size=1, watch=None):
        """All `points` at once: dicts with `seed` and the numbers that `make_tx` takes.

        Equal seeds see the samples in equal order; T = 2 N / batch_size steps an epoch.
        `watch(params, state)` is what the history keeps of each epoch's end, one leaf.
        """
        watch = watch or truth
        steps = steps or 2 * len(self.x) // batch_size
        order = np.stack(
            [sample_order(p["seed"], epochs, steps, batch_size, len(self.x)) for p in points]
        )
        keys = jax.vmap(jax.random.key)(np.array([p["seed"] for p in points]))
        names = [name for name in points[0] if name != "seed"]
        numbers = {name: np.array([p[name] for p in points]) for name in names}

        def run(key, order, numbers):
            tx = make_tx(**numbers)
            params = self.init()

            def epoch(carry, numbered):
                k, order = numbered
                params, state = self.epoch(tx, *carry, order, jax.random.fold_in(key, k))
                (leaf,) = jax.tree.leaves(watch(params, state))
                report = getattr(tx, "report", lambda _: {})(state)
                return (params, state), (leaf, report)

            (_, state), history = jax.lax.scan(
                epoch, (params, tx.init(params)), (np.arange(epochs), order)
            )
            return (*history, state)

        weights, report, state = jax.device_get(jax.jit(jax.vmap(run))(keys, order, numbers))
        return History(np.asarray(weights), report, state)


def truth(params, state):
    """The iterate in the anchor's precision: anchor + scale * codes, where there are codes."""
    if not hasattr(state, "codes"):
        return params
    return jax.tree.map(
        lambda a, s, z: a + s * z.astype(a.dtype), state.anchor, state.scale, state.codes
    )


@functools.cache
def sample_order(seed, epochs, steps, batch_size, samples):
    generator = np.random.default_rng(seed)
    return generator.integers(samples, size=(epochs, steps, batch_size), dtype=np.int32)


@pytest.fixture(scope="module")
def x64():
    """A context with x64 enabled; nothing outside of it is touched."""
    return functools.partial(jax.enable_x64, True)


@pytest.fixture(scope="module")
def x32():
    """A context with x64 disabled, whatever the process was started with."""
    return functools.partial(jax.enable_x64, False)


@pytest.fixture
def in_x64(x64):
    with x64():
        yield


@pytest.fixture
def in_x32(x32):
    with x32():
        yield


@pytest.fixture(scope="session")
def least_squares():
    """Builds least squares problems by samples, features, l2, precision and input bits."""

    @functools.cache
    def build(samples=1000, features=100, *, l2=0.0, dtype="float64", input_bits=None):
        x, y = make_regression(samples, features, noise=1.0, random_state=0xC0FFEE)
        scale = None
        if input_bits:
            data = quantize_inputs(Dataset({"x": x, "y": y}, None, None), input_bits)
            x, scale = data.train["x"], data.input_scale
        model = models.linear_regression(l2=l2, dtype=dtype)
        return Problem(model, x.astype(dtype), y.astype(dtype), scale)

    return build


@pytest.fixture(scope="session")
def data_b(least_squares):
    """Data B of the HALP notes: 1000 x 100, noise 1."""
    return least_squares()


@pytest.fixture(scope="session")
def new_problem():
    """The class, for problems of a test's own."""
    return Problem
