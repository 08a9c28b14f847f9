"""Noise of rounding, against the same in NumPy's float64 and against closed forms."""

import jax
import numpy as np
import pytest

from lpml.formats import scaled
from lpml.measurements import product_sqnr, scale_exponents, sqnr, vsq_sqnr
from lpml.measurements.distributions import DISTRIBUTIONS, drawn

SHAPE = {"rows": 64, "columns": 512}
SIZE = (64, 512)


def last(measurement, seed=1):
    (line,) = measurement.lines(seed)
    assert line.keys() == set(measurement.metrics)
    return line


def decibels(wanted, found):
    return 10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum())


def integers(x, scale, most):
    return np.clip(np.rint(x / scale), -most, most)


def vsq(x, bits, block, scale_bits, order="requantise"):
    """Elements, scale codes and outer scales (one per row), in float64."""
    most, top = 2 ** (bits - 1) - 1, 2**scale_bits - 1
    blocks = x.astype(np.float64).reshape(len(x), -1, block)
    scale = np.abs(blocks).max(-1, keepdims=True) / most
    outer = scale.max(1, keepdims=True) / top
    codes = np.maximum(np.rint(scale / outer), 1)
    unit = codes * outer if order == "requantise" else scale
    return integers(blocks, unit, most), codes, outer


@pytest.mark.parametrize("source", DISTRIBUTIONS)
@pytest.mark.parametrize(("bits", "scale_bits"), [(4, 4), (4, 8), (8, 6), (3, 3)])
def test_two_level_scales_as_numpy_has_them(source, bits, scale_bits):
    x = drawn(source, SIZE, 1)
    for order in ("requantise", "paper"):
        elements, codes, outer = vsq(x, bits, 16, scale_bits, order)
        wanted = decibels(x.astype(np.float64), (elements * codes * outer).reshape(SIZE))
        numbers = {"bits": bits, "scale_bits": scale_bits, "order": order}
        found = last(vsq_sqnr(**numbers, distribution=source, **SHAPE))
        # float32 breaks some ties the other way
        assert abs(found["sqnr"] - wanted) < 2e-3
        cost = bits + scale_bits / 16 + 32 / SHAPE["columns"]
        assert found["bits_per_element"] == pytest.approx(cost, abs=1e-9)


@pytest.mark.parametrize(
    ("format", "axis", "scales"), [("int4tensor", None, 1), ("int4channel", 1, 64)]
)
def test_one_scale_for_many_as_numpy_has_it(format, axis, scales):
    x = drawn("laplace", SIZE, 2).astype(np.float64)
    scale = np.abs(x).max(axis, keepdims=True) / 7
    found = last(sqnr(format=format, distribution="laplace", **SHAPE), seed=2)
    assert abs(found["sqnr"] - decibels(x, integers(x, scale, 7) * scale)) < 2e-3
    assert found["bits_per_element"] == pytest.approx(4 + 32 * scales / x.size, abs=1e-9)


def test_fine_steps_make_noise_of_a_twelfth_of_their_square():
    """SQNR = 10 log10(12 mean(x^2) / mean(step^2)), the steps being those of the blocks."""
    x = drawn("gaussian", SIZE, 1).astype(np.float64)
    step = np.abs(x.reshape(64, -1, 32)).max(-1) / 127
    wanted = 10 * np.log10(12 * (x**2).mean() / (step**2).mean())
    found = last(vsq_sqnr(bits=8, block=32, scale_bits=32, **SHAPE))
    # the block's maximum has no error: one in 32
    exact = 10 * np.log10(32 / 31)
    assert abs(found["sqnr"] - wanted - exact) < 0.06
    assert found["bits_per_element"] == 8 + 32 / 32


@pytest.mark.parametrize(
    ("format", "bits"),
    [
        ("vsq4v16m8", 4.5 + 32 / 512),
        ("mxfp4", 4.25),
        ("mxfp8e4m3rceil", 8.25),
        ("nvfp4", 4.5 + 32 / 64 / 512),
        ("e4m3fn", 8),
    ],
)
def test_what_an_element_costs(format, bits):
    assert last(sqnr(format=format, **SHAPE))["bits_per_element"] == pytest.approx(bits)


def test_a_name_and_its_numbers_measure_the_same():
    for name, numbers in (
        ("vsq4v16m4", {}),
        ("vsq8v64m6", {"bits": 8, "block": 64, "scale_bits": 6}),
    ):
        assert last(sqnr(format=name, **SHAPE)) == last(vsq_sqnr(**numbers, **SHAPE))


@pytest.mark.parametrize(
    ("source", "fourth"), [("gaussian", 3), ("laplace", 6), ("student4", None)]
)
def test_the_tails_that_numbers_have(source, fourth):
    x = drawn(source, (512, 512), 3).astype(np.float64)
    variance = {"gaussian": 1, "laplace": 2, "student4": 2}[source]
    # Student's t has no fourth moment, so its variance settles slowly
    assert abs((x**2).mean() / variance - 1) < (0.02 if fourth else 0.1)
    if fourth:
        assert abs((x**4).mean() / (x**2).mean() ** 2 / fourth - 1) < 0.05
    else:  # P(|t| > 2.776) = 0.05
        assert abs((np.abs(x) > 2.776445).mean() - 0.05) < 0.002


