"""Fifty steps of Shampoo against a second one, in numpy, block by block and without stacks."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml.optim import shampoo
from lpml.optim.shampoo import find_state

STEPS = 50
# In blocks of 4: remainders of 2, four axes that merge to 4 x 6, a vector, three axes. Only two
# sizes in all, for every one is compiled apart.
SHAPES = {"a": (6, 10), "b": (2, 2, 1, 6), "c": (3,), "d": (2, 4, 6)}
EPSILON, GRAFT_EPS, RATE, DECAY, B1 = 1e-6, 1e-8, 0.02, 0.01, 0.9


def problem(names):
    """Coupled quadratics: curvature [n, n] with no axis of its own, targets, and noise."""
    random = np.random.default_rng(3)
    found = {}
    for name in names:
        shape = SHAPES[name]
        n = int(np.prod(shape))
        vectors = np.linalg.qr(random.standard_normal((n, n)))[0]
        curvature = (vectors * np.geomspace(0.05, 2, n)) @ vectors.T
        found[name] = curvature, random.standard_normal((STEPS, *shape))
    return found


def gradient(curvature, w, noise):
    return (curvature @ w.reshape(-1)).reshape(w.shape) + 0.3 * noise


class ByHand:
    """One tensor's Shampoo with RMSprop or AdaGrad grafting, Nesterov, decoupled decay."""

    def __init__(self, shape, *, block, beta2, every, merged=None):
        self.shape = merged or shape
        self.beta2, self.every, self.t = beta2, every, 0
        cuts = [range(0, n, block) for n in self.shape]
        self.corners = [
            tuple(slice(a, min(a + block, n)) for a, n in zip(at, self.shape))
            for at in itertools.product(*cuts)
        ]
        self.sums, self.roots = {}, {}
        self.v, self.m = np.zeros(shape), np.zeros(shape)

    def step(self, w, g):
        self.t += 1
        new = 1 if self.beta2 == 1 else 1 - self.beta2
        self.v = self.beta2 * self.v + new * g**2
        u = self.length_method(g)
        if len(self.shape) > 1:
            u = self.turned(g.reshape(self.shape), u.reshape(self.shape)).reshape(g.shape)
        self.m = B1 * self.m + (1 - B1) * u
        ahead = B1 * self.m + (1 - B1) * u
        return w - RATE * (ahead + DECAY * w)

    def length_method(self, g):
        if self.beta2 == 1:
            return g / np.sqrt(self.v + GRAFT_EPS)
        return g / (np.sqrt(self.v) + GRAFT_EPS)

    def turned(self, g, u):
        new = 1 if self.beta2 == 1 else 1 - self.beta2
        p = np.empty_like(g)
        for i, corner in enumerate(self.corners):
            part = g[corner]
            for axis in range(part.ndim):
                flat = np.moveaxis(part, axis, 0).reshape(part.shape[axis], -1)
                old = self.sums.get((i, axis), 0)
                self.sums[i, axis] = self.beta2 * old + new * flat @ flat.T
                if self.t % self.every == 0:
                    self.roots[i, axis] = root(self.sums[i, axis], 2 * part.ndim)
            if self.t < self.every:
                continue
            for axis in range(part.ndim):
                part = np.moveaxis(np.tensordot(self.roots[i, axis], part, (1, axis)), 0, axis)
            p[corner] = part
        if self.t < self.every:
            return u
        return p * np.linalg.norm(u) / np.linalg.norm(p)


def root(a, p):
    values, vectors = np.linalg.eigh(a)
    values = np.maximum(values, 0) + EPSILON * values.max()
    return (vectors * values ** (-1 / p)) @ vectors.T


def by_numpy(names, beta2, every):
    ends = {}
    for name, (curvature, noise) in problem(names).items():
        merged = {"b": (4, 6)}.get(name)
        hand = ByHand(SHAPES[name], block=4, beta2=beta2, every=every, merged=merged)
        w = np.ones(SHAPES[name])
        for t in range(STEPS):
            w = hand.step(w, gradient(curvature, w, noise[t]))
        ends[name] = w
    return ends


def by_program(names, beta2, every, *, root, dtype):
    tx = shampoo(
        RATE, block_size=4, beta2=beta2, epsilon=EPSILON, root=root, refresh_every=every,
        grafting="adagrad" if beta2 == 1 else "rmsprop", graft_eps=GRAFT_EPS, b1=B1,
        nesterov=True, weight_decay=DECAY,
    )  # fmt: skip
    found = problem(names)
    curvature = {name: jnp.asarray(a, dtype) for name, (a, _) in found.items()}
    noise = {name: jnp.asarray(e, dtype) for name, (_, e) in found.items()}

    def step(carry, noise):
        w, state = carry
        grads = jax.tree.map(gradient, curvature, w, noise)
        updates, state = tx.update(grads, state, w)
        return (jax.tree.map(jnp.add, w, updates), state), None

    w = {name: jnp.ones(SHAPES[name], dtype) for name in names}
    (w, state), _ = jax.jit(lambda w: jax.lax.scan(step, (w, tx.init(w)), noise))(w)
    assert not any(np.any(n) for n in find_state(state).refresh_failed.values())
    return w


slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("names", "beta2", "every"),
    [("abcd", 0.95, 5), ("ac", 1, 1), slow("abcd", 0.95, 1), slow("abcd", 1, 5)],
)
def test_fifty_steps_are_those_of_numpy(names, beta2, every):
    with jax.enable_x64(True):
        found = by_program(names, beta2, every, root="eigh", dtype="float64")
    expected = by_numpy(names, beta2, every)
    for name, w in expected.items():
        np.testing.assert_allclose(found[name], w, atol=1e-8)


def test_fifty_steps_in_float32_by_newton_stay_within_a_hundred_thousandth():
    found = by_program("ac", 0.95, 5, root="newton", dtype="float32")
    for name, w in by_numpy("ac", 0.95, 5).items():
        assert found[name].dtype == jnp.float32
        np.testing.assert_allclose(found[name], w, atol=1e-5)
