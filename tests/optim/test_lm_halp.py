"""LM-HALP: integer data, codes and scalars (fact 21, section 1.8)."""

from pathlib import Path

import jax
import numpy as np
import pytest

from lpml import config
from lpml.optim import lm_halp
from lpml.training.run import train

ROOT = Path(__file__).parent.parent.parent


def integer_halp(problem, *, bits=8, input_bits=8, mu=4.0, **kwargs):
    size = len(problem.x)
    return lm_halp(
        kwargs.pop("rate", 5e-4),
        inner_steps=2 * size,
        samples=size,
        input_scale=problem.input_scale,
        bits=bits,
        input_bits=input_bits,
        mu=mu,
        **kwargs,
    )


@pytest.fixture(scope="module")
def run8(least_squares, x64):
    problem = least_squares(input_bits=8)
    at = [dict(seed=seed) for seed in (1, 2, 3)]
    with x64():
        return problem, problem.train(lambda: integer_halp(problem), at, epochs=45)


def test_8_bit_integers_converge_below_1e_12(run8):
    """Fact 21: on the objective of the rounded inputs."""
    problem, history = run8
    assert (problem.grad_norm(history.weights)[:, -1] < 1e-12).all()


def test_the_accumulators_of_8_bit_operands_fit_int16(run8):
    """Fact 21: and they are used, not idle."""
    _, history = run8
    widest = history.report["halp/widest_accumulator"][:, -1]
    assert (widest < 2**15).all()
    assert (widest > 2**8).all()


def test_state_is_stored_in_the_small_types(run8):
    """Section 1.9: z on 8 bits, h on 16."""
    _, history = run8
    (codes,) = jax.tree.leaves(history.opt_state.codes)
    (step_grad,) = jax.tree.leaves(history.opt_state.step_grad)
    assert codes.dtype == np.int8
    assert step_grad.dtype == np.int16
    assert (history.report["halp/saturated"] < 1e-3).all()


def test_16_bit_integers_converge_below_1e_12(least_squares, x64):
    """Section 6.1: 16 bits everywhere."""
    problem = least_squares(input_bits=16)

    def make_tx():
        return integer_halp(problem, bits=16, input_bits=16)

    with x64():
        history = problem.train(make_tx, [dict(seed=1)], epochs=45)
    assert problem.grad_norm(history.weights)[0, -1] < 1e-12


def test_mu_auto_converges(least_squares, x64):
    problem = least_squares(input_bits=8)

    def make_tx():
        return integer_halp(problem, mu="auto")

    with x64():
        history = problem.train(make_tx, [dict(seed=1)], epochs=45)
    assert problem.grad_norm(history.weights)[0, -1] < 1e-12


@pytest.fixture(scope="module")
def small(least_squares):
    return least_squares(40, 6, input_bits=8)


def test_one_step_is_unbiased(small, in_x64):
    """The mean over keys is the exact step z - alpha (difference + full gradient)."""
    rate, index = 2e-2, np.array([20])
    tx = integer_halp(small, mu=1.0, rate=rate)
    step = jax.jit(lambda *args: small.step(tx, *args))
    params, state = small.init(), tx.init(small.init())
    params, state = small.refresh(tx, params, state, jax.random.key(0))
    for t in range(12):  # away from z = 0
        params, state = step(params, state, np.array([t]), jax.random.key(t))

    scale = state.scale["Dense_0"]["kernel"]
    offset = scale * state.codes["Dense_0"]["kernel"]
    difference = small.model.gradient_difference(
        state.anchor, {"Dense_0": {"kernel": offset}}, {}, small.batch(index)
    )
    # h was rounded once for the epoch; its own rounding is tested below
    full_step = scale / 256 * state.step_grad["Dense_0"]["kernel"]
    wanted = offset - rate * difference["Dense_0"]["kernel"] - full_step

    keys = jax.random.split(jax.random.key(1), 4096)
    moved, _ = jax.vmap(step, (None, None, None, 0))(params, state, index, keys)
    draws = moved["Dense_0"]["kernel"] - state.anchor["Dense_0"]["kernel"]
    assert (draws.std(axis=0) > 0).all()
    assert (np.abs(draws.mean(axis=0) - wanted) <= 4 * draws.std(axis=0) / 64).all()


def test_the_rounded_full_gradient_is_unbiased(small, in_x64):
    """h = Q(alpha g) on the spacing s / 256."""
    tx = integer_halp(small, mu=1.0, rate=2e-2)
    params, state = small.init(), tx.init(small.init())

    @jax.jit
    @jax.vmap
    def refreshed(key):
        return small.refresh(tx, params, state, key).opt_state

    states = refreshed(jax.random.split(jax.random.key(1), 4096))
    draws = states.step_grad["Dense_0"]["kernel"].astype(float)
    unit = states.scale["Dense_0"]["kernel"][0] / 256
    wanted = 2e-2 * states.full_grad["Dense_0"]["kernel"][0] / unit
    assert (np.abs(draws.mean(axis=0) - wanted) <= 4 * draws.std(axis=0) / 64 + 1e-6).all()


def test_interrupted_anywhere_it_continues_bit_for_bit(small, in_x64):
    """Fact 20: parameters and state are all there is."""
    tx = integer_halp(small, mu=2.0, rate=2e-3)
    step = jax.jit(lambda *args: small.step(tx, *args))

    def go(params, state, start, end):
        for t in range(start, end):
            params, state = step(params, state, np.array([t % 40]), jax.random.key(t))
        return params, state

    params, state = small.refresh(tx, small.init(), tx.init(small.init()), jax.random.key(9))
    whole = go(params, state, 0, 30)
    saved = jax.tree.map(np.array, go(params, state, 0, 17))
    again = go(*saved, 17, 30)
    jax.tree.map(np.testing.assert_array_equal, whole, again)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (dict(input_scale=None), "input_bits"),
        (dict(bits=3), "bits = 3"),
        (dict(input_bits=17), "input_bits = 17"),
        (dict(l2=-0.1), "l2"),
        (dict(mu="Auto"), "auto"),
    ],
)
def test_wrong_arguments_are_refused_with_the_reason(wrong, word):
    with pytest.raises(ValueError, match=word):
        lm_halp(1e-3, **{**dict(inner_steps=8, samples=4, input_scale=0.1), **wrong})


def test_too_large_a_batch_is_refused(small, in_x64):
    tx = integer_halp(small, bits=16, input_bits=16)
    params, state = small.init(), tx.init(small.init())
    with pytest.raises(ValueError, match="overflow"):
        small.step(tx, params, state, np.arange(8), jax.random.key(0))


def test_the_regularised_optimum_is_reached_with_the_l2_term_acting_on_codes(tmp_path):
    """Strong enough (alpha l2 T = 2) that leaving z undecayed is seen in the rate."""
    settings = {"model.l2": 2.0, "optim.mu": 4.0}
    loaded = config.override(
        config.load(f"{ROOT}/configs/halp_regression.py:lm_halp,tiny"), settings
    )
    final = train(config.as_plain(loaded), str(tmp_path))
    assert final["grad_norm"] < 1e-12
    assert final["halp/widest_accumulator"] < 2**15
