"""Posits against their definition in exact arithmetic (posit_oracle)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import posit_oracle as oracle
import pytest

from lpml.formats import MODES, Posit, by_name, random_bits

KINDS = [(8, 0), (8, 1), (8, 2), (16, 1), (16, 2), (16, 3)]
SMALL = [(3, 0), (3, 1), (5, 0), (6, 2), (9, 3), (11, 1)]
INFINITY = 0x7F800000


@pytest.fixture
def in_x64():
    with jax.enable_x64(True):
        yield


@functools.partial(jax.jit, static_argnames="mode")
def encode(posit, x, mode="nearest", bits=None):
    return posit.encode(x, mode, bits=bits).astype(jnp.int32)


@functools.partial(jax.jit, static_argnames="mode")
def rounded(posit, x, mode="nearest", bits=None):
    return posit.round(x, mode, bits=bits)


@functools.cache
def points(bits, es):
    """Values, borders, the float32 neighbours of borders, random patterns; of both signs."""
    values, borders = oracle.magnitudes(bits, es), oracle.magnitudes(bits + 1, es)[::2]
    with np.errstate(over="ignore"):
        ties = borders.astype(np.float32)
    ties = ties[(ties == borders) & np.isfinite(ties)]
    rng = np.random.default_rng(0)
    anything = rng.integers(0, INFINITY, 100_000, np.int32).view(np.float32)
    tiny = np.array([0, 1, 2, 0x7FFFFF, 0x800000, INFINITY - 1], np.int32).view(np.float32)
    sides = [np.nextafter(ties, np.float32(to)) for to in (0, np.inf)]
    found = np.concatenate([values.astype(np.float32), ties, *sides, anything, tiny])
    return np.concatenate([found, -found])


def test_the_oracle_itself():
    """Codes of the standard's own kind: 1, the ends, and a number through every field."""
    assert oracle.decode(0b0_10_01_100, 8, 2) == 3
    assert oracle.decode(0x7F, 8, 2) == 2**24
    assert oracle.decode(-1, 16, 2) == -(oracle.Fraction(2) ** -56)
    assert [oracle.encode(oracle.decode(c, 8, 1), 8, 1) for c in range(-128, 128)] == [
        *range(-128, 128)
    ]
    x = points(8, 2)[::97]
    codes = [oracle.encode(oracle.Fraction(float(v)), 8, 2) for v in x]
    np.testing.assert_array_equal(oracle.nearest_codes(x, 8, 2), codes)


@pytest.mark.parametrize(("bits", "es"), KINDS + SMALL)
def test_codes_are_the_definitions_at_values_ties_neighbours_and_random_numbers(bits, es):
    x = points(bits, es)
    found = encode(Posit(bits, es), x)
    np.testing.assert_array_equal(found, oracle.nearest_codes(x, bits, es))


@pytest.mark.parametrize(("bits", "es"), KINDS + SMALL)
@pytest.mark.parametrize("mode", ["zero", "away", "odd", "half_up"])
def test_directed_modes_are_their_definitions(bits, es, mode):
    x = points(bits, es)
    values = np.concatenate([[0], oracle.magnitudes(bits, es)])
    at = np.abs(x.astype(np.float64))
    low = np.searchsorted(values, at, side="right") - 1
    inexact = (values[low] < at) & (low < len(values) - 1)
    if mode == "half_up":
        codes = np.abs(oracle.nearest_codes(x, bits, es))
        borders = oracle.magnitudes(bits + 1, es)[2:-1:2]
        tie = np.isin(at, borders)
        want = np.where(tie, low + (x > 0), codes)
    else:
        up = {"zero": 0, "away": 1, "odd": low % 2 == 0}[mode]
        want = low + (inexact & up)
    want = np.where(x < 0, -want, want)
    np.testing.assert_array_equal(encode(Posit(bits, es), x, mode), want)


