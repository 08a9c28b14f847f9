"""Shampoo in use: a loop of one's own, sweeps, failing roots, bad gradients, bad input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lpml.optim import ShampooState, shampoo
from lpml.optim.roots import host_roots
from lpml.optim.shampoo import exponent_of, find_state, swapped
from lpml.training.assemble import traceable

# both matrices in one stack: what costs time here is compiling
SHAPES = {"matrix": (6, 6), "vector": (5,)}


def parameters(dtype=jnp.float32):
    return {name: jnp.ones(shape, dtype) for name, shape in SHAPES.items()}


@functools.cache
def gradients(steps=8):
    random = np.random.default_rng(1)
    return {
        name: random.standard_normal((steps, *shape)).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def one_step(tx):
    """A compiled step (params, state), gradients -> (params, state)."""

    def step(carry, grads):
        params, state = carry
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return jax.jit(step)


@functools.cache
def often():
    """One that renews in every second step, and its compiled step."""
    tx = shampoo(0.1, refresh_every=2)
    return tx, one_step(tx)


def at(step, **changed):
    return {name: g[step] for name, g in gradients().items()} | changed


def same(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_a_loop_of_ones_own():
    x = np.random.default_rng(0).standard_normal((64, 8)) * np.geomspace(0.05, 3, 8)
    y = x @ np.random.default_rng(1).standard_normal((8, 4))

    def loss(params):
        return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)

    tx = shampoo(learning_rate=0.05, refresh_every=5, block_size=4)
    params = {"w": jnp.zeros((8, 4)), "b": jnp.zeros(4)}
    state = tx.init(params)

    traces = []

    @jax.jit
    def step(params, state):
        traces.append(1)
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    before = loss(params)
    for _ in range(150):
        params, state = step(params, state)
    assert loss(params) < 1e-3 * before
    assert len(traces) == 1


# --- late and failing roots ---


def test_roots_are_renewed_when_due_and_not_between():
    step = one_step(shampoo(0.1, refresh_every=3, start_at=2))
    carry = parameters(), shampoo(0.1).init(parameters())
    origins, roots = [], []
    for number in range(8):
        carry = step(carry, at(number))
        state = find_state(carry[1])
        origins.append(int(state.roots_from))
        roots.append(np.asarray(state.roots["size6_p4"]))
    assert origins == [-1, 2, 2, 2, 5, 5, 5, 8]
    np.testing.assert_array_equal(roots[1], roots[3])
    assert not np.array_equal(roots[3], roots[4])
    assert not any(np.any(n) for n in state.refresh_failed.values())


def test_a_host_puts_roots_in_between_two_steps_without_a_new_program():
    tx = shampoo(0.1, refresh="host")
    step = one_step(tx)
    carry = step((parameters(), tx.init(parameters())), at(0))
    assert int(find_state(carry[1]).roots_from) == -1
    state = find_state(carry[1])
    reports = {
        name: host_roots(np.asarray(stack), exponent_of(name))
        for name, stack in state.stats.items()
    }
    new = swapped(
        state,
        {name: jnp.array(report.root) for name, report in reports.items()},
        {name: jnp.array(report.ok) for name, report in reports.items()},
        roots_from=int(state.step),
    )
    with_roots = jax.tree.map(
        lambda each: new if isinstance(each, ShampooState) else each,
        carry[1],
        is_leaf=lambda each: isinstance(each, ShampooState),
    )
    without, turned = step(carry, at(1))[0], step((carry[0], with_roots), at(1))[0]
    assert step._cache_size() <= 1  # 0 where many other programs have pushed it out
    same(without["vector"], turned["vector"])
    moved = [np.asarray(each["matrix"] - carry[0]["matrix"]) for each in (without, turned)]
    assert not np.allclose(*moved, rtol=1e-2)


def test_a_root_that_is_not_accepted_leaves_the_old_one_bit_for_bit():
    state = find_state(shampoo(0.1).init(parameters()))
    state = state._replace(stats=jax.tree.map(lambda a: a + 1, state.stats))
    bad = jax.tree.map(lambda a: jnp.full_like(a, jnp.nan), state.roots)
    no = jax.tree.map(lambda n: jnp.zeros(len(n), bool), state.refresh_ok)
    after = swapped(state, bad, no, roots_from=1)
    same(after.roots, state.roots)
    assert all((n == 1).all() for n in after.refresh_failed.values())
    assert all((n == 0).all() for n in after.refresh_ok.values())


def test_an_indefinite_statistic_fails_is_counted_and_is_left_to_grafting():
    tx = shampoo(0.1, start_at=2, grafting="sgd", b1=0.0)
    state = tx.init(parameters())
    inner = find_state(state)
    columns_spoilt = jnp.array([0, -100])[:, None, None] * jnp.eye(6)
    stats = jax.tree.map(lambda a: a + columns_spoilt, inner.stats)
    state = (inner._replace(stats=stats), *state[1:])
    step = one_step(tx)
    carry = step(step((parameters(), state), at(0)), at(1))
    found = find_state(carry[1])
    assert found.refresh_failed["size6_p4"].tolist() == [0, 1]
    assert found.refresh_ok["size6_p4"].tolist() == [1, 0]
    expected = 1 - 0.1 * (at(0)["matrix"] + at(1)["matrix"])
    np.testing.assert_allclose(carry[0]["matrix"], expected, rtol=1e-5)


# --- gradients of all kinds ---


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_gradient_that_is_not_finite_or_has_no_square_shows_and_is_not_kept(value):
    tx, step = often()
    carry = step(step((parameters(), tx.init(parameters())), at(0)), at(1))
    bad = at(2)["matrix"].copy()
    bad[1, 2] = value
    params, state = step(carry, at(2, matrix=bad))
    assert np.isfinite(params["matrix"]).all() == (value == 1e30)
    before, after = find_state(carry[1]), find_state(state)
    same(after.stats, before.stats)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    # who skips the update goes on as if nothing had been
    params, state = step((carry[0], state), at(3))
    assert np.isfinite(params["matrix"]).all()


def test_zeros_and_low_ranks_make_no_nan_and_no_failure():
    tx = shampoo(0.1, refresh_every=1)
    step = one_step(tx)
    carry = parameters(), tx.init(parameters())
    zero, column = np.zeros((6, 6), np.float32), np.arange(6, dtype=np.float32)[:, None]
    carry = step(carry, at(0, matrix=zero))
    np.testing.assert_array_equal(carry[0]["matrix"], 1)
    assert not any(np.any(n) for n in find_state(carry[1]).refresh_failed.values())
    for number in range(1, 4):
        carry = step(carry, at(number, matrix=column * np.ones((1, 6), np.float32)))
    state = find_state(carry[1])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(carry))
    assert all((n == 3).all() for n in state.refresh_ok.values())
    assert not any(np.any(n) for n in state.refresh_failed.values())


def test_parameters_of_half_width_have_statistics_of_single_width():
    tx = shampoo(0.1, refresh_every=2)
    carry = parameters(jnp.bfloat16), tx.init(parameters(jnp.bfloat16))
    grads = jax.tree.map(lambda g: g.astype(jnp.bfloat16), at(0))
    step = one_step(tx)
    for _ in range(2):
        carry = step(carry, grads)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(carry[0])} == {"bfloat16"}
    assert {leaf.dtype.name for leaf in find_state(carry[1]).stats.values()} == {"float32"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(find_state(carry[1]).graft)} == {
        "float32"
    }
    assert np.isfinite(np.asarray(carry[0]["matrix"], np.float32)).all()


def test_parts_of_a_tree_that_are_masked_stay_out():
    tx = optax.masked(shampoo(0.1, refresh_every=1), {"matrix": True, "vector": False})
    (params, state) = one_step(tx)((parameters(), tx.init(parameters())), at(0))
    np.testing.assert_array_equal(params["vector"], 1 + at(0)["vector"])
    assert find_state(state).refresh_ok["size6_p4"].tolist() == [1, 1]


# --- sweeps ---


@pytest.mark.parametrize("root", ["newton", "eigh"])
def test_a_sweep_in_one_program_is_that_of_one_by_one_and_renews_only_when_due(root):
    def train(rate, beta2, epsilon):
        tx = shampoo(rate, beta2=beta2, epsilon=epsilon, refresh_every=3, root=root)
        step = one_step(tx)
        start = parameters(), tx.init(parameters())
        return jax.lax.scan(lambda *a: (step(*a), None), start, gradients())[0]

    rates, decays, epsilons = jnp.array([[0.1, 0.01], [0.9, 0.99], [1e-6, 1e-4]])
    together = jax.jit(jax.vmap(train))(rates, decays, epsilons)
    alone = jax.jit(train)(rates[1], decays[1], epsilons[1])
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a[1], b, rtol=2e-4, atol=2e-6)
    lines = str(jax.make_jaxpr(jax.vmap(train))(rates, decays, epsilons))
    assert "cond[" in lines  # a selection would solve for roots at every step


def test_rates_decays_and_damping_are_numbers_that_a_sweep_traces():
    settings = dict(learning_rate=0.1, beta2=0.9, epsilon=1e-4, b1=0.8, weight_decay=0.1)
    static = dict(block_size=8, refresh_every=5, grafting="adam")
    assert traceable(dict(optim=dict(name="shampoo", **settings, **static))) == settings


# --- bad input ---


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(learning_rate=0), "learning_rate = 0 must be positive"),
        (dict(block_size=0), "block_size = 0 must be an integer of at least 1"),
        (dict(block_size=2.5), "block_size = 2.5 must be an integer of at least 1"),
        (dict(max_dim=-1), "max_dim = -1 must be an integer of at least 1"),
        (dict(exponent=0), r"exponent = 0 must be an integer of at least 1 \(p of the root"),
        (dict(exponent=1.5), "exponent = 1.5 must be an integer"),
        (dict(refresh_every=0), "refresh_every = 0 must be an integer of at least 1"),
        (dict(start_at=0), "start_at = 0 must be an integer of at least 1"),
        (dict(root="svd"), "'svd' does not exist with refresh 'program'; choose newton, eigh"),
        (dict(refresh="soon"), "refresh 'soon' does not exist; choose program, host"),
        (dict(damping="some"), "damping 'some' does not exist; choose relative, absolute"),
        (dict(damping="truncate"), "damping 'truncate' needs eigenvalues"),
        (dict(epsilon=-1.0), "epsilon = -1.0 of the damping must be >= 0"),
        (dict(grafting="lion"), "grafting 'lion' does not exist; choose none, sgd, adagrad"),
        (dict(beta2=1.0), "grafting 'rmsprop' takes a mean of squares"),
        (dict(beta2=0.0), r"beta2 = 0.0 must be in \(0, 1\]"),
        (dict(graft_eps=0.0), "graft_eps = 0.0 must be positive"),
        (dict(b1=1.0), r"b1 = 1.0 must be in \[0, 1\)"),
        (dict(weight_decay=-1.0), "weight_decay = -1.0 must be >= 0 and finite"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        shampoo(**dict(learning_rate=0.1) | changes)


def test_truncation_is_no_matter_of_the_program_where_a_host_makes_the_roots():
    shampoo(0.1, damping="truncate", refresh="host").init(parameters())


def test_a_state_without_shampoo_is_not_searched_in_vain():
    with pytest.raises(ValueError, match="one ShampooState is needed in the state, and 0"):
        find_state(optax.sgd(0.1).init(parameters()))
