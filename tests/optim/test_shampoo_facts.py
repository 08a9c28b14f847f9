"""Shampoo against what its papers say of it: closed forms and symmetries, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lpml.optim import shampoo
from lpml.optim.roots import Damping
from lpml.optim.shampoo import Blocking, Refreshing, find_state, scale_by_shampoo

RANDOM = functools.partial(np.random.default_rng, 7)


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def updates(gradients, **how):
    """Updates [T, ...] for a sequence of gradients [T, ...], roots renewed in every step."""
    return np.asarray(program(**how)(jnp.asarray(gradients)))


@functools.cache
def program(*, epsilon=1e-12, root="eigh", vectors=False, graft_eps=1e-8):
    tx = scale_by_shampoo(
        Blocking(vectors=vectors, merge=False),
        Refreshing(1, root=root, damping=Damping("relative", epsilon)),
        beta2=1,
        grafting="none",
        graft_eps=graft_eps,
    )

    def step(state, gradient):
        update, state = tx.update(gradient, state)
        return state, update

    return jax.jit(lambda g: jax.lax.scan(step, tx.init(g[0]), g)[1])


def power(a, exponent):
    values, vectors = np.linalg.eigh(a)
    return (vectors * np.maximum(values, 0) ** exponent) @ vectors.T


@pytest.mark.parametrize("root", ["eigh", "newton"])
@pytest.mark.parametrize("shape", [(5, 5), (4, 7)])
def test_the_first_step_from_nothing_is_the_orthogonal_factor(root, shape):
    g = RANDOM().standard_normal(shape)
    u, s, vh = np.linalg.svd(g, full_matrices=False)
    found = updates(g[None], epsilon=1e-6, root=root)[0]
    # the ridge makes s of it: s / (s^2 + ridge)^(1/2), not quite 1
    damped = (u * (s / np.sqrt(s**2 + 1e-6 * s[0] ** 2))) @ vh
    # Newton ends within 1e-6 of the identity, and knows the largest eigenvalue to 1e-6
    np.testing.assert_allclose(found, damped, atol=1e-11 if root == "eigh" else 5e-6)
    np.testing.assert_allclose(found, u @ vh, atol=1e-3)


def test_with_a_vanishing_ridge_it_is_that_factor_itself():
    g = RANDOM().standard_normal((5, 5))
    u, _, vh = np.linalg.svd(g)
    np.testing.assert_allclose(updates(g[None])[0], u @ vh, atol=1e-9)


def test_of_rank_one_truncation_keeps_the_direction_and_nothing_else():
    random = RANDOM()
    g = np.outer(random.standard_normal(4), random.standard_normal(6))
    tx = scale_by_shampoo(
        refreshing=Refreshing(1, root="eigh", damping=Damping("truncate", 1e-9)),
        beta2=1,
        grafting="none",
    )
    found, state = jax.jit(tx.update)(jnp.asarray(g), tx.init(g))
    np.testing.assert_allclose(found, g / np.linalg.norm(g), atol=1e-13)
    assert all(n.tolist() == [1] for n in state.refresh_ok.values())


def test_diagonal_gradients_make_it_adagrad():
    diagonals = RANDOM().standard_normal((6, 5))
    found = updates(np.stack([np.diag(d) for d in diagonals]), epsilon=0.0)
    for t, update in enumerate(found):
        expected = np.diag(diagonals[t] / np.sqrt((diagonals[: t + 1] ** 2).sum(0)))
        np.testing.assert_allclose(update, expected, atol=1e-14)


def test_a_vector_with_a_matrix_is_full_matrix_adagrad():
    g = RANDOM().standard_normal((9, 5))
    found = updates(g, vectors=True)
    for t in range(5, 9):  # before, the matrix is singular
        expected = power(g[: t + 1].T @ g[: t + 1], -1 / 2) @ g[t]
        np.testing.assert_allclose(found[t], expected, atol=1e-8)


def test_a_vector_without_one_is_adagrad():
    g = RANDOM().standard_normal((9, 5))
    expected = g / np.sqrt(np.cumsum(g**2, 0))
    np.testing.assert_allclose(updates(g, graft_eps=1e-15), expected, atol=1e-12)


def test_it_turns_with_its_gradients_and_does_not_know_their_scale():
    random = RANDOM()
    g = random.standard_normal((4, 5, 7))
    left, right = (np.linalg.qr(random.standard_normal((n, n)))[0] for n in (5, 7))
    plain = updates(g, epsilon=1e-6)
    np.testing.assert_allclose(
        updates(left @ g @ right, epsilon=1e-6), left @ plain @ right, atol=1e-12
    )
    for scale in (1e-9, 1e6):
        np.testing.assert_allclose(updates(scale * g, epsilon=1e-6), plain, atol=1e-12)


def test_three_axes_are_a_kronecker_product_of_sixth_roots():
    g = RANDOM().standard_normal((8, 2, 3, 4))
    axes = ("abc,xbc->ax", "abc,axc->bx", "abc,abx->cx")
    sums = [sum(np.einsum(equation, each, each) for each in g) for equation in axes]
    factors = [power(a, -1 / 6) for a in sums]
    expected = np.kron(np.kron(factors[0], factors[1]), factors[2]) @ g[-1].ravel()
    np.testing.assert_allclose(updates(g)[-1].ravel(), expected, atol=1e-10)


def test_one_side_alone_takes_the_square_root():
    g = RANDOM().standard_normal((1, 6, 4))
    tx = scale_by_shampoo(
        Blocking(max_dim=5),
        Refreshing(1, root="eigh", damping=Damping("relative", 1e-13)),
        beta2=1,
        grafting="none",
    )
    found, _ = jax.jit(tx.update)(jnp.asarray(g[0]), tx.init(g[0]))
    np.testing.assert_allclose(found, g[0] @ power(g[0].T @ g[0], -1 / 2), atol=1e-10)


# --- grafting ---

METHODS = {
    "sgd": optax.identity(),
    "adagrad": optax.scale_by_rss(0.0, 1e-8),
    "rmsprop": optax.scale_by_rms(0.9, 1e-8, eps_in_sqrt=False),
    "adam": optax.scale_by_adam(b1=0.0, b2=0.9),
}


def sequence(steps=6):
    random = RANDOM()
    # all matrices of one size: what costs time here is compiling
    shapes = {"kernel": (4, 1, 8), "matrix": (4, 4), "vector": (4,), "scalar": ()}
    return {
        name: jnp.asarray(random.standard_normal((steps, *s))) for name, s in shapes.items()
    }


def through(tx, gradients):
    def step(state, gradient):
        update, state = tx.update(gradient, state, gradient)
        return state, update

    first = jax.tree.map(lambda g: g[0], gradients)
    return jax.jit(lambda: jax.lax.scan(step, tx.init(first), gradients))()


@pytest.mark.parametrize("name", METHODS)
def test_updates_have_the_length_of_the_grafted_method_and_are_its_own_before_roots(name):
    tx = scale_by_shampoo(
        Blocking(4), Refreshing(2, start_at=3, root="eigh"), beta2=0.9, grafting=name
    )
    gradients = sequence()
    state, found = through(tx, gradients)
    _, expected = through(METHODS[name], gradients)
    for key, wanted in expected.items():
        np.testing.assert_allclose(found[key][:2], wanted[:2], rtol=1e-13)
        lengths = [jnp.linalg.norm(x.reshape(6, -1), axis=1) for x in (found[key], wanted)]
        np.testing.assert_allclose(*lengths, rtol=1e-12)
        turned = key in ("kernel", "matrix")
        assert np.allclose(found[key][2:], wanted[2:], rtol=1e-3) != turned
    assert int(state.roots_from) == 5
    assert {n for k in state.refresh_ok.values() for n in k.tolist()} == {2}


@pytest.mark.parametrize("nesterov", [False, True])
def test_before_the_first_roots_the_whole_optimizer_is_the_grafted_one(nesterov):
    mine = shampoo(
        0.1, refresh="host", grafting="sgd", b1=0.8, averaged=False, nesterov=nesterov,
        weight_decay=0.01,
    )  # fmt: skip
    theirs = optax.chain(
        optax.trace(0.8, nesterov),
        optax.add_decayed_weights(0.01),
        optax.scale_by_learning_rate(0.1),
    )
    gradients = sequence()
    (_, found), (_, expected) = through(mine, gradients), through(theirs, gradients)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-13), found, expected)


def test_weight_decay_is_scaled_by_the_rate_once():
    tx = shampoo(0.1, weight_decay=0.5, grafting="sgd", refresh="host")
    params = {"w": jnp.full((2, 2), 3.0)}
    still, _ = tx.update({"w": jnp.zeros((2, 2))}, tx.init(params), params)
    np.testing.assert_allclose(still["w"], -0.1 * 0.5 * 3.0, rtol=1e-14)


def test_the_length_of_a_mean_of_updates():
    tx = shampoo(1.0, grafting="sgd", b1=0.75)
    params = {"b": jnp.zeros(3)}
    state, update = tx.init(params), {"b": jnp.ones(3)}
    for t in range(1, 4):
        moved, state = tx.update(update, state, params)
        np.testing.assert_allclose(moved["b"], -(1 - 0.75**t), rtol=1e-14)
    assert int(find_state(state).step) == 3