@pytest.mark.parametrize(("bits", "es"), KINDS)
def test_every_code_decodes_by_definition_and_survives_encoding(bits, es):
    posit, codes = Posit(bits, es), np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1))
    values = np.asarray(posit.decode(jnp.asarray(codes, posit.code_dtype)), np.float64)
    assert np.isnan(values[0])
    assert (np.diff(values[1:]) > 0).all()
    np.testing.assert_array_equal(values[2 ** (bits - 1) + 1 :], oracle.magnitudes(bits, es))
    np.testing.assert_array_equal(values[1:], -values[:0:-1])
    np.testing.assert_array_equal(posit.values(), values[1:])
    np.testing.assert_array_equal(encode(posit, values.astype(np.float32)), codes)
    bare = (codes % 2**bits).astype(f"uint{posit.width}")  # without sign extension
    np.testing.assert_array_equal(posit.decode(jnp.asarray(bare)), values)


@pytest.mark.parametrize(
    ("bits", "es", "x", "code", "value"),
    [
        (16, 2, np.pi, 0x4C91, 3.1416015625),
        (8, 2, np.pi, 0x4D, 3.25),
        (8, 0, np.pi, 0x69, 3.125),
        (16, 1, np.pi, 0x5922, None),
        (16, 2, 0.1, 0x24CD, None),
        (16, 2, -2.5, 0xB600 - 2**16, -2.5),
        (16, 2, 1e20, 0x7FFF, 2.0**56),
        (16, 2, 1e-20, 0x0001, 2.0**-56),
        (8, 2, 1000, 0x74, 1024),
    ],
)
def test_single_codes(bits, es, x, code, value):
    posit = Posit(bits, es)
    assert posit.encode(jnp.float32(x)) == code
    if value is not None:
        assert posit.round(jnp.float32(x)) == value


def test_posits_of_es_2_widen_by_appending_zeros():
    codes = jnp.arange(-128, 128, dtype=jnp.int8)
    wide = Posit(16).encode(Posit(8).decode(codes))
    np.testing.assert_array_equal(wide, np.arange(-128, 128) << 8)


@pytest.mark.parametrize(
    ("bits", "es", "most"), [(16, 1, 2**-12), (16, 2, 2**-12), (8, 2, 1 / 17)]
)
def test_relative_error_near_1(bits, es, most):
    x = np.concatenate([p[(p >= 1 / 16) & (p < 16)] for p in (points(bits, es),)])
    x = np.concatenate([x, np.linspace(1 / 16, 16, 400_000, endpoint=False, dtype=np.float32)])
    error = np.abs(np.asarray(rounded(Posit(bits, es), x), np.float64) / x - 1).max()
    # the worst tie itself is 1 + 2^-12 away from both, relative to the larger
    assert error == pytest.approx(most, rel=3e-4)


def sweep(bits, es, starts, size):
    """Violations of monotonicity, and of round == decode(encode), bit by bit."""
    posit, last, steps, different = Posit(bits, es), 0, 0, 0

    @jax.jit
    def run(start, posit):
        x = jax.lax.bitcast_convert_type(start + jnp.arange(size), jnp.float32)
        return encode(posit, x), posit.round(x)

    for start in starts:
        codes, values = map(np.asarray, run(np.int32(start), posit))
        decoded = np.asarray(posit.decode(jnp.asarray(codes, posit.code_dtype)))
        steps += (np.diff(codes) < 0).sum() + (codes[0] < last)
        different += (decoded.view(np.int32) != values.view(np.int32)).sum()
        last = codes[-1]
    return steps, different


@pytest.mark.parametrize(("bits", "es"), [(8, 0), (8, 2), (16, 1), (16, 2)])
def test_encoding_ascends_along_a_sample_of_all_floats(bits, es):
    size = 2**15
    assert sweep(bits, es, range(0, INFINITY, 64 * size), size) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "es"), [(8, 0), (8, 2), (16, 1), (16, 2)])
def test_encoding_ascends_along_all_floats(bits, es):
    """With the exact test at all values and borders this is a proof for every float32."""
    size = 2**23
    assert INFINITY % size == 0
    assert sweep(bits, es, range(0, INFINITY, size), size) == (0, 0)


