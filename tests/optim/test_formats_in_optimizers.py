"""Number formats in HALP's offset and in the iterates of LP-SGD and LP-SVRG."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml import formats
from lpml.optim import halp, lp_sgd, lp_svrg
from lpml.optim.box import box_edge
from lpml.optim.iterate_format import Blocked, Stretched, iterate_format
from lpml.optim.offset_grid import FormatGrid, offset_grid

RATE, STEPS, EPOCHS = 5e-3, 200, 30
DRAWS = 40_000
NORMAL_FLOAT = (-1.0, -0.5, -0.2, 0.0, 0.1, 0.4, 1.0)


@pytest.fixture(scope="module")
def tiny(least_squares):
    """The problem of configs/halp_regression.py:tiny, 100 x 10 with noise 1."""
    return least_squares(100, 10)


@pytest.fixture(scope="module")
def small(least_squares):
    return least_squares(40, 6)


def make(**kwargs):
    return halp(RATE, **{"inner_steps": 16, "mu": 2.0, **kwargs})


def kernel(tree):
    return tree["Dense_0"]["kernel"]


@pytest.mark.parametrize(
    ("name", "edge"),
    [
        ("fixed8", 1.0),
        ("int4", 7.0),
        ("e4m3fn", 448.0),
        ("e5m2", 57344.0),
        ("e2m1", 6.0),
        ("float16", 65504.0),
        ("bfloat16", 65536.0),
        ("posit8", 16.0),
        ("posit8es0", 2.0),
        ("posit16es1", 4.0),
        ("posit3es3", 256.0),
    ],
)
def test_the_edge_of_a_box(name, edge):
    assert box_edge(formats.by_name(name)) == np.float32(edge)


@pytest.mark.parametrize("name", ["e4m3fn", "e2m1", "posit8", "posit8es0"])
@pytest.mark.parametrize("radius", [0.3, 102.0])
def test_a_stretched_iterate_is_on_the_formats_values_and_stays_there(name, radius, in_x32):
    fmt = formats.by_name(name)
    stretched = iterate_format(name, None, radius)
    edge = float(box_edge(fmt))
    unit = np.float32(radius / edge)
    values = fmt.values().astype(np.float32) * unit
    x = np.random.default_rng(0).normal(0, radius, 500).astype(np.float32)
    once = stretched.round(jnp.asarray(x), "stochastic", key=jax.random.key(0))
    assert np.isin(once, values).all()
    assert stretched.round(jnp.float32(radius)) == pytest.approx(radius, rel=1e-6)
    again = stretched.round(once, "stochastic", key=jax.random.key(1))
    np.testing.assert_array_equal(again, once)
    assert np.isnan(stretched.round(jnp.full(2, jnp.nan))).all()


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e2m1", "posit8", "posit8es0"])
def test_stochastic_rounding_is_unbiased(name, in_x32):
    """Means of DRAWS against x, within five standard errors of what two neighbours allow."""
    fmt = formats.by_name(name)
    wanted = np.float32([-0.7, 0.013, 0.3, 1.17, 2.9])
    draw = jnp.broadcast_to(wanted, (DRAWS, 5))
    above = np.searchsorted(fmt.values(), wanted)
    gap = fmt.values()[above] - fmt.values()[above - 1]
    for rounded, unit in (
        (FormatGrid(fmt).round(draw, "stochastic", key=jax.random.key(2)).values, 1.0),
        (Stretched(fmt, 0.3).round(0.3 * draw, "stochastic", key=jax.random.key(3)), 0.3),
    ):
        miss = np.abs(np.mean(np.asarray(rounded, np.float64) / unit, axis=0) - wanted)
        assert (miss < 5 * gap / 2 / np.sqrt(DRAWS) + 1e-6).all()


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e2m1", "posit8", "float16"])
def test_the_grid_holds_its_values_exactly_and_counts_what_is_beyond(name, in_x32):
    fmt = formats.by_name(name)
    grid = offset_grid(name, None)
    values = jnp.asarray(fmt.values(), jnp.float32)
    codes = grid.encode(values)
    assert codes.dtype == fmt.code_dtype
    np.testing.assert_array_equal(grid.decode(codes, jnp.float32), values)
    edge = float(grid.edge())
    wanted = jnp.float32([edge, -edge, 1.01 * edge, -2 * edge, 0.5 * edge, np.nan])
    rounded = grid.round(wanted, "nearest", key=None)
    assert rounded.beyond == 2
    assert np.isin(rounded.values[:5], values).all()
    assert np.isnan(rounded.values[5])
    np.testing.assert_array_equal(grid.decode(grid.origin((3,)), jnp.float32), 0)


@pytest.mark.parametrize("name", ["vsq4", "mxfp8e4m3", "nvfp4"])
@pytest.mark.parametrize("shape", [(), (5,), (37, 3)])
def test_scaled_formats_round_leaves_of_any_shape(name, shape, in_x32):
    """Against blocks laid out by hand: inputs last, padded with zeros to a multiple of 32."""
    fmt = formats.by_name(name)
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    found = Blocked(fmt).round(jnp.asarray(x), "nearest")
    rows = np.moveaxis(x, -2, -1) if x.ndim > 1 else np.atleast_1d(x)
    rows = np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, -rows.shape[-1] % 32)])
    wanted = np.asarray(fmt.round(jnp.asarray(rows)))
    wanted = wanted[..., : shape[-2] if len(shape) > 1 else (*shape, 1)[0]]
    wanted = np.moveaxis(wanted, -1, -2) if x.ndim > 1 else wanted.reshape(shape)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("name", "dtype", "reached", "floor"),
    [
        ("posit8", "int8", 1e-11, 15.0),
        ("e4m3fn", "uint8", 1e-11, 15.0),
        pytest.param("e4m3", "uint8", 1e-11, 12.0, marks=pytest.mark.slow),
        pytest.param("e5m2", "uint8", 1e-10, 25.0, marks=pytest.mark.slow),
    ],
)
def test_halp_goes_far_below_the_floor_of_lp_svrg_in_the_same_format(
    tiny, name, dtype, reached, floor, in_x64
):
    """After 30 epochs of seed 1: 3e-13, 8e-14, 4e-13, 3e-12 against 24, 22, 17, 41."""
    at = [dict(seed=1)]

    def visible(params, state):
        return params

    def fine():
        return halp(RATE, inner_steps=STEPS, mu=2.0, format=name)

    def coarse():
        return lp_svrg(RATE, inner_steps=STEPS, radius=102.0, format=name)

    history = tiny.train(fine, at, epochs=EPOCHS, watch=visible)
    (codes,) = jax.tree.leaves(history.opt_state.codes)
    assert codes.dtype == dtype
    assert tiny.grad_norm(history.weights)[0, -1] < reached
    stalled = tiny.train(coarse, at, epochs=EPOCHS, watch=visible)
    assert np.median(tiny.grad_norm(stalled.weights)[0, -10:]) > floor


def test_fixed_point_by_name_is_the_same_as_by_bits(small, in_x64):
    wanted, _ = small.trajectory(make(bits=6), 20)
    for name in ("fixed6", "int6"):
        found, (_, state) = small.trajectory(make(format=name), 20)
        np.testing.assert_array_equal(found, wanted)
        assert kernel(state.codes).dtype == np.int8


def test_every_visible_iterate_is_anchor_plus_spacing_times_a_value(small, in_x64):
    kept, (params, state) = small.trajectory(make(format="posit8"), 40)
    assert len(np.unique(kept)) > 40
    steps = (kernel(params) - kernel(state.anchor)) / kernel(state.scale)
    values = formats.by_name("posit8").values()
    distance = np.abs(np.asarray(steps) - values).min(axis=-1)
    assert (distance <= 1e-12 * np.abs(steps)[..., 0]).all()


def test_a_format_whose_zero_is_no_code_of_zero(small, in_x64):
    table = formats.Table(NORMAL_FLOAT)
    kept, (_, state) = small.trajectory(make(format=table, option="II"), 160)
    assert kernel(state.codes).dtype == np.uint8
    np.testing.assert_array_equal(kernel(make(format=table).init(small.init()).codes), 3)
    assert small.grad_norm(kept[-1]) < 0.6 * small.grad_norm(kernel(small.init()))


@pytest.mark.parametrize("kwargs", [dict(format="posit8"), dict(format="e4m3fn", option="II")])
def test_interrupted_it_continues_bit_for_bit(small, kwargs, in_x64):
    whole, end = small.trajectory(make(**kwargs), 40)
    _, carry = small.trajectory(make(**kwargs), 21)
    rest, again = small.trajectory(
        make(**kwargs), 19, start=21, carry=jax.tree.map(np.array, carry)
    )
    np.testing.assert_array_equal(rest, whole[21:])
    jax.tree.map(np.testing.assert_array_equal, end, again)


@pytest.mark.parametrize("name", ["posit8", "e4m3fn"])
@pytest.mark.parametrize(("start", "factor"), [(1e4, 0.5), (1e-4, 2.0)])
def test_auto_mu_widens_a_box_that_is_left_and_narrows_an_empty_one(
    small, name, start, factor, in_x64
):
    tx = make(format=name, mu="auto")
    state = tx.init(small.init())._replace(mu=jnp.float32(start))
    _, (_, state) = small.trajectory(tx, 17, carry=(small.init(), state))
    assert state.mu == np.float32(start * factor)


@pytest.mark.parametrize(
    ("make_tx", "words"),
    [
        (lambda: make(format="posit8", bits=6), "bits = 6 contradicts format posit8"),
        (lambda: make(format="posit99"), "bits = 99 is outside"),
        (lambda: make(format="posits"), "'posits' does not exist"),
        (lambda: make(format=8), "format = 8 must be the name"),
        (lambda: make(format="vsq4"), "vsq4 scales its blocks"),
        (lambda: make(format=formats.Symmetric(1.0, 4, signed=False)), "both signs"),
        (lambda: make(format=formats.Table([0.0, 1.0])), "needs 0 and both signs"),
        (lambda: make(format=formats.Table([-1.0, 1.0])), "needs 0 and both signs"),
        (lambda: lp_sgd(0.1, format="e4m3fn", bits=4), "bits = 4 contradicts"),
        (lambda: lp_sgd(0.1, format="nvfp4", radius=1.0), "leave radius away"),
        (lambda: lp_svrg(0.1, inner_steps=2, format="e5m2", radius=0.0), "must be positive"),
        (lambda: lp_svrg(0.1, inner_steps=2, format="fixed8", radius=-1.0), "must be positive"),
    ],
)
def test_wrong_combinations_are_refused_in_a_sentence(make_tx, words):
    with pytest.raises(ValueError, match=words) as refusal:
        make_tx()
    assert "\n" not in str(refusal.value)
