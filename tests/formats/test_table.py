"""Tables against exact rationals: values, ties, neighbours, spacings of every size."""

import bisect
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml.formats import MODES, Table

LISTS = {
    "two": [-1.0, 3.0],
    "uneven": [-(2.0**100), -3.0, -1.0, 0.0, 2.0**-90, 1 + 2.0**-23, 1.5, 2.0**60],
    "adjacent": [1.0, 1 + 2.0**-23, 1 + 2.0**-22, 2.0],
    "powers": 2.0 ** np.arange(-99, 120, 3),
    "thirds": np.arange(-20, 21) / 3,
}
DETERMINISTIC = [mode for mode in MODES if mode != "stochastic"]


def model(x, values, mode):
    """Position of the value that x is rounded to, in Fractions."""
    x = min(max(x, values[0]), values[-1])
    above = bisect.bisect_left(values, x)
    if values[above] == x:
        return above
    below = above - 1
    twice, middle = 2 * x, values[below] + values[above]
    tie = twice == middle
    up = {
        "zero": x < 0,
        "away": x > 0,
        "odd": below % 2 == 0,
        "nearest": twice > middle or (tie and below % 2 == 1),
        "half_up": twice >= middle,
    }[mode]
    return below + up


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("points", LISTS.values(), ids=LISTS.keys())
def test_rounding_is_the_models(points, dtype):
    own = np.asarray(points, dtype)  # what the values are in this dtype
    ties = own[1:] / 2 + own[:-1] / 2
    rng = np.random.default_rng(0)
    around = rng.choice(np.concatenate([own, ties]), 200)
    x = np.concatenate([own, ties, np.nextafter(ties, -np.inf), np.nextafter(ties, np.inf)])
    tiny = np.array([1e-45, -1e-45, 0.0, -0.0])
    x = np.concatenate([x, np.nextafter(own, -np.inf), np.nextafter(own, np.inf), tiny])
    x = np.concatenate([x, around * rng.uniform(0.5, 1.5, 200)]).astype(dtype)
    exact = [Fraction(float(value)) for value in own]
    with jax.enable_x64(dtype == "float64"):
        fmt = Table(points)
        # one program: every list makes other shapes, for which operations compile one by one
        run = jax.jit(lambda x: [(fmt.encode(x, m), fmt.round(x, m)) for m in DETERMINISTIC])
        for mode, (codes, rounded) in zip(DETERMINISTIC, run(x), strict=True):
            wanted = [model(Fraction(float(number)), exact, mode) for number in x]
            np.testing.assert_array_equal(codes, wanted)
            np.testing.assert_array_equal(rounded, own[wanted])


@pytest.mark.parametrize(("count", "width"), [(2, 1), (16, 4), (255, 8), (256, 8), (65536, 16)])
def test_codes_are_as_wide_as_the_list_is_long(count, width):
    fmt = Table(np.arange(count) - count / 2)
    assert fmt.static_bits == width
    assert fmt.code_dtype == ("uint8" if width <= 8 else "uint16")
    x = jnp.array([-1e6, 1e6, jnp.nan])
    full = count in (256, 65536)
    np.testing.assert_array_equal(fmt.encode(x), [0, count - 1, 0 if full else count])
    decoded = np.asarray(fmt.decode(fmt.encode(x)))
    assert np.isnan(decoded[2]) == (not full)


def test_the_list_may_be_traced():
    points = jnp.array([[-1.0, 0.25, 2.0], [0.0, 1.0, 4.0]])
    x = jnp.linspace(-2, 5, 50)
    found = jax.jit(jax.vmap(lambda p: Table(p).round(x)))(points)
    wanted = [Table(list(map(float, row))).round(x) for row in points]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        ([1.0], "2 to 65536"),
        ([[1.0, 2.0]], "2 to 65536"),
        (np.arange(65537.0), "2 to 65536"),
        ([1.0, np.inf], "finite"),
        ([2.0, 1.0], "ascend"),
        ([1.0, 1.0], "ascend"),
        ([1.0, 1 + 2.0**-40], "distinct in float32"),
        ([0.0, 1e-40], "magnitude"),
        ([0.0, 1e38], "magnitude"),
    ],
)
def test_wrong_lists_are_refused_with_the_reason(points, sentence):
    with pytest.raises(ValueError, match=sentence):
        Table(points)
