"""The theorems' bounds, where they are affordable: eight rows of a Hadamard matrix (fact 22).

f_i(w) = (h_i . w - y_i)^2 / 2 with d 4, L 4, mu 1, kappa 4; 400 runs, option II, gamma 0.5.
"""

import jax
import numpy as np
import pytest

from lpml import models
from lpml.optim import halp, lp_svrg

DIMENSION, SMOOTHNESS, GAMMA = 4, 4.0, 0.5
RUNS = 400


@pytest.fixture(scope="module")
def hadamard(new_problem):
    two = np.array([[1.0, 1.0], [1.0, -1.0]])
    rows = np.kron(two, np.kron(two, two))[:, :DIMENSION]
    y = np.random.default_rng(0).normal(size=8)
    # (x . w - y)^2 without the half: both sides over sqrt(2)
    return new_problem(models.linear_regression(dtype="float64"), rows / 2**0.5, y / 2**0.5)


def gaps(problem, weights):
    """f(w) - f* of weights (..., d, 1): the Hessian is the identity."""
    return ((weights[..., 0] - problem.optimum) ** 2).sum(axis=-1) / 2


def test_halp_contracts_by_gamma_per_epoch(hadamard, x64):
    """Fact 22: alpha = gamma / (4 L (2 + gamma)), T = 8 kappa (2 + gamma) / gamma^2, b 7."""

    def make_tx():
        return halp(0.0125, inner_steps=320, bits=7, mu=1.0, option="II")

    at = [dict(seed=seed) for seed in range(RUNS)]
    with x64():
        anchors = hadamard.train(
            make_tx, at, epochs=8, steps=320, watch=lambda _, state: state.anchor
        ).weights
    mean = gaps(hadamard, anchors).mean(axis=0)
    assert mean[0] == pytest.approx(gaps(hadamard, np.zeros((DIMENSION, 1))))
    assert (mean[1:] / mean[:-1] <= GAMMA).all()


def test_lp_svrg_stays_below_its_bound_and_pays_delta_squared(hadamard, x64):
    """Fact 22: alpha = gamma / (4 L (1 + gamma)), T = 8 kappa (1 + gamma) / gamma^2."""

    def make_tx(delta):
        return lp_svrg(1 / 48, inner_steps=192, bits=8, radius=127 * delta, option="II")

    deltas = np.repeat([0.05, 0.1], RUNS)
    at = [dict(seed=seed, delta=delta) for seed, delta in enumerate(deltas)]
    with x64():
        anchors = hadamard.train(
            make_tx, at, epochs=15, steps=192, watch=lambda _, state: state.inner.anchor
        ).weights
    final = gaps(hadamard, anchors[:, -5:]).reshape(2, -1).mean(axis=1)
    constant = (1 + GAMMA) ** 2 / (GAMMA * (2 + GAMMA) * (1 - GAMMA))
    bound = DIMENSION * np.array([0.05, 0.1]) ** 2 * SMOOTHNESS * constant
    assert (final < bound).all()
    assert final[1] / final[0] == pytest.approx(4, rel=0.25)


def test_option_ii_draws_the_anchor_among_the_iterates(hadamard, in_x64):
    """The next anchor is the iterate w_t of a t in 0 .. T-1 that the key chose."""
    tx = halp(0.0125, inner_steps=6, bits=7, mu=1.0, option="II")
    step = jax.jit(lambda *args: hadamard.step(tx, *args))
    refresh = jax.jit(lambda *args: hadamard.refresh(tx, *args))
    params = hadamard.init()
    state = tx.init(params)
    drawn = []
    for epoch in range(12):
        iterates = []
        params, state = refresh(params, state, jax.random.key(epoch))
        drawn.append(int(state.chosen_at))
        for t in range(6):
            iterates.append(np.asarray(params["Dense_0"]["kernel"]))
            params, state = step(params, state, np.array([t]), jax.random.key(100 * epoch + t))
        anchor = refresh(params, state, jax.random.key(0))[0]["Dense_0"]["kernel"]
        np.testing.assert_array_equal(anchor, iterates[drawn[-1]])
        moved = [i for i, w in enumerate(iterates) if (w != iterates[drawn[-1]]).any()]
        assert len(moved) > 0
    assert set(drawn) <= set(range(6))
    assert len(set(drawn)) >= 4