def in_between(bits, es):
    """60 neighbouring values from all of the range, and 0 with the smallest."""
    values = np.concatenate([[0], oracle.magnitudes(bits, es)])
    at = np.unique(np.linspace(0, len(values) - 2, 60).astype(int))
    return values[at], values[at + 1]


@pytest.mark.parametrize(("bits", "es"), [(8, 0), (8, 2), (16, 1), (16, 2), (9, 3)])
def test_stochastic_rounding_is_unbiased_in_value(bits, es):
    """Also where exponent bits are cut; random bits added to the code give 0.59 for 0.3.

    Words at equal distances in place of random ones: closer to the odds than 10^6 draws.
    """
    words = jnp.arange(0, 2**32, 2**20, dtype=jnp.uint32)[:, None]
    low, high = in_between(bits, es)
    for share in (0.3, 0.5, 0.9):
        x = (low + share * (high - low)).astype(np.float32)
        exact = (x.astype(np.float64) - low) / (high - low)
        shape = (len(words), len(x))
        drawn = [jnp.broadcast_to(part, shape) for part in (x, words)]
        found = np.asarray(rounded(Posit(bits, es), drawn[0], "stochastic", drawn[1]))
        assert ((found == low) | (found == high)).all()
        odds = (found == high).mean(axis=0)
        assert np.abs(odds - exact).max() <= 2 / len(words)


def test_stochastic_rounding_meets_its_odds_word_by_word():
    """p8 between 2^20 and 2^24, where all exponent bits are cut; and below the smallest."""
    words = jnp.arange(0, 2**32, 2**20, dtype=jnp.uint32)
    for x, low, high in [(0.3, 2.0**20, 2.0**24), (0.75, 0.0, 2.0**-24), (0.5, 1.0, 1.125)]:
        value = jnp.full(words.shape, low + x * (high - low), jnp.float32)
        found = np.asarray(rounded(Posit(8), value, "stochastic", words))
        assert (found == high).mean() == pytest.approx(x, abs=2 / len(words))
        assert (np.diff(found) <= 0).all()  # up for words below the odds
        negative = rounded(Posit(8), -value, "stochastic", words)
        np.testing.assert_array_equal(negative, -found)


def test_subnormal_numbers_are_drawn_by_their_size():
    posit = Posit(32)
    words = jnp.arange(0, 2**32, 2**20, dtype=jnp.uint32)
    x = jax.lax.bitcast_convert_type(jnp.full(words.shape, 0x400000, jnp.int32), jnp.float32)
    found = posit.round(x, "stochastic", bits=words)
    assert (np.asarray(found) > 0).mean() == pytest.approx(2.0**-7, abs=2 / len(words))


@pytest.mark.parametrize("mode", MODES)
def test_traced_widths_give_the_bits_of_static_ones_in_one_compilation(mode):
    traces = []

    @jax.jit
    def traced(bits, es, x, words):
        traces.append(1)
        posit = Posit(bits, es)
        assert posit.static_bits is None
        assert posit.code_dtype == jnp.int32
        codes = posit.encode(x, mode, bits=words)
        return posit.round(x, mode, bits=words), codes, posit.decode(codes)

    x = jnp.asarray(points(8, 2)[::50])
    words = random_bits(jax.random.key(0), x.shape)
    for bits, es in [(3, 0), (5, 1), (8, 2), (13, 3), (16, 2), (32, 2), (25, 0)]:
        posit = Posit(bits, es)
        values, codes, decoded = traced(bits, es, x, words)
        np.testing.assert_array_equal(values, posit.round(x, mode, bits=words))
        np.testing.assert_array_equal(codes, posit.encode(x, mode, bits=words))
        np.testing.assert_array_equal(decoded, posit.decode(posit.encode(x, mode, bits=words)))
    assert len(traces) == 1


def test_widths_may_be_mapped():
    x = jnp.linspace(-3, 3, 50)
    found = jax.vmap(lambda bits: Posit(bits).round(x))(jnp.arange(4, 20))
    for row, bits in zip(found, range(4, 20)):
        np.testing.assert_array_equal(row, Posit(bits).round(x))


