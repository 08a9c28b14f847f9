"""What a HALP state holds and how it moves: codes, refreshing, resuming, composing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lpml.optim import halp

STEPS = 16  # inner steps of the small problem
RATE = 5e-3


@pytest.fixture(scope="module")
def small(least_squares):
    return least_squares(40, 6)


def make(**kwargs):
    return halp(kwargs.pop("rate", RATE), **{"inner_steps": STEPS, "mu": 2.0, **kwargs})


def test_codes_are_int8_and_every_iterate_is_on_the_grid(data_b, in_x64):
    """Fact 12, in the second epoch of data B."""
    tx = halp(5e-4, inner_steps=2000, bits=8, mu=4.0)
    order = np.random.default_rng(1).integers(1000, size=(2, 2000, 1))

    @jax.jit
    def run():
        params = data_b.init()
        params, state = data_b.epoch(tx, params, tx.init(params), order[0], jax.random.key(0))
        params, state = data_b.refresh(tx, params, state)
        first = state

        def body(carry, numbered):
            t, index = numbered
            carry = data_b.step(tx, *carry, index, jax.random.key(t))
            return carry, (carry[0]["Dense_0"]["kernel"], carry[1].codes["Dense_0"]["kernel"])

        _, history = jax.lax.scan(body, (params, state), (np.arange(2000), order[1]))
        return first, history

    first, (weights, codes) = jax.device_get(run())
    anchor, scale = first.anchor["Dense_0"]["kernel"], first.scale["Dense_0"]["kernel"]
    assert codes.dtype == np.int8
    assert codes.min() >= -128
    assert codes.max() <= 127
    assert np.abs(codes.astype(int)).max() > 30  # the range is used
    multiples = np.rint((weights - anchor) / scale)
    np.testing.assert_array_equal(multiples, codes)
    np.testing.assert_allclose(weights, anchor + multiples * scale, rtol=1e-12)
    assert scale * 127 == pytest.approx(data_b.grad_norm(anchor) / 4, rel=1e-12)


@pytest.mark.parametrize(("bits", "dtype"), [(8, "int8"), (9, "int16"), (17, "int32")])
def test_codes_take_the_smallest_integer_type(small, bits, dtype, in_x64):
    """Fact 12, storage."""
    (codes,) = jax.tree.leaves(make(bits=bits).init(small.init()).codes)
    assert codes.dtype == dtype


def test_saturating_codes_stop_at_both_ends(small, in_x64):
    """Fact 12, clamping: a box far too small for the step. They must not wrap around."""
    _, (_, state) = small.trajectory(make(mu=1e4), STEPS)
    codes = np.asarray(state.codes["Dense_0"]["kernel"], int)
    assert set(np.abs(codes).ravel()) <= {127, 128}
    assert (np.sign(codes) == -np.sign(state.full_grad["Dense_0"]["kernel"])).all()
    assert make().report(state)["halp/saturated"] > 0.5


@pytest.mark.parametrize("kwargs", [dict(), dict(mu="auto"), dict(option="II"), dict(bits=12)])
@pytest.mark.parametrize("at", [1, 15, 16, 27, 40])
def test_interrupted_anywhere_it_continues_bit_for_bit(small, kwargs, at, in_x64):
    """Fact 20: parameters and optimizer state are all there is (torchhalp's fault 5)."""
    whole, end = small.trajectory(make(**kwargs), 48)
    _, carry = small.trajectory(make(**kwargs), at)
    saved = jax.tree.map(np.array, carry)
    rest, again = small.trajectory(make(**kwargs), 48 - at, start=at, carry=saved)
    np.testing.assert_array_equal(rest, whole[at:])
    jax.tree.map(np.testing.assert_array_equal, end, again)


@pytest.mark.parametrize("kwargs", [dict(), dict(option="II"), dict(bits=16, scale="leaf")])
def test_a_loop_that_never_refreshes_gives_the_same_trajectory(small, kwargs, in_x64):
    """`full_grad_fn` passed to update against explicit calls of refresh."""
    wanted, _ = small.trajectory(make(**kwargs), 40)
    found, _ = small.trajectory(make(**kwargs), 40, explicit=False)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_halp_works_in_a_chain(small, in_x64):
    wanted, _ = small.trajectory(make(), 40)
    tx = optax.chain(optax.identity(), make())
    found, _ = small.trajectory(tx, 40, explicit=False)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_two_gradients_and_their_exact_difference_agree_in_float64(small, in_x64):
    exact, _ = small.trajectory(make(inner_dtype="float64"), 40)
    plain, _ = small.trajectory(make(inner_dtype="float64"), 40, difference=False)
    np.testing.assert_allclose(plain, exact, rtol=1e-9)


def test_a_forgotten_refresh_gives_nan(small, in_x64):
    """A missing full gradient must not pass for training."""
    tx = make()
    params = small.init()
    state, key = tx.init(params), jax.random.key(0)
    params, _ = small.step(tx, params, state, np.array([0]), key)
    assert np.isnan(params["Dense_0"]["kernel"]).all()


def test_the_dither_comes_from_the_key_of_the_step(small, in_x64):
    tx = make(mu=50.0, rate=2e-3)
    step = jax.jit(lambda *args: small.step(tx, *args))
    params, state = small.refresh(tx, small.init(), tx.init(small.init()))
    codes = [
        np.asarray(
            step(params, state, np.array([3]), jax.random.key(seed))[1].codes["Dense_0"][
                "kernel"
            ]
        )
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(codes[0], codes[1])
    assert (codes[0] != codes[2]).any()


def test_leaves_of_equal_shape_get_different_dither(in_x64):
    params = {"a": jnp.zeros(64), "b": jnp.zeros(64)}
    tx = halp(0.013, inner_steps=4, mu=1.0)
    full = jax.tree.map(jnp.ones_like, params)
    _, state = tx.refresh(tx.init(params), params, full_grad_fn=lambda _: full)
    _, state = tx.update(full, state, params, key=jax.random.key(0), grad_fn=lambda _: full)
    assert (np.asarray(state.codes["a"]) != np.asarray(state.codes["b"])).any()


def quadratic(params):
    """Minimum at a = 1; b is not in it."""
    return jnp.sum((params["a"] - 1) ** 2) + 0 * jnp.sum(params["b"])


@pytest.mark.parametrize("scale", ["global", "leaf"])
def test_a_leaf_without_gradient_stays_and_gives_no_nan(scale, in_x32):
    """Fact 19 (torchhalp's fault 3)."""
    grad = jax.grad(quadratic)
    params = {"a": jnp.zeros(3), "b": jnp.full(2, 0.25)}
    tx = halp(0.1, inner_steps=4, mu=1.0, scale=scale)
    state = tx.init(params)

    @jax.jit  # else every update would compile its branches
    def update(state, params, key):
        return tx.update(grad(params), state, params, key=key, grad_fn=grad, full_grad_fn=grad)

    for t in range(12):
        updates, state = update(state, params, jax.random.key(t))
        np.testing.assert_array_equal(updates["b"], 0)
        params = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(params["b"], 0.25)
    assert (np.abs(params["a"] - 1) < 0.3).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_spacings_per_leaf_come_from_its_own_norm_floored_at_a_tenth_of_the_global_one(in_x32):
    """Section 5.4: a leaf without gradient must be able to follow the others."""
    params = {"a": jnp.zeros(2), "b": jnp.zeros(2), "c": jnp.zeros(1)}
    full = {"a": jnp.array([3.0, 4.0]), "b": jnp.zeros(2), "c": jnp.array([12.0])}
    tx = halp(0.1, inner_steps=4, mu=2.0, scale="leaf")
    _, state = tx.refresh(tx.init(params), params, full_grad_fn=lambda _: full)
    spacings = [float(state.scale[name]) * 2 * 127 for name in "abc"]
    assert spacings == pytest.approx([5.0, 1.3, 12.0], rel=1e-6)
    tx = halp(0.1, inner_steps=4, mu=2.0)
    _, state = tx.refresh(tx.init(params), params, full_grad_fn=lambda _: full)
    spacings = [float(state.scale[name]) * 2 * 127 for name in "abc"]
    assert spacings == pytest.approx([13.0] * 3, rel=1e-6)


@pytest.mark.parametrize("kwargs", [dict(), dict(scale="leaf"), dict(mu="auto")])
def test_at_the_optimum_the_update_is_zero(kwargs, in_x32):
    """Fact 19: full gradient 0, spacing 0, although the samples' gradients are not 0."""
    targets = jnp.array([[-1.0], [1.0]])
    params = {"a": jnp.zeros(1), "b": jnp.zeros(2)}

    def grad(params, index):
        return jax.grad(
            lambda p: jnp.sum((p["a"] - targets[index]) ** 2) + jnp.sum(p["b"] ** 2)
        )(params)

    def full(params):
        return jax.tree.map(lambda *g: sum(g) / 2, grad(params, 0), grad(params, 1))

    tx = halp(0.1, inner_steps=4, **{"mu": 1.0, **kwargs})
    state = tx.init(params)

    @jax.jit  # else every update would compile its branches
    def update(state, params, index, key):
        return tx.update(
            grad(params, index), state, params,
            key=key, grad_fn=lambda p: grad(p, index), full_grad_fn=full,
        )  # fmt: skip

    for t in range(12):
        updates, state = update(state, params, t % 2, jax.random.key(t))
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(updates))
        params = optax.apply_updates(params, updates)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_a_nan_gradient_is_not_hidden(small, in_x64):
    tx = make()
    params, state = small.refresh(tx, small.init(), tx.init(small.init()))
    bad = jax.tree.map(lambda p: jnp.full(p.shape, jnp.nan), params)
    updates, _ = tx.update(bad, state, params, key=jax.random.key(0), grad_fn=lambda p: p)
    assert np.isnan(updates["Dense_0"]["kernel"]).any()


def test_schedules_act_inside_an_epoch(small, in_x64):
    """The rate is applied at use, not baked into the cached gradient (fault of halp's port)."""
    schedule = optax.piecewise_constant_schedule(RATE, {5: 0.0})
    kept, _ = small.trajectory(make(rate=schedule), STEPS)
    assert (kept[4] != kept[3]).any()
    np.testing.assert_array_equal(kept[5:], np.broadcast_to(kept[4], kept[5:].shape))


@pytest.mark.parametrize(
    "schedule", [optax.constant_schedule(RATE), lambda _: RATE], ids=["optax", "python"]
)
def test_schedules_may_return_python_numbers(small, schedule, in_x64):
    wanted, _ = small.trajectory(make(), 20)
    found, _ = small.trajectory(make(rate=schedule), 20)
    np.testing.assert_array_equal(found, wanted)


def test_traced_bits_compile_once_and_equal_static_bits(small, in_x64):
    traces = []

    @jax.jit
    def run(bits):
        traces.append(1)
        tx = make(bits=bits)
        return epoch(tx)

    def epoch(tx):
        order = np.arange(STEPS)[:, None]
        params, state = small.epoch(
            tx, small.init(), tx.init(small.init()), order, jax.random.key(0)
        )
        return params["Dense_0"]["kernel"], state.codes["Dense_0"]["kernel"]

    for bits in (4, 8, 12, 16):
        weights, codes = run(bits)
        wanted, static_codes = jax.jit(lambda b=bits: epoch(make(bits=b)))()
        assert codes.dtype == np.int32
        np.testing.assert_array_equal(codes, static_codes)
        # a width known to the compiler is folded into the spacing: an ulp of difference
        np.testing.assert_allclose(weights, wanted, rtol=1e-15)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (dict(bits=1), "bits = 1"),
        (dict(bits=33), "bits = 33"),
        (dict(mu=0.0), "positive"),
        (dict(mu="car"), "auto"),
        (dict(scale="row"), "global, leaf"),
        (dict(rounding="up"), "stochastic"),
        (dict(option="III"), "I, II"),
        (dict(inner_steps=0), "inner_steps = 0"),
    ],
)
def test_wrong_arguments_are_refused_with_the_reason(wrong, word):
    with pytest.raises(ValueError, match=word):
        make(**wrong)


def test_missing_key_and_params_are_named(small, in_x64):
    tx = make()
    params = small.init()
    with pytest.raises(ValueError, match="key"):
        tx.update(params, tx.init(params), params, grad_fn=lambda p: p)
    with pytest.raises(ValueError, match="params"):
        tx.update(params, tx.init(params), key=jax.random.key(0))
