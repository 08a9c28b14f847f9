"""Shampoo's matrices in few bits: the codes, what they lose, and a state that holds them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lpml.formats import Fixed
from lpml.optim import shampoo
from lpml.optim.packed_codes import bytes_of
from lpml.optim.shampoo import Storage, find_state, roots_of, statistics_of, swapped, triangle
from lpml.optim.shampoo import coded as codes
from lpml.optim.shampoo.coded import Coding

# what costs time here is compiling
encoded = jax.jit(codes.encoded, static_argnums=1)
decoded = jax.jit(codes.decoded)
cholesky = jax.jit(triangle.cholesky)


@functools.cache
def matrices(number=2, b=6, condition=1e6):
    """[K, b, b] float32, positive definite, with rows of very different lengths."""
    random = np.random.default_rng(3)
    vectors = np.linalg.qr(random.standard_normal((number, b, b)))[0]
    values = np.geomspace(1, 1 / condition, b)
    return jnp.asarray((vectors * values) @ vectors.swapaxes(1, 2), jnp.float32)


def correlations(stack):
    scale = np.sqrt(np.diagonal(np.asarray(stack, np.float64), axis1=1, axis2=2))
    return stack / scale[:, :, None] / scale[:, None], scale


def same(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(np.testing.assert_array_equal, left, right)


# --- half a matrix ---


@pytest.mark.parametrize("b", [1, 2, 5])
def test_half_of_a_matrix_is_folded_without_gaps_and_comes_back(b):
    whole = np.random.default_rng(b).standard_normal((3, b, b)).astype(np.float32)
    rows = jax.jit(triangle.folded)(whole)
    assert rows.shape == (3, -(-b // 2), b)
    assert np.count_nonzero(rows) == 3 * b * (b - 1) // 2  # each number once
    np.testing.assert_array_equal(jax.jit(triangle.unfolded)(rows), np.tril(whole, -1))


@pytest.mark.parametrize("b", [3, 21])
def test_the_factor_is_choleskys(b):
    unit, _ = correlations(matrices(2, b, 100.0))
    found = cholesky(jnp.asarray(unit, jnp.float32))
    np.testing.assert_allclose(found, np.linalg.cholesky(unit), atol=3e-6)


def test_singular_and_indefinite_matrices_have_a_factor_too():
    signs = np.array([1.0, -1.0, 1.0, 1.0])
    singular = np.outer(signs, signs)
    indefinite = np.where(np.eye(4, dtype=bool), 1, -0.9)
    found = cholesky(jnp.asarray([singular, indefinite], jnp.float32))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[0] @ found[0].T, singular, atol=1e-5)


# --- codes ---


def test_entries_are_correlations_in_codes_and_diagonals_are_exact():
    stack = matrices()
    coded = encoded(stack, Coding.named("int8", "entries"))
    unit, scale = correlations(stack)
    grid = np.round(unit * 127) / 127 * scale[:, :, None] * scale[:, None]
    back = np.asarray(decoded(coded))
    diagonal = np.diagonal(stack, axis1=1, axis2=2)
    np.testing.assert_array_equal(np.diagonal(back, axis1=1, axis2=2), diagonal)
    off = ~np.eye(6, dtype=bool)
    np.testing.assert_allclose(back[:, off], grid[:, off], rtol=1e-5, atol=1e-12)
    np.testing.assert_array_equal(back, back.swapaxes(1, 2))


@pytest.mark.parametrize(
    ("name", "form", "expected"),
    # of [2, 6, 6]: 2 x 3 rows of 6 codes; diagonals, of factors pivots, scales
    [
        ("int8", "entries", 2 * (3 * 6 + 6 * 4)),
        ("int4", "entries", 2 * (3 * 3 + 6 * 4)),
        ("int4", "factor", 2 * (3 * 3 + 2 * 6 * 4)),
        ("int3", "entries", 2 * (3 * 3 + 6 * 4)),  # 18 bits of a row in 3 bytes
        ("int16", "factor", 2 * (3 * 12 + 2 * 6 * 4)),
        ("nvfp4", "entries", 2 * (3 * 3 + 6 * 4 + 3 + 4)),
        ("vsq4", "entries", 2 * (3 * 3 + 6 * 4 + 3 + 3 * 4)),
    ],
)
def test_codes_take_the_bytes_that_they_have_bits(name, form, expected):
    coding = Coding.named(name, form)
    shapes = jax.eval_shape(lambda stack: codes.encoded(stack, coding), matrices())
    assert bytes_of(shapes) == expected


@pytest.mark.parametrize("name", ["nvfp4", "posit8"])
def test_every_matrix_is_coded_by_itself(name):
    """So a stack may be cut along K, or grow, without other numbers."""
    stack = matrices() * jnp.array([1e-3, 1e3])[:, None, None]
    coding = Coding.named(name)
    together = encoded(stack, coding)
    alone = [encoded(stack[k : k + 1], coding) for k in range(2)]
    same(together, jax.tree.map(lambda *parts: jnp.concatenate(parts), *alone))


def test_what_is_zero_or_the_identity_is_exact():
    stack = jnp.stack([jnp.zeros((5, 5)), jnp.eye(5)])
    for form in ("factor", "entries"):
        np.testing.assert_array_equal(
            decoded(encoded(stack, Coding.named("int4", form))), stack
        )


def test_a_factor_of_four_bits_is_positive_definite_where_entries_are_not():
    stack = matrices(4, 32)
    lowest = {}
    for form in ("factor", "entries"):
        unit, _ = correlations(decoded(encoded(stack, Coding.named("int4", form))))
        lowest[form] = np.linalg.eigvalsh(unit)[:, 0]
    assert (lowest["factor"] > -1e-6).all()
    assert (lowest["entries"] < -0.01).all()


def test_stochastic_rounding_of_entries_is_right_on_average():
    stack, number = matrices(1, 4, 10.0), 4000
    words = jax.random.bits(jax.random.key(0), (number, 2, 4), jnp.uint32)
    back = decoded(
        encoded(jnp.repeat(stack, number, 0), Coding.named("int4", "entries"), words=words)
    )
    _, scale = correlations(stack)
    spacing = scale[0][:, None] * scale[0] / 7
    assert (np.abs(back.mean(0) - stack[0]) < 5 * spacing / 2 / np.sqrt(number)).all()
    assert (np.ptp(back, axis=0)[~np.eye(4, dtype=bool)] > 0).all()


# --- a state that holds them ---

PARAMS = {"matrix": jnp.ones((6, 6)), "vector": jnp.ones(5)}


@functools.cache
def program(**how):
    """init and a compiled step, roots renewed in every second."""
    tx = shampoo(0.1, refresh_every=2, root="eigh", **how)
    return tx.init, jax.jit(lambda g, state, key: tx.update(g, state, PARAMS, key=key))


def gradient(step):
    random = np.random.default_rng(step)
    return {k: random.standard_normal(v.shape).astype(np.float32) for k, v in PARAMS.items()}


def trained(steps=6, **how):
    init, step = program(**how)
    state = jax.jit(init)(PARAMS)
    for number in range(steps):
        updates, state = step(gradient(number), state, jax.random.key(number))
    return updates, state


FEW = dict(statistics_format="int8", roots_format="int8")


def test_a_state_of_sixteen_bits_gives_nearly_the_updates_of_floats():
    exact, _ = trained()
    found, state = trained(statistics_format="int16", roots_format="int16")
    np.testing.assert_allclose(found["matrix"], exact["matrix"], atol=1e-3)
    np.testing.assert_array_equal(found["vector"], exact["vector"])
    assert not np.array_equal(found["matrix"], exact["matrix"])
    assert find_state(state).refresh_ok["size6_p4"].tolist() == [3, 3]


def test_a_state_of_eight_bits_is_of_bytes_and_near_the_statistics():
    (_, few), (_, exact) = trained(**FEW), trained()
    few, exact = find_state(few), find_state(exact)
    for held in (few.stats, few.roots):
        assert held["size6_p4"].codes.dtype == jnp.uint8
    found, expected = statistics_of(few)["size6_p4"], statistics_of(exact)["size6_p4"]
    assert statistics_of(exact)["size6_p4"] is exact.stats["size6_p4"]
    distance = jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected)
    assert 1e-4 < distance < 0.05


def test_a_gradient_that_is_not_finite_leaves_the_codes_bit_for_bit():
    _, step = program(**FEW)
    _, state = trained(5, **FEW)
    bad = gradient(9)
    bad["matrix"][1, 2] = np.inf
    _, after = step(bad, state, jax.random.key(9))
    same(find_state(after).stats, find_state(state).stats)
    assert int(find_state(after).step) == 6


def test_roots_from_outside_are_coded_and_refused_ones_leave_the_old():
    _, state = trained(**FEW)
    before = find_state(state)
    new = {name: 2 * jnp.eye(6) + jnp.full((2, 6, 6), 0.5) for name in before.roots}
    ok = {name: jnp.array([True, False]) for name in before.roots}
    after = swapped(before, new, ok, roots_from=5)
    name = "size6_p4"
    np.testing.assert_allclose(roots_of(after)[name][0], new[name][0], atol=0.02)
    same(*(jax.tree.map(lambda a: a[1], s.roots[name]) for s in (after, before)))
    assert jax.tree.map(lambda a: (a.shape, a.dtype), before) == jax.tree.map(
        lambda a: (a.shape, a.dtype), after
    )
    assert (after.refresh_failed[name] - before.refresh_failed[name]).tolist() == [0, 1]


def test_statistics_rounded_to_nearest_need_no_key_and_stochastic_ones_do():
    tx = shampoo(0.1, **FEW)
    with pytest.raises(ValueError, match="a state in few bits needs a PRNG `key`"):
        jax.eval_shape(lambda: tx.update(PARAMS, tx.init(PARAMS), PARAMS))
    tx = optax.chain(optax.identity(), shampoo(0.1, **FEW, state_rounding="nearest"))
    jax.eval_shape(lambda: tx.update(PARAMS, tx.init(PARAMS), PARAMS))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(statistics="int99x"), "number format 'int99x' does not exist"),
        (dict(roots=Fixed(jnp.ones(()), 8)), "must have a width and a scale that are known"),
        (dict(form="eigen"), "form 'eigen' does not exist; choose entries, factor"),
        (dict(rounding="up"), "rounding 'up' of a state does not exist; choose stochastic"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Storage(**settings)
