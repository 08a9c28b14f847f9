"""Momentum with milestones against its recursion, and its rate as a traced number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml.optim import momentum
from lpml.training.assemble import traceable

START = np.array([1.0, -2.0, 0.5])
CURVATURE = np.array([1.0, 3.0, 0.2])


def run(tx, steps):
    def body(_, carry):
        w, state = carry
        updates, state = tx.update(CURVATURE * w, state, w)
        return w + updates, state

    w = jnp.asarray(START)
    return jax.lax.fori_loop(0, steps, body, (w, tx.init(w)))[0]


def by_hand(steps, *, rate, beta, nesterov, decay, milestones, factor):
    w, m = START.copy(), np.zeros(3)
    for t in range(steps):
        g = CURVATURE * w + decay * w
        m = beta * m + g
        alpha = rate * factor ** sum(at <= t for at in milestones)
        w = w - alpha * (g + beta * m if nesterov else m)
    return w


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("milestones", [(), (5, 9)])
def test_the_iterates_are_those_of_the_recursion(nesterov, milestones):
    with jax.enable_x64(True):
        tx = momentum(
            0.1, momentum=0.8, nesterov=nesterov, weight_decay=0.05,
            milestones=milestones, factor=0.3,
        )  # fmt: skip
        for steps in (5, 6, 14):
            expected = by_hand(
                steps, rate=0.1, beta=0.8, nesterov=nesterov, decay=0.05,
                milestones=milestones, factor=0.3,
            )  # fmt: skip
            np.testing.assert_allclose(run(tx, steps), expected, rtol=1e-12)


def test_rates_momenta_and_decays_are_numbers_that_a_sweep_traces():
    settings = dict(learning_rate=0.1, momentum=0.9, weight_decay=1e-4, factor=0.1)
    found = traceable(dict(optim=dict(name="momentum", milestones=(4,), **settings)))
    del settings["factor"]
    assert found == settings

    def train(rate, beta, decay):
        return run(momentum(rate, momentum=beta, weight_decay=decay, milestones=(4,)), 8)

    rates, betas, decays = (jnp.asarray(v) for v in ([0.1, 0.02], [0.9, 0.5], [0.0, 0.1]))
    together = jax.jit(jax.vmap(train))(rates, betas, decays)
    for i in range(2):
        alone = train(float(rates[i]), float(betas[i]), float(decays[i]))
        np.testing.assert_allclose(together[i], alone, rtol=2e-5)


@pytest.mark.parametrize("milestones", [(), (7,)])
def test_the_first_steps_have_the_rate_of_the_warm_up(milestones):
    with jax.enable_x64(True):
        tx = momentum(
            0.1, momentum=0.8, milestones=milestones, warmup_steps=5, warmup_rate=0.02
        )
        w, m = START.copy(), np.zeros(3)
        for t in range(9):
            m = 0.8 * m + CURVATURE * w
            rate = 0.02 if t < 5 else 0.1 if t < 7 or not milestones else 0.01
            w = w - rate * m
            if t in (4, 5, 8):
                np.testing.assert_allclose(run(tx, t + 1), w, rtol=1e-12)


def test_the_rate_of_the_warm_up_is_a_number_that_a_sweep_traces():
    settings = dict(name="momentum", learning_rate=0.1, warmup_steps=3, warmup_rate=1e-3)
    assert traceable(dict(optim=settings)) == dict(learning_rate=0.1, warmup_rate=1e-3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(learning_rate=0), "learning_rate = 0 must be positive"),
        (dict(momentum=1.0), r"momentum = 1.0 must be in \[0, 1\)"),
        (dict(weight_decay=-1), "weight_decay = -1 must not be negative"),
        (dict(factor=0), "factor = 0 must be positive"),
        (dict(warmup_steps=-1), "warmup_steps = -1 must not be negative"),
        (dict(warmup_steps=3, warmup_rate=-0.1), "warmup_rate = -0.1 must not be negative"),
        (dict(milestones=(9, 5)), r"milestones = \[9, 5\] must grow"),
        (dict(milestones=(0, 5)), r"milestones = \[0, 5\] must grow and be at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        momentum(**dict(learning_rate=0.1) | changes)
