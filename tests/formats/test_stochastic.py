"""Stochastic rounding (fact 25): the odds of going up, of minifloats and tables."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml import formats
from lpml.formats import Minifloat, Table

DRAWS = 400_000
FORMATS = {
    "e4m3fn": formats.E4M3FN,
    "e5m2": formats.E5M2,
    "e2m1": formats.E2M1,
    "e3m2": formats.E3M2,
    "e5m0": Minifloat(5, 0),
    "float16": formats.FLOAT16,
    "bfloat16": formats.BFLOAT16,
    "table": Table([-3.0, -1.0, 0.125, 0.75, 5.0, 2.0**70]),
}
every_format = pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS.keys())


def intervals(fmt, count=12):
    """Neighbouring values: the least, the greatest, and some between, of both signs."""
    values = fmt.values()
    middle = int(np.searchsorted(values, 0))
    last = len(values) - 2
    wanted = {0, last, middle - 1, min(middle, last), min(middle + 1, last)}
    spaced = np.linspace(0, last, count, dtype=int).tolist()
    return [(values[i], values[i + 1]) for i in sorted(wanted | set(spaced))]


@pytest.mark.parametrize("rng", ["threefry", "hash"])
@every_format
def test_the_odds_and_the_mean_are_exact_to_4_sigma_and_a_half(fmt, rng):
    draw = jax.jit(
        lambda x, key: fmt.round(
            jnp.full(DRAWS, x),
            "stochastic",
            bits=formats.random_bits(key, (DRAWS,), rng),
        )
    )
    for number, (low, high) in enumerate(intervals(fmt)):
        for p in (0.3, 0.5, 0.9):
            x = np.float32(low * (1 - p) + high * p)
            drawn = np.asarray(draw(x, jax.random.key(number)), np.float64)
            is_high = drawn == high
            assert (is_high | (drawn == low)).all()
            # of two values: the share of one is the mean
            share, exact = is_high.mean(), (float(x) - low) / (high - low)
            assert abs(share - exact) < 4.5 * np.sqrt(exact * (1 - exact) / DRAWS) < 0.004


@pytest.mark.parametrize("p", [2.0**-6, 2.0**-10])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_below_the_least_value_the_mean_stays(p, dtype):
    """Underflow does not swallow: the mean of what goes to 0 or to the least value is x."""
    with jax.enable_x64(dtype == "float64"):
        for fmt in (formats.E4M3FN, formats.E2M1, formats.FLOAT16, formats.BFLOAT16):
            x = jnp.full(DRAWS, p * fmt.smallest, dtype)
            drawn = np.asarray(fmt.round(x, "stochastic", key=jax.random.key(0)))
            share = (drawn == fmt.smallest).mean()
            assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / DRAWS)


def test_float64_odds_have_more_bits_than_float32_holds():
    """float32 of the offset would be exactly a value, and never move."""
    with jax.enable_x64(True):
        fmt = Minifloat(8, 23)
        x = 1 + 2.0**-23 * 0.3
        drawn = np.asarray(fmt.round(jnp.full(DRAWS, x), "stochastic", key=jax.random.key(1)))
        share = (drawn > 1).mean()
        assert abs(share - 0.3) < 4 * np.sqrt(0.21 / DRAWS)


@functools.partial(jax.jit, static_argnames="name")
def by_name(name, x, words):
    return FORMATS[name].round(x, "stochastic", bits=words)


def rounded(fmt, x, word):
    """In one program: every format has another number of values, so operations are its own."""
    name = next(name for name, known in FORMATS.items() if known is fmt)
    return np.asarray(by_name(name, x, np.full(x.shape, word, np.uint32)))


@every_format
def test_values_never_move_whatever_the_bits(fmt):
    values = jnp.asarray(fmt.values(), jnp.float32)
    for word in (0, 2**31, 2**32 - 1):
        np.testing.assert_array_equal(rounded(fmt, values, word), values)


@every_format
def test_words_of_0_never_go_up_and_the_largest_ones_always_do(fmt):
    """In magnitude for minifloats, in value for tables; up to where odds are near 0 or 1."""
    values = fmt.values()
    x = jnp.asarray(values[:-1] * 0.5 + values[1:] * 0.5, jnp.float32)
    least, most = (
        rounded(fmt, jnp.append(x, 0), word)[:-1]  # by the program for all values
        for word in (0, 2**32 - 1)
    )
    assert (least != most).all()
    assert np.isin(least, values.astype(np.float32)).all()