def test_uneven_rows_are_uneven_by_their_rows():
    x = drawn("uneven_rows", (2048, 256), 3).astype(np.float64)
    sizes = np.log((x**2).mean(1)) / 2
    assert abs(sizes.std() - 1) < 0.06
    assert abs((np.abs(x).T / np.exp(sizes)).std(0).mean() / np.sqrt(1 - 2 / np.pi) - 1) < 0.02


def test_numbers_are_a_function_of_the_seed():
    kept = drawn("laplace", (4, 8), 5)
    with pytest.raises(ValueError, match="read-only"):
        kept[0, 0] = 1
    copy = kept.copy()
    assert not np.array_equal(copy, drawn("laplace", (4, 8), 6))
    np.testing.assert_array_equal(copy, drawn("laplace", (4, 8), 5))


def test_products_in_integers():
    """Every integer of the path in NumPy's int64, with scale products rounded to 6 bits."""
    m, k, n = 12, 256, 20
    operands = drawn("gaussian", (m + n, k), 4)
    elements, codes, outer = (
        part.squeeze(-1) if i else part for i, part in enumerate(vsq(operands, 4, 16, 4))
    )
    partial = np.einsum("mvi,nvi->mnv", elements[:m], elements[m:]).astype(np.int64)
    scales = (codes[:m, None] * codes[None, m:]).astype(np.int64)
    wanted = operands[:m].astype(np.float64) @ operands[m:].T.astype(np.float64)
    unit = outer[:m] @ outer[m:].T
    sizes = {"rows": m, "contracted": k, "columns": n}
    for product_bits, drop in ((None, 0), (6, 2)):
        rounded = (scales + (1 << drop >> 1)) >> drop
        sums = (partial * rounded).sum(-1)
        found = last(product_sqnr(product_bits=product_bits, **sizes), seed=4)
        assert abs(found["sqnr"] - decibels(wanted, sums * unit * 2**drop)) < 2e-3
        assert abs(found["sum_bits"] - np.log2(np.abs(sums).max())) < 1e-5
        simulated = (partial * scales).sum(-1) * unit
        missed = np.abs(sums * unit * 2**drop - simulated).max() / np.abs(simulated).max()
        assert abs(found["float_difference"] - missed) < 1e-6


def test_noises_of_both_operands_add():
    """1 / SNR of a product is the sum of both operands', to first order."""
    one = last(vsq_sqnr(rows=128, columns=1024))["sqnr"]
    sizes = {"rows": 64, "contracted": 1024, "columns": 64}
    assert abs(last(product_sqnr(**sizes))["sqnr"] - (one - 10 * np.log10(2))) < 0.3
    mixed = product_sqnr(activations="float32", weights="int4channel", **sizes)
    assert mixed.metrics == ("sqnr",)
    alone = last(sqnr(format="int4channel", rows=128, columns=1024))["sqnr"]
    assert abs(last(mixed)["sqnr"] - alone) < 0.3


@pytest.mark.parametrize("format", ["mxfp4", "mxfp8e4m3"])
def test_exponents_just_below_powers_of_two(format):
    found = last(scale_exponents(format=format))
    assert found["wrong"] == 0
    assert found["wrong_by_log2"] > 120, "the trap is gone: drop the measurement"


def test_wrong_exponents_are_counted(monkeypatch):
    """The first seven scales are doubled behind the measurement's back."""
    right = scaled.power_scales

    def wrong(*arguments):
        found = right(*arguments)
        return found._replace(codes=found.codes.at[:7].add(1))

    monkeypatch.setattr(scaled, "power_scales", wrong)
    jax.clear_caches()  # of programs with the right one, and then of those with this
    assert last(scale_exponents(format="mxfp4"))["wrong"] == 7
    jax.clear_caches()


@pytest.mark.parametrize(
    ("measure", "settings", "words"),
    [
        (sqnr, {"format": "mxfp5"}, "'mxfp5' does not exist"),
        (sqnr, {"distribution": "cauchy"}, "'cauchy' does not exist; choose from gaussian"),
        (sqnr, {"format": "mxfp4", "columns": 48}, "blocks of 32 do not divide"),
        (sqnr, {"rows": 0}, "rows = 0 must be at least 1"),
        (vsq_sqnr, {"scale_bits": 1}, "scale_bits = 1 must be 2 to 31, or 32 for float32"),
        (vsq_sqnr, {"scale_bits": 32, "outer": "tensor"}, "has no outer scale"),
        (vsq_sqnr, {"order": "random"}, "order 'random' does not exist"),
        (product_sqnr, {"weights": "nvfp4", "product_bits": 6}, "product_bits is for two VSQ"),
        (product_sqnr, {"weights": "vsq4v32m4"}, "blocks of 16 and 32 differ"),
        (product_sqnr, {"product_bits": 0}, "product_bits = 0 must be at least 1"),
        (scale_exponents, {"format": "nvfp4"}, "nvfp4 has no scales by the rule floor"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_sentence(measure, settings, words):
    with pytest.raises(ValueError, match=words):
        measure(**settings)
