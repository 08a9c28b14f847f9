"""Schedules against their formulas, one after another; AdaGrad and Muon against optax's."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lpml.optim import adagrad, adam, momentum, muon, shampoo
from lpml.optim.schedules import scheduled, stepped
from lpml.training.assemble import traceable

N, T = 4, 20
FORMULAS = {
    "none": lambda x: 1.0,
    "cosine": lambda x: math.cos(math.pi * x / 2) ** 2,
    "linear": lambda x: 1 - x,
    "quadratic": lambda x: 1 - 2 * x + x * x,
}


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def rates(schedule, steps=T + 3):
    return np.asarray(jax.vmap(schedule)(jnp.arange(steps, dtype=jnp.int32)))


@pytest.mark.parametrize("warmup", [0, N])
@pytest.mark.parametrize("decay", ["cosine", "linear", "quadratic"])
def test_a_decay_follows_its_formula_to_0_and_stays_there(decay, warmup):
    found = rates(scheduled(0.3, warmup_steps=warmup, decay=decay, decay_steps=T))
    for t in range(T + 3):
        left = FORMULAS[decay](min(max(t - warmup, 0) / (T - warmup), 1))
        grown = min((t + 1) / warmup, 1) if warmup else 1
        assert found[t] == pytest.approx(0.3 * left * grown, rel=1e-13, abs=1e-16)
    assert (found[:T] > 0).all()
    assert (found[T:] == 0).all()


def test_a_warm_up_without_decay_ends_at_the_rate_itself():
    found = rates(scheduled(0.3, warmup_steps=N), 8)
    np.testing.assert_allclose(found[:N], [0.075, 0.15, 0.225, 0.3], rtol=1e-14)
    assert (found[N:] == 0.3).all()


def test_the_inverse_root_is_of_the_step_or_of_the_transformer():
    t = np.arange(1.0, 12)
    np.testing.assert_array_equal(rates(scheduled(0.3, decay="sqrt"), 11), 0.3 / np.sqrt(t))
    # Vaswani et al., 2017, whose rate at the end of the warm-up is here the rate
    theirs = 0.3 * math.sqrt(N) * np.minimum(t**-0.5, t * N**-1.5)
    mine = rates(scheduled(0.3, warmup_steps=N, decay="sqrt"), 11)
    np.testing.assert_allclose(mine, theirs, rtol=1e-14)


def test_a_rate_that_nothing_changes_is_handed_on_as_it_is():
    assert scheduled(0.3) == 0.3
    assert stepped(0.3, (), 0.1) == 0.3


def test_schedules_multiply():
    within = stepped(lambda count: 1.0 + count, (2, 5), 0.1)
    found = rates(scheduled(within, decay="linear", decay_steps=10), 10)
    steps = np.arange(10)
    factor = np.where(steps < 2, 1, np.where(steps < 5, 0.1, 0.01))
    np.testing.assert_allclose(found, (1 + steps) * factor * (1 - steps / 10), rtol=1e-14)


# --- in optimizers ---

WITH_SCHEDULE = {
    "adam": (adam, {}),
    "adagrad": (adagrad, {}),
    "momentum": (momentum, dict(warmup="linear")),
    "muon": (muon, {}),
    "shampoo": (shampoo, dict(refresh="host")),
}
PARAMS = {"w": np.arange(6.0).reshape(3, 2) / 5 - 0.4, "b": np.array([0.3, -0.2])}


def through(tx, steps=7):
    """Updates of a fixed sequence of gradients, by step."""

    def step(state, gradient):
        update, state = tx.update(gradient, state, PARAMS)
        return state, update

    random = np.random.default_rng(3)
    gradients = {
        k: jnp.asarray(random.standard_normal((steps, *p.shape))) for k, p in PARAMS.items()
    }
    first = jax.tree.map(jnp.asarray, PARAMS)
    return jax.jit(lambda: jax.lax.scan(step, tx.init(first), gradients)[1])()


def equal(left, right, rtol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol), left, right)


@pytest.mark.parametrize("name", WITH_SCHEDULE)
def test_every_optimizer_takes_a_schedule_from_its_settings(name):
    make, more = WITH_SCHEDULE[name]
    settings = dict(warmup_steps=3, decay="cosine", decay_steps=6)
    rate = np.array([scheduled(0.1, **settings)(jnp.int32(t)) for t in range(7)])
    found = through(make(0.1, weight_decay=0.1, **settings, **more))
    plain = through(make(0.1, weight_decay=0.1))
    scale = {k: rate.reshape(-1, *[1] * p.ndim) / 0.1 for k, p in PARAMS.items()}
    equal(found, jax.tree.map(np.multiply, plain, scale))


def test_momentum_keeps_its_own_warm_up_beside_a_decay():
    settings = dict(warmup_steps=3, warmup_rate=0.02)
    held = through(momentum(0.1, **settings, decay="linear", decay_steps=7))
    plain = through(momentum(1.0))
    rate = np.array([0.02, 0.02, 0.02, 0.1, 0.075, 0.05, 0.025])
    equal(held["b"], plain["b"] * rate[:, None])
    grown = through(momentum(0.1, **settings, warmup="linear"))
    rate = np.array([0.02 + 0.08 / 3, 0.02 + 0.16 / 3, 0.1, 0.1, 0.1, 0.1, 0.1])
    equal(grown["b"], plain["b"] * rate[:, None])


def test_a_rate_under_a_schedule_is_a_number_that_a_sweep_traces():
    settings = dict(learning_rate=0.1, warmup_steps=2, decay="linear", decay_steps=9)
    for name in WITH_SCHEDULE:
        assert traceable(dict(optim=dict(name=name, **settings))) == dict(learning_rate=0.1)
    many = jax.vmap(lambda rate: scheduled(rate, decay="linear", decay_steps=4)(2))
    np.testing.assert_allclose(many(jnp.asarray([0.1, 0.4])), [0.05, 0.2])


@pytest.mark.parametrize(("rms", "nesterov"), [(None, True), (0.2, False)])
def test_muon_is_that_of_optax(rms, nesterov):
    mine = muon(0.1, beta=0.9, rms=rms, nesterov=nesterov, b1=0.8, b2=0.95, weight_decay=0.1)
    theirs = optax.contrib.muon(
        0.1, beta=0.9, consistent_rms=rms, nesterov=nesterov, adam_b1=0.8, adam_b2=0.95,
        weight_decay=0.1, adam_weight_decay=0.1,
    )  # fmt: skip
    found = through(mine)
    equal(found, through(theirs), rtol=0)
    # and so a matrix moves by about its orthogonal factor
    step = -found["w"][0] / 0.1 - 0.1 * PARAMS["w"]
    values = np.linalg.svd(step, compute_uv=False)
    unit = rms * math.sqrt(3) if rms else 1.0
    assert (values > 0.6 * unit).all()
    assert (values < 1.3 * unit).all()


def test_adagrad_is_that_of_optax():
    found = through(adagrad(0.1, initial=0.2, eps=1e-3))
    equal(found, through(optax.adagrad(0.1, 0.2, 1e-3)), rtol=0)


@pytest.mark.parametrize(
    ("make", "changes", "sentence"),
    [
        (adam, dict(decay="cosine"), "decay 'cosine' needs decay_steps"),
        (adam, dict(decay_steps=9), "decay_steps = 9 has no meaning for decay 'none'"),
        (adam, dict(decay="cubic"), "decay 'cubic' does not exist; choose from none, cosine"),
        (adam, dict(warmup_steps=-1), "warmup_steps = -1 must not be negative"),
        (
            adagrad,
            dict(decay="linear", decay_steps=5, warmup_steps=5),
            "decay_steps = 5 must be more than the 5 steps",
        ),
        (adagrad, dict(initial=-1.0), "initial = -1.0 must not be negative"),
        (adagrad, dict(eps=0.0), "eps = 0.0 must be positive"),
        (momentum, dict(warmup="cosine"), "warmup 'cosine' does not exist"),
        (muon, dict(beta=1.0), r"beta = 1.0 must be in \[0, 1\)"),
        (muon, dict(iterations=0), "iterations = 0 must be at least 1"),
        (muon, dict(rms=0.0), "rms = 0.0 must be positive"),
        (shampoo, dict(learning_rate=-1.0), "learning_rate = -1.0 must be positive"),
    ],
)
def test_settings_out_of_range_are_refused(make, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(**dict(learning_rate=0.1) | changes)
