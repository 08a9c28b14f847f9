"""Minifloats against exact rationals: every value, every tie, their neighbours, random bits."""

import functools
from fractions import Fraction

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import oracle
import pytest

from lpml import formats
from lpml.formats import MODES, Minifloat

# format, ml_dtypes' name for it
NAMED = {
    "e4m3fn": (formats.E4M3FN, ml_dtypes.float8_e4m3fn),
    "e5m2": (formats.E5M2, ml_dtypes.float8_e5m2),
    "e4m3": (formats.E4M3, ml_dtypes.float8_e4m3),
    "e3m4": (formats.E3M4, ml_dtypes.float8_e3m4),
    "e2m3": (formats.E2M3, ml_dtypes.float6_e2m3fn),
    "e3m2": (formats.E3M2, ml_dtypes.float6_e3m2fn),
    "e2m1": (formats.E2M1, ml_dtypes.float4_e2m1fn),
    "float16": (formats.FLOAT16, np.float16),
    "bfloat16": (formats.BFLOAT16, ml_dtypes.bfloat16),
}
ODD_ONES = {
    "e1m3": Minifloat(1, 3, special="finite"),
    "e1m0": Minifloat(1, 0, special="finite"),
    "e1m4 ieee": Minifloat(1, 4),
    "e2m0": Minifloat(2, 0),
    "e5m0 fn": Minifloat(5, 0, special="fn"),
    "e8m0": Minifloat(8, 0),
    "e8m3": Minifloat(8, 3),
    "e7m0 finite": Minifloat(7, 0, special="finite"),
    "e3m12": Minifloat(3, 12),
}
FORMATS = {name: fmt for name, (fmt, _) in NAMED.items()} | ODD_ONES
every_format = pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS.keys())
DETERMINISTIC = [mode for mode in MODES if mode != "stochastic"]
RANDOM = 150_000


@functools.cache
def fractions_of(fmt):
    return oracle.minifloat(fmt.exponent_bits, fmt.mantissa_bits, fmt.special)


@functools.cache
def magnitudes_of(fmt):
    return np.array([float(value) for value in fractions_of(fmt)])


def same_bits(found, wanted):
    """Equal as patterns: zeros by sign, NaNs too."""
    found, wanted = np.asarray(found), np.asarray(wanted).astype(np.asarray(found).dtype)
    word = {4: np.uint32, 8: np.uint64}[found.dtype.itemsize]
    np.testing.assert_array_equal(found.view(word), wanted.view(word))


@pytest.fixture
def in_x64():
    with jax.enable_x64(True):
        yield


@every_format
def test_values_and_limits_are_the_models(fmt):
    magnitudes = magnitudes_of(fmt)
    np.testing.assert_array_equal(
        fmt.values(), np.concatenate([-magnitudes[:0:-1], magnitudes])
    )
    assert (fmt.largest, fmt.smallest) == (magnitudes[-1], magnitudes[1])


@pytest.mark.parametrize("mode", DETERMINISTIC)
@pytest.mark.parametrize("name", ["e4m3fn", "e2m1", "e1m3", "e5m0 fn"])
def test_the_array_model_is_the_rational_model(name, mode):
    fmt = FORMATS[name]
    exact, magnitudes = fractions_of(fmt), magnitudes_of(fmt)
    x = oracle.points(magnitudes, np.float32, 300).astype(np.float64)
    wanted = [oracle.rounded(Fraction(value), exact, mode) for value in x]
    np.testing.assert_array_equal(oracle.rounded_array(x, magnitudes, mode), wanted)


@every_format
def test_float32_is_rounded_and_encoded_as_the_model_says(fmt):
    magnitudes = magnitudes_of(fmt)
    x = oracle.points(magnitudes, np.float32, RANDOM)
    wide = x.astype(np.float64)
    sign = np.signbit(wide).astype(np.int64) << (fmt.static_bits - 1)
    results = jax.jit(lambda x: [(fmt.round(x, m), fmt.encode(x, m)) for m in DETERMINISTIC])(x)
    for mode, (found, encoded) in zip(DETERMINISTIC, results):
        codes = oracle.rounded_array(wide, magnitudes, mode)
        same_bits(found, oracle.signed(codes, wide, magnitudes))
        np.testing.assert_array_equal(np.asarray(encoded), codes | sign)
    same_bits(jax.jit(fmt.decode)(encoded), found)


