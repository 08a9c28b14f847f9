"""SVRG's own facts, and the L2 term in SVRG and HALP alike (fact 17)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lpml import optim
from lpml.optim import halp, lp_svrg, sgd, svrg

STEPS, RATE = 16, 5e-3


@pytest.fixture(scope="module")
def small(least_squares):
    return least_squares(40, 6)


KINDS = {
    "svrg": lambda rate=RATE, **kwargs: svrg(rate, inner_steps=STEPS, **kwargs),
    "lp_svrg": lambda rate=RATE, **kwargs: lp_svrg(
        rate, inner_steps=STEPS, bits=12, radius=100.0, **kwargs
    ),
}


@pytest.mark.parametrize("weight_decay", ["in the optimizer", "in the model"])
@pytest.mark.parametrize("name", ["halp", "svrg"])
def test_weight_decay_ends_at_the_ridge_solution(least_squares, name, weight_decay, x64):
    """Fact 17: to 1e-10 (torchhalp's fault 1: it decays the offset only)."""
    ridge = least_squares(200, 10, l2=0.3)
    inside = weight_decay == "in the optimizer"
    problem = least_squares(200, 10) if inside else ridge
    decay = dict(weight_decay=0.3) if inside else {}

    def make_tx():
        if name == "halp":
            return halp(5e-3, inner_steps=400, bits=8, mu=2.0, **decay)
        return svrg(5e-3, inner_steps=400, **decay)

    with x64():
        found = problem.train(make_tx, [dict(seed=1)], epochs=40).weights[0, -1, :, 0]
    assert np.linalg.norm(found - ridge.optimum) < 1e-10
    assert np.linalg.norm(found - least_squares(200, 10).optimum) > 1


@pytest.mark.parametrize("name", ["halp", "svrg"])
def test_weight_decay_is_the_models_l2_at_every_step(least_squares, name, in_x64):
    """Fact 17: anchor and offset both decay, not only where they end."""

    def make(**decay):
        if name == "svrg":
            return svrg(RATE, inner_steps=STEPS, **decay)
        return halp(RATE, inner_steps=STEPS, bits=16, mu=2.0, inner_dtype="float64", **decay)

    wanted, _ = least_squares(40, 6, l2=3.0).trajectory(make(), 40)
    found, _ = least_squares(40, 6).trajectory(make(weight_decay=3.0), 40)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("option", ["I", "II"])
@pytest.mark.parametrize("at", [1, 16, 27])
def test_interrupted_anywhere_it_continues_bit_for_bit(small, name, option, at, in_x64):
    """Fact 20."""
    tx = KINDS[name](option=option)
    whole, end = small.trajectory(tx, 48)
    saved = jax.tree.map(np.array, small.trajectory(tx, at)[1])
    rest, again = small.trajectory(tx, 48 - at, start=at, carry=saved)
    np.testing.assert_array_equal(rest, whole[at:])
    jax.tree.map(np.testing.assert_array_equal, end, again)


@pytest.mark.parametrize("option", ["I", "II"])
def test_a_loop_that_never_refreshes_gives_the_same_trajectory(small, option, in_x64):
    tx = KINDS["svrg"](option=option)
    wanted, _ = small.trajectory(tx, 40)
    found, _ = small.trajectory(tx, 40, explicit=False)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    chained, _ = small.trajectory(optax.chain(tx), 40, explicit=False)
    np.testing.assert_allclose(chained, wanted, rtol=1e-12)


def test_option_i_takes_the_last_iterate_as_anchor_and_the_state_holds_it(small, in_x64):
    tx = KINDS["svrg"]()
    kept, (_, state) = small.trajectory(tx, STEPS + 3)
    np.testing.assert_array_equal(state.anchor["Dense_0"]["kernel"], kept[STEPS - 1])
    wanted = small.full_grad(state.anchor)["Dense_0"]["kernel"]
    np.testing.assert_allclose(state.full_grad["Dense_0"]["kernel"], wanted, rtol=1e-12)


def test_option_ii_takes_one_of_the_iterates_before_the_last(small, in_x64):
    tx = KINDS["svrg"](option="II")
    kept, (params, state) = small.trajectory(tx, STEPS)
    chosen = int(state.chosen_at)
    start = np.zeros_like(kept[:1])
    iterates = np.concatenate([start, kept])  # w_0 .. w_T
    anchor, _ = small.refresh(tx, params, state, jax.random.key(5))
    np.testing.assert_array_equal(anchor["Dense_0"]["kernel"], iterates[chosen])


@pytest.mark.parametrize("make", [svrg, halp])
def test_option_ii_draws_uniformly(small, make, in_x64):
    """From 0 .. T-1: the start of the epoch can be drawn, its last iterate cannot."""
    tx = make(RATE, inner_steps=STEPS, option="II")
    params, state = small.init(), tx.init(small.init())

    @jax.jit
    @jax.vmap
    def drawn(key):
        return small.refresh(tx, params, state, key).opt_state.chosen_at

    counts = np.bincount(drawn(jax.random.split(jax.random.key(0), 8000)), minlength=STEPS)
    assert len(counts) == STEPS
    assert (np.abs(counts - 500) < 5 * np.sqrt(500)).all()


def test_a_forgotten_refresh_gives_nan(small, in_x64):
    tx = KINDS["svrg"]()
    params = small.init()
    params, _ = small.step(tx, params, tx.init(params), np.array([0]), None)
    assert np.isnan(params["Dense_0"]["kernel"]).all()


def test_schedules_act_inside_an_epoch(small, in_x64):
    schedule = optax.piecewise_constant_schedule(RATE, {5: 0.0})
    kept, _ = small.trajectory(KINDS["svrg"](rate=schedule), STEPS)
    assert (kept[4] != kept[3]).any()
    np.testing.assert_array_equal(kept[5:], np.broadcast_to(kept[4], kept[5:].shape))


@pytest.mark.parametrize("name", KINDS)
def test_schedules_may_return_python_numbers(small, name, in_x64):
    wanted, _ = small.trajectory(KINDS[name](), 20)
    found, _ = small.trajectory(KINDS[name](rate=optax.constant_schedule(RATE)), 20)
    np.testing.assert_array_equal(found, wanted)


def test_the_iterates_of_lp_svrg_are_on_their_grid(small, in_x64):
    """Section 1.5: the anchor is a grid point too."""
    kept, (_, state) = small.trajectory(KINDS["lp_svrg"](), 40)
    codes = kept / (100.0 / 2047)
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-9)
    assert len(np.unique(np.rint(codes))) > 40
    anchor = np.asarray(state.inner.anchor["Dense_0"]["kernel"]) / (100.0 / 2047)
    np.testing.assert_allclose(anchor, np.rint(anchor), atol=1e-9)


