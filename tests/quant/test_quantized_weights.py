"""Codes of loss-aware weights: levels, packing, what is not finite, transformations, errors."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml.quant import laq, lat2, objective
from lpml.quant.loss_aware import _laq
from lpml.quant.loss_aware_levels import LevelSet
from lpml.quant.loss_aware_sums import CHUNK

EVERY = [(bits, levels) for levels in ("linear", "log") for bits in range(1, 9)]


def weights(shape, seed=0):
    random = np.random.default_rng(seed)
    w, d = random.standard_normal(shape), np.sqrt(random.gamma(0.5, size=shape))
    return w.astype(np.float32), d.astype(np.float32)


@pytest.mark.parametrize(("bits", "levels"), EVERY)
def test_nearest_levels_are_those_of_a_search(bits, levels):
    level_set = LevelSet(bits, levels)
    values = level_set.values()
    t = np.concatenate([np.linspace(0, 1.3 * level_set.top, 3001), values]).astype(np.float32)
    found = np.asarray(level_set.nearest(jnp.asarray(t)), np.float64)
    assert np.isin(found, values).all()
    distance = np.abs(t[:, None].astype(np.float64) - values).min(axis=1)
    np.testing.assert_array_equal(np.abs(t - found), distance)
    codes = level_set.encode(jnp.asarray(values, jnp.float32))
    assert len(set(np.asarray(codes).tolist())) == len(values)
    assert int(codes.max()) == level_set.count <= 2 ** max(0, bits - 1)
    np.testing.assert_array_equal(level_set.decode(codes, jnp.float32), values)
    np.testing.assert_array_equal(level_set.decode(-codes, jnp.float32), -values)


@pytest.mark.parametrize("bits", range(1, 9))
def test_packing_keeps_all_and_takes_its_true_size(bits):
    w, d = weights((3, 7))
    for levels, axis in [("linear", 0), ("log", None)]:
        found = laq(w, d, bits, levels=levels, axis=axis)
        packed = found.pack()
        assert packed.words.dtype == jnp.uint8
        assert packed.nbytes == found.nbytes == -(-21 * bits // 8) + 4 * found.scale.size
        back = packed.unpack()
        assert (back.bits, back.levels) == (found.bits, found.levels)
        np.testing.assert_array_equal(back.codes, found.codes)
        np.testing.assert_array_equal(back.dequantize(), found.dequantize())


def test_packing_of_two_scales():
    found = lat2(*weights((3, 7)), axis=0)
    packed = jax.jit(lambda q: q.pack())(found)
    assert packed.nbytes == found.nbytes == 6 + 2 * 3 * 4
    np.testing.assert_array_equal(packed.unpack().dequantize(), found.dequantize())


@pytest.mark.parametrize(("bits", "solver"), [(1, "exact"), (2, "exact"), (3, "alternating")])
def test_what_is_not_finite_changes_nothing_else(bits, solver):
    w, d = weights(40)
    plain = laq(w, d, bits, solver=solver)
    spoilt_w = np.append(w, [np.nan, np.inf, -np.inf, 0.1, -9.0]).astype(np.float32)
    spoilt_d = np.append(d, [1, 1, 1, np.nan, np.inf]).astype(np.float32)
    found = laq(spoilt_w, spoilt_d, bits, solver=solver)
    assert float(found.scale) == pytest.approx(float(plain.scale), rel=1e-6)
    np.testing.assert_array_equal(found.codes[:40], plain.codes)
    top = LevelSet(bits).count
    nothing = 1 if bits == 1 else 0
    np.testing.assert_array_equal(found.codes[40:], [nothing, top, -top, nothing, -top])


def test_without_curvature_too():
    w, _ = weights(40)
    spoilt = np.append(w, np.float32([np.nan, np.inf]))
    for bits in (1, 2):
        assert float(laq(spoilt, bits=bits).scale) == pytest.approx(
            float(laq(w, bits=bits).scale), rel=1e-6
        )


@pytest.mark.parametrize("solver", ["alternating", "exact"])
def test_zeros_and_nothing_finite_have_scale_zero(solver):
    for w in (np.zeros(5, np.float32), np.full(5, np.nan, np.float32)):
        for bits in (2, 4):
            found = laq(w, bits=bits, solver=solver)
            assert float(found.scale) == 0
            np.testing.assert_array_equal(found.codes, 0)
        found = laq(w, bits=1, solver=solver)
        assert float(found.scale) == 0
        np.testing.assert_array_equal(found.codes, 1)
    rows = np.stack([np.zeros(6), np.arange(6)]).astype(np.float32)
    found = laq(rows, bits=3, axis=0, solver=solver)
    assert float(found.scale[0, 0]) == 0 < float(found.scale[1, 0])
    assert np.isfinite(found.dequantize()).all()


def test_empty_and_single_weights():
    assert laq(np.zeros((0, 3), np.float32), bits=3).codes.shape == (0, 3)
    one = laq(np.float32([-0.7]), bits=3)
    assert float(one.dequantize()[0]) == np.float32(-0.7)


def test_curvature_of_zero_or_less_counts_for_nothing_beside_more():
    w, d = weights(300)
    negative = np.where(np.arange(300) % 3, d, -d).astype(np.float32)
    zero = np.where(np.arange(300) % 3, d, 0).astype(np.float32)
    for bits in (1, 3):
        found = laq(w, negative, bits)
        np.testing.assert_array_equal(found.codes, laq(w, zero, bits).codes)
        kept = laq(w[np.arange(300) % 3 > 0], d[np.arange(300) % 3 > 0], bits)
        assert float(found.scale) == pytest.approx(float(kept.scale), rel=1e-6)
        flat = laq(w, np.zeros_like(w), bits)
        assert float(flat.scale) == pytest.approx(float(laq(w, None, bits).scale), rel=1e-6)


def test_sums_by_chunks_are_sums():
    w, d = weights((1, 2 * CHUNK + 4321))
    chunks = laq(w, d, 3)
    whole = laq(w, d, 3, axis=0)  # one channel, reduced by XLA
    assert float(chunks.scale) == pytest.approx(float(whole.scale[0, 0]), rel=1e-5)
    batched = jax.vmap(lambda w, d: laq(w, d, 3))(w[None].repeat(2, 0), d[None].repeat(2, 0))
    np.testing.assert_allclose(batched.scale, [chunks.scale] * 2, rtol=1e-6)
    with jax.enable_x64(True):
        exact = laq(w.astype(float), d.astype(float), 3)
    assert float(chunks.scale) == pytest.approx(float(exact.scale), rel=1e-5)


def test_float32_finds_what_float64_finds():
    w, d = weights(5000)
    with jax.enable_x64(True):
        best = objective(w, d, laq(w.astype(float), d.astype(float), 3, solver="exact"))
    found = laq(w, d, 3, solver="exact")
    assert (found.scale.dtype, found.codes.dtype) == (jnp.float32, jnp.int8)
    assert float(objective(w, d, found)) == pytest.approx(float(best), rel=1e-4)


def test_transformations_leave_results_and_derivatives_are_zero():
    w, d = weights((4, 30))

    def values(w, d):
        return laq(w, d, 3).dequantize()

    one_by_one = np.stack([values(*row) for row in zip(w, d)])
    np.testing.assert_allclose(jax.vmap(values)(w, d), one_by_one, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(values)(w[0], d[0]), one_by_one[0], rtol=1e-6)
    slope = jax.grad(lambda w: jnp.sum(values(w, d[0])))(w[0])
    np.testing.assert_array_equal(slope, 0)


def test_another_curvature_compiles_nothing():
    w, d = weights(77)
    for settings in ({}, {"solver": "exact"}, {"init": 0.3}):
        laq(w, d, 3, **settings)
        before = _laq._cache_size()
        laq(w + 1, 2 * d + 1, 3, **settings)
        assert _laq._cache_size() == before


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_weights_are_computed_in_float32(dtype):
    w = jnp.asarray(weights(50)[0], dtype)
    found, wide = laq(w, bits=3), laq(w.astype(jnp.float32), bits=3)
    np.testing.assert_array_equal(found.codes, wide.codes)
    assert found.scale == wide.scale
    assert found.scale.dtype == jnp.float32


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"bits": 0}, "bits = 0 must be a whole number from 1 to 8"),
        ({"bits": 9}, "bits = 9 must be"),
        ({"bits": 2.5}, "bits = 2.5 must be"),
        ({"levels": "cubic"}, "levels 'cubic' does not exist; choose from linear, log"),
        ({"solver": "best"}, "solver 'best' does not exist; choose from"),
        ({"group": 4}, "groups of 4 do not divide the last axis, of length 6"),
        ({"group": 0}, "group = 0 must be a whole number >= 1"),
        ({"axis": 2}, "axis 2 is none of an array of 2 axes"),
        ({"axis": 0, "group": 3}, "leave axis or group away"),
        (
            {"curvature": np.ones(6, np.float32)},
            "curvature has shape (6,) and the weights (2, 6)",
        ),
        ({"init": np.ones(3)}, "init of shape (3,) is no scale of these weights"),
        ({"iterations": -1}, "iterations = -1 must be a whole number >= 0"),
    ],
)
def test_what_does_not_exist_is_refused_in_a_sentence(settings, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        laq(weights((2, 6))[0], **settings)


def test_integers_are_no_weights():
    with pytest.raises(ValueError, match="floats"):
        laq(np.arange(4))