@pytest.mark.parametrize(("bits", "es"), [(24, 1), (27, 2), (28, 2), (32, 1), (32, 2)])
@pytest.mark.parametrize("mode", ["nearest", "zero", "away", "odd"])
def test_float32_rounds_to_wide_posits_without_x64(bits, es, mode):
    """Each is a float32 again, the one that float64 finds."""
    x = points(16, 2)[::7]
    found = np.asarray(rounded(Posit(bits, es), x, mode))
    codes = np.asarray(encode(Posit(bits, es), x, mode))
    with jax.enable_x64(True):
        wide = x.astype(np.float64)
        np.testing.assert_array_equal(found, rounded(Posit(bits, es), wide, mode))
        np.testing.assert_array_equal(codes, encode(Posit(bits, es), wide, mode))


@pytest.mark.parametrize(("bits", "es"), [(8, 2), (16, 2), (16, 4), (32, 0), (32, 2), (32, 4)])
def test_float64_rounds_once_from_all_its_bits(bits, es, in_x64):
    rng = np.random.default_rng(1)
    codes = rng.integers(1, 2**bits - 1, 1500)
    ties = [float(oracle.decode(int(c) | 1, bits + 1, es)) for c in codes if c | 1 < 2**bits]
    ties = np.abs(ties)
    anything = rng.integers(0, 0x7FF << 52, 1500).view(np.float64)
    x = np.concatenate([ties, np.nextafter(ties, 0), np.nextafter(ties, np.inf), anything])
    x = np.concatenate([x, -x])
    want = [oracle.encode(oracle.Fraction(float(v)), bits, es) for v in x]
    np.testing.assert_array_equal(encode(Posit(bits, es), x), want)
    values = [float(oracle.decode(code, bits, es)) for code in want]
    np.testing.assert_array_equal(rounded(Posit(bits, es), x), values)


def test_decoding_long_codes_to_float32_is_to_nearest():
    codes = np.random.default_rng(2).integers(-(2**31) + 1, 2**31, 20_000, np.int32)
    found = Posit(32).decode(jnp.asarray(codes))
    with jax.enable_x64(True):
        exact = np.asarray(Posit(32).decode(jnp.asarray(codes), jnp.float64))
    np.testing.assert_array_equal(found, exact.astype(np.float32))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_nan_is_nar_and_infinities_are_as_told(mode, bits):
    x, words = jnp.array([jnp.nan, jnp.inf, -jnp.inf, 0, -0.0]), jnp.zeros(5, jnp.uint32)
    top = 2 ** (bits - 1)
    found = encode(Posit(bits), x, mode, words)
    np.testing.assert_array_equal(found, [-top, top - 1, 1 - top, 0, 0])
    strict = Posit(bits, saturate=False)
    np.testing.assert_array_equal(encode(strict, x, mode, words), [-top, -top, -top, 0, 0])
    values = np.asarray(strict.round(x, mode, bits=words))
    np.testing.assert_array_equal(values, [np.nan] * 3 + [0, 0])
    assert not np.signbit(values[3:]).any()  # there is one zero
    assert np.isnan(strict.decode(jnp.asarray([-top], strict.code_dtype)))


def test_ranges_and_impossible_formats():
    assert (Posit(8).largest, Posit(8).smallest) == (2.0**24, 2.0**-24)
    assert jax.jit(lambda b: Posit(b).smallest)(16) == 2.0**-56
    for bits, es, named in [(2, 2, "bits = 2"), (33, 2, "bits = 33"), (8, 5, "es = 5")]:
        with pytest.raises(ValueError, match=named):
            Posit(bits, es)
    with pytest.raises(ValueError, match="float64"):
        Posit(16, 4).round(jnp.ones(2))
    with pytest.raises(ValueError, match="16 bits"):
        Posit(17).values()


def test_posits_have_names():
    assert by_name("posit16") == Posit(16)
    assert by_name("Posit8es0") == Posit(8, 0)
    with pytest.raises(ValueError, match="bits = 64"):
        by_name("posit64")