def test_the_state_may_be_donated(small, in_x64):
    """No buffer under two names after a refresh."""
    tx = KINDS["svrg"](option="II")
    state = tx.init(small.init())
    params, state = jax.jit(lambda p, s: small.refresh(tx, p, s, jax.random.key(0)))(
        small.init(), state
    )
    step = jax.jit(
        lambda p, s: small.step(tx, p, s, np.array([0]), None), donate_argnums=(0, 1)
    )
    params, state = step(params, state)
    assert np.isfinite(params["Dense_0"]["kernel"]).all()


def test_sgd_decays_the_weights(in_x32):
    tx = sgd(0.1, weight_decay=0.5)
    w = jnp.array([2.0])
    updates, _ = tx.update(jnp.array([1.0]), tx.init(w), w, unknown_extra=1)
    np.testing.assert_allclose(updates, [-0.2], rtol=1e-6)


def test_wrong_arguments_are_refused_with_the_reason():
    with pytest.raises(ValueError, match="I, II"):
        svrg(0.1, inner_steps=4, option="2")
    with pytest.raises(ValueError, match="inner_steps = 0"):
        svrg(0.1, inner_steps=0)


@pytest.mark.parametrize("name", ["halp", "svrg", "lp_svrg", "lp_sgd", "sgd"])
def test_a_negative_weight_decay_is_refused(name):
    settings = {} if name in ("lp_sgd", "sgd") else {"inner_steps": 3}
    with pytest.raises(ValueError, match=r"weight_decay = -1\.0 must not be negative"):
        getattr(optim, name)(0.1, weight_decay=-1.0, **settings)