@every_format
def test_float64_is_rounded_once_from_all_of_its_bits(fmt, in_x64):
    """Ties that only the bits below float32's break."""
    magnitudes = magnitudes_of(fmt)
    x = oracle.points(magnitudes, np.float64, RANDOM // 4)
    results = jax.jit(lambda x: [(fmt.round(x, m), fmt.encode(x, m)) for m in DETERMINISTIC])(x)
    for mode, (found, encoded) in zip(DETERMINISTIC, results):
        codes = oracle.rounded_array(x, magnitudes, mode)
        assert found.dtype == np.float64
        same_bits(found, oracle.signed(codes, x, magnitudes))
        below_sign = 2 ** (fmt.static_bits - 1) - 1
        np.testing.assert_array_equal(np.asarray(encoded) & below_sign, codes)
    same_bits(jax.jit(lambda c: fmt.decode(c, jnp.float64))(results[-1][1]), found)


def test_casts_from_float64_round_twice_and_lpml_does_not(in_x64):
    """Fact 23."""
    x = 1 + 2.0**-8 + 2.0**-40
    assert float(np.float64(x).astype(ml_dtypes.bfloat16)) == 1.0
    assert float(jax.jit(lambda x: x.astype(jnp.bfloat16))(x)) == 1.0
    assert float(formats.BFLOAT16.round(jnp.float64(x))) == 1.0078125
    assert float(formats.FLOAT16.round(jnp.float64(1 + 2.0**-11 + 2.0**-40))) == 1 + 2.0**-10


@pytest.mark.parametrize("name", NAMED)
def test_ml_dtypes_agrees(name):
    """A second opinion (fact 7); its casts do not saturate, so clip first."""
    fmt, dtype = NAMED[name]
    x = oracle.points(magnitudes_of(fmt), np.float32, RANDOM, seed=1)
    wanted = np.clip(x, np.float32(-fmt.largest), np.float32(fmt.largest)).astype(dtype)
    same_bits(fmt.round(x := jnp.asarray(x)), wanted.astype(np.float32))
    codes = np.asarray(fmt.encode(x))
    np.testing.assert_array_equal(codes, wanted.view(codes.dtype))


@pytest.mark.parametrize("name", NAMED)
def test_every_code_decodes_as_in_ml_dtypes_and_encodes_to_itself(name):
    fmt, dtype = NAMED[name]
    fmt = Minifloat(fmt.exponent_bits, fmt.mantissa_bits, special=fmt.special, saturate=False)
    codes = np.arange(2**fmt.static_bits).astype(fmt.code_dtype)
    wanted = codes.view(dtype).astype(np.float32)
    found = np.asarray(fmt.decode(jnp.asarray(codes)))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    numbers = ~np.isnan(wanted)
    same_bits(found[numbers], wanted[numbers])
    np.testing.assert_array_equal(fmt.encode(jnp.asarray(found))[numbers], codes[numbers])
    assert np.isnan(fmt.decode(fmt.encode(jnp.asarray(found))))[~numbers].all()


def test_float32_itself_is_a_minifloat():
    """8 exponent and 23 mantissa bits: nothing changes but infinity, which saturates."""
    fmt = Minifloat(8, 23, saturate=False)
    x = oracle.points(np.array([0.0, 1e-45, 1.0]), np.float32, RANDOM)
    for mode in MODES:
        bits = jnp.full(len(x), 2**32 - 1, jnp.uint32)
        same_bits(fmt.round(jnp.asarray(x), mode, bits=bits), x)
    np.testing.assert_array_equal(fmt.encode(jnp.asarray(x)), x.view(np.uint32))
    same_bits(fmt.decode(jnp.asarray(x.view(np.uint32))), x)


@pytest.mark.parametrize("mode", ["nearest", "away", "stochastic"])
def test_one_program_serves_every_split(mode):
    """Traced widths give the bits of known ones, for all splits, in one compilation."""
    traces = []

    @jax.jit
    def traced(exponent_bits, mantissa_bits, x, bits):
        traces.append(1)
        fmt = Minifloat(exponent_bits, mantissa_bits)
        codes = fmt.encode(x, mode, bits=bits)
        return fmt.round(x, mode, bits=bits), codes, fmt.decode(codes), fmt.largest

    x = oracle.points(np.array([0.0, 2.0**-30, 1.0, 1e9]), np.float32, 3000)
    x = jnp.concatenate([x, jnp.array([jnp.nan, jnp.inf, -jnp.inf, 0.0, -0.0])])
    bits = formats.random_bits(jax.random.key(0), x.shape)
    splits = [(e, m) for e in (1, 2, 4, 5, 7, 8) for m in (0, 1, 7, 10, 23) if e + m > 1]
    for e, m in splits:
        fmt = Minifloat(e, m)
        values, codes, decoded, largest = traced(e, m, x, bits)
        same_bits(values, fmt.round(x, mode, bits=bits))
        np.testing.assert_array_equal(codes, fmt.encode(x, mode, bits=bits))
        # without mantissa, infinity's is the only special code
        numbers = ~np.isnan(x) if m == 0 else slice(None)
        same_bits(decoded[numbers], values[numbers])
        assert float(largest) == fmt.largest
    assert len(traces) == 1


def test_splits_may_be_vectorised_over():
    x = jnp.linspace(-20, 20, 101)
    splits = jnp.array([[4, 3], [5, 2], [8, 7]])
    found = jax.vmap(lambda e, m: Minifloat(e, m).round(x))(*splits.T)
    wanted = [Minifloat(e, m).round(x) for e, m in splits.tolist()]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("fmt", [formats.E4M3FN, formats.E5M2, formats.E2M1], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_what_is_beyond_saturates_by_default(fmt, mode):
    x = jnp.array([fmt.largest * 1.01, 1e30, jnp.inf])
    bits = jnp.full(3, 2**31, jnp.uint32)
    np.testing.assert_array_equal(fmt.round(x, mode, bits=bits), [fmt.largest] * 3)
    np.testing.assert_array_equal(fmt.round(-x, mode, bits=bits), [-fmt.largest] * 3)


def test_without_saturation_overflow_is_infinity_or_nan():
    """ml_dtypes' own overflow, which begins half a step beyond the largest value."""
    for name in ("e4m3fn", "e5m2", "e4m3", "e3m4", "float16"):
        fmt, dtype = NAMED[name]
        free = Minifloat(
            fmt.exponent_bits, fmt.mantissa_bits, special=fmt.special, saturate=False
        )
        x = np.float32(fmt.largest) * np.linspace(0.9, 1.3, 4001, dtype=np.float32)
        x = np.concatenate([x, [np.inf], -x, [-np.inf]]).astype(np.float32)
        with np.errstate(over="ignore"):
            wanted = x.astype(dtype).astype(np.float32)
        assert not np.isfinite(wanted).all()
        np.testing.assert_array_equal(free.round(jnp.asarray(x)), wanted)
        np.testing.assert_array_equal(free.decode(free.encode(jnp.asarray(x))), wanted)
        for mode in ("zero", "odd"):
            found = np.asarray(free.round(jnp.asarray(x), mode))
            np.testing.assert_array_equal(np.isfinite(found), np.isfinite(x))


@every_format
def test_nan_stays_and_has_a_code_where_the_format_has_nan(fmt):
    x = jnp.array([jnp.nan, -jnp.nan])
    assert np.isnan(fmt.round(x)).all()
    codes = fmt.encode(x)
    if fmt.special == "finite":
        np.testing.assert_array_equal(codes, 0)
    elif (fmt.special, fmt.mantissa_bits) != ("ieee", 0):
        assert np.isnan(fmt.decode(codes)).all()


def test_the_signs_of_zeros_and_underflows_are_kept():
    for fmt in FORMATS.values():
        x = jnp.array([0.0, -0.0, 1e-44, -1e-44])
        same_bits(fmt.round(x, "zero"), np.array([0.0, -0.0, 0.0, -0.0]))
        same_bits(fmt.decode(fmt.encode(x, "zero")), np.array([0.0, -0.0, 0.0, -0.0]))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Minifloat(0, 3), "exponent_bits = 0 is outside of 1 to 8"),
        (lambda: Minifloat(9, 3), "exponent_bits = 9"),
        (lambda: Minifloat(4, -1), "mantissa_bits = -1 is outside of 0 to 23"),
        (lambda: Minifloat(4, 24), "mantissa_bits = 24"),
        (lambda: Minifloat(4, 3, special="fnuz"), "choose from ieee, fn, finite"),
        (lambda: Minifloat(8, 3, special="fn"), "2\\^128"),
        (lambda: Minifloat(1, 0), "no value but 0"),
        (lambda: Minifloat(8, 23).values(), "at most 16 bits"),
    ],
)
def test_wrong_widths_are_refused_with_the_reason(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
