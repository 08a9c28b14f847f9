"""State and masters as codes: sizes, values, unbiased rounding, second moments above 0."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lpml.formats import by_name
from lpml.optim import adam, halp, in_few_bits, momentum
from lpml.optim.few_bits import Stored, restore, store

FORMATS = ("bfloat16", "posit16", "e4m3fn", "fixed8", "mxfp8e4m3", "nvfp4", "vsq8v64m8t")


def stored(tree):
    return [
        leaf
        for leaf in jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, Stored))
        if isinstance(leaf, Stored)
    ]


def steps(tx, params, gradients, seed=3):
    """Parameters and state after each gradient, as a loop takes them."""
    state = tx.init(params)
    params = tx.visible(state, params)
    for number, grads in enumerate(gradients):
        key = jax.random.fold_in(jax.random.key(seed), number)
        updates, state = tx.update(grads, state, params, key=key)
        params = tx.visible(state, optax.apply_updates(params, updates))
    return params, state


def numbers(shape, seed=0, scale=0.3):
    return jnp.asarray(scale * np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_stored_is_the_formats_own_rounding(name):
    x = numbers((4, 32))  # of whole blocks, in the order of the flat tensor
    fmt = by_name(name)
    np.testing.assert_array_equal(
        restore(store(x, fmt, "nearest")), fmt.round(x.reshape(-1)).reshape(x.shape)
    )


@pytest.mark.parametrize(
    ("name", "most"),
    [("bfloat16", 2.0), ("e4m3fn", 1.0), ("mxfp8e4m3", 1 + 1 / 32), ("nvfp4", 0.5 + 1 / 16)],
)
def test_the_bytes_are_those_of_codes_and_scales(name, most):
    tx = adam(0.1, state_format=name, master_format=name)
    params = {"w": numbers((64, 32))}
    state = tx.init(params)
    arrays = sum(x.nbytes for x in jax.tree.leaves((state.inner, state.master)))
    floats = 3 * 4  # the outer scales of two means and of the masters
    counters = 2 * 4
    assert arrays <= 3 * most * 2048 + floats + counters
    report = tx.report(state)
    assert float(report["state_bytes"] + report["master_bytes"]) == pytest.approx(arrays / 2048)


@pytest.mark.parametrize("make", [adam, momentum])
def test_float32_codes_change_no_bit(make):
    params = {"w": numbers((3, 5)), "b": numbers((5,))}
    gradients = [jax.tree.map(lambda x, s=s: numbers(x.shape, s), params) for s in range(4)]
    tx = make(0.1, state_format=None, master_format="float32")
    plain, state = make(0.1), None
    expected = params
    state = plain.init(params)
    for grads in gradients:
        updates, state = plain.update(grads, state, expected)
        expected = optax.apply_updates(expected, updates)
    found, _ = steps(tx, params, gradients)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_masters_move_on_average_by_far_less_than_a_spacing():
    # bfloat16 at 1 has a spacing of 2^-7; steps of 2^-12 are lost to nearest
    params = {"w": jnp.ones((4000,))}
    gradients = [{"w": jnp.full((4000,), 2.0**-12)}] * 16
    plain = optax.sgd(1.0)
    lost, _ = steps(
        in_few_bits(plain, master="bfloat16", rounding="nearest"), params, gradients
    )
    np.testing.assert_array_equal(lost["w"], params["w"])
    kept, _ = steps(in_few_bits(plain, master="bfloat16"), params, gradients)
    # spacings below 1 are 2^-8: each of 16 steps moves a weight by one with a chance of 2^-4
    deviation = 2.0**-8 * np.sqrt(16 * 2.0**-4 * (1 - 2.0**-4) / 4000)
    assert float(jnp.mean(kept["w"])) == pytest.approx(1 - 2.0**-8, abs=5 * deviation)


@pytest.mark.parametrize("name", FORMATS)
def test_parameters_are_values_of_the_master_codes(name):
    params = {"w": numbers((7, 9))}
    gradients = [{"w": numbers((7, 9), s)} for s in range(3)]
    found, state = steps(adam(0.1, master_format=name), params, gradients)
    (codes,) = stored(state.master)
    np.testing.assert_array_equal(found["w"], restore(codes))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_second_moments_stay_above_zero(name, rounding):
    # squares of gradients that are 10^8 apart: far beyond the steps of one block
    tiny = jnp.asarray(np.geomspace(1e-9, 1e-1, 64), jnp.float32)
    gradients = [{"w": jnp.concatenate([jnp.zeros(1), tiny])}] * 3
    tx = adam(0.01, state_format=name, state_rounding=rounding)
    params, state = steps(tx, {"w": jnp.zeros((65,))}, gradients)
    roots = [leaf for leaf in stored(state.inner) if leaf.root]
    assert len(roots) == 1
    v = np.asarray(restore(roots[0]))
    assert v[0] == 0
    assert np.all(v[1:] > 0)
    # a denominator of eps = 1e-8 alone would make steps of 0.01 * 0.1 / 1e-8
    assert np.abs(np.asarray(params["w"])).max() < 1


def test_roots_are_stored_not_squares():
    x = jnp.asarray([1e-8, 4e-8, 9e-8], jnp.float32)
    codes = store(x, by_name("bfloat16"), "nearest", root=True)
    np.testing.assert_allclose(restore(codes), x, rtol=2 * 2.0**-8)
    fmt = by_name("bfloat16")
    np.testing.assert_array_equal(restore(codes), fmt.round(jnp.sqrt(x)) ** 2)


def test_same_key_same_codes_and_another_key_others():
    params, gradients = {"w": numbers((40,))}, [{"w": numbers((40,), 1)}]
    tx = adam(1e-3, state_format="nvfp4", master_format="e4m3fn")
    one, _ = steps(tx, params, gradients)
    same, _ = steps(tx, params, gradients)
    other, _ = steps(tx, params, gradients, seed=4)
    np.testing.assert_array_equal(one["w"], same["w"])
    assert not np.array_equal(one["w"], other["w"])


@pytest.mark.parametrize("name", ["posit16", "nvfp4", "vsq8v64m8t"])
def test_compiles_once_and_keeps_every_shape_and_dtype(name):
    traces = []
    tx = adam(1e-3, state_format=name, master_format=name)
    params = {"w": numbers((5, 33)), "b": jnp.zeros(())}

    @jax.jit
    def step(params, state, key):
        traces.append(None)
        updates, state = tx.update(params, state, params, key=key)
        return tx.visible(state, optax.apply_updates(params, updates)), state

    state = jax.jit(tx.init)(params)
    for number in range(4):
        params, state = step(params, state, jax.random.key(number))
    assert len(traces) == 1


def test_nan_is_shown_where_the_format_has_no_code_for_it():
    params = {"w": jnp.ones((3,))}
    gradients = [{"w": jnp.asarray([1.0, jnp.nan, 1.0])}, {"w": jnp.ones((3,))}]
    found, _ = steps(in_few_bits(optax.sgd(0.1), master="fixed8"), params, gradients)
    assert np.isnan(found["w"][1])


def test_without_formats_it_is_the_inner_optimizer():
    inner = optax.with_extra_args_support(optax.sgd(0.1))
    assert in_few_bits(inner) is inner


def test_refusals_are_sentences():
    with pytest.raises(ValueError, match="'int9x' does not exist"):
        adam(0.1, state_format="int9x")
    with pytest.raises(ValueError, match="rounding mode 'up' does not exist"):
        momentum(0.1, master_format="bfloat16", state_rounding="up")
    with pytest.raises(ValueError, match="with refreshes"):
        in_few_bits(halp(0.1, inner_steps=4, bits=8, mu=0.5), state="bfloat16")
    tx = adam(0.1, state_format="bfloat16")
    params = {"w": jnp.ones(2)}
    with pytest.raises(ValueError, match="stochastic rounding"):
        tx.update(params, tx.init(params), params)
    with pytest.raises(ValueError, match="need `params`"):
        tx.update(params, tx.init(params))


@pytest.mark.parametrize("name", ["uint8tensor", "uvsq4"])
def test_formats_without_negative_numbers_are_refused(name):
    with pytest.raises(ValueError, match="must have negative numbers"):
        adam(0.1, master_format=name)


def test_none_in_words_is_no_format():
    plain = adam(0.1).init({"w": jnp.ones(3)})
    same = adam(0.1, state_format="none", master_format="none").init({"w": jnp.ones(3)})
    assert jax.tree.structure(plain) == jax.tree.structure(same)
