"""What every number format of `lpml.formats` promises; classes come from its export list."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from number_formats import CASES, INSTANCES

from lpml import formats

# scaled formats have a contract of their own: their values depend on the block
OTHERS = (formats.Format, formats.Scaled)
CLASSES = {
    name: thing
    for name in formats.__all__
    if inspect.isclass(thing := getattr(formats, name)) and thing not in OTHERS
}

DRAWS = 20_000

# Says little beside the posit of 16 bits and es 2, and takes as long.
RARELY = {"Posit, 16 bits es 1"}

every_format = pytest.mark.parametrize(
    "fmt",
    [
        pytest.param(fmt, id=name, marks=[pytest.mark.slow] if name in RARELY else [])
        for name, fmt in CASES.items()
    ],
)
deterministic = pytest.mark.parametrize(
    "mode", [mode for mode in formats.MODES if mode != "stochastic"]
)
few = settings(deadline=None, max_examples=8, derandomize=True)
unit = hnp.arrays(np.float32, 32, elements=st.floats(-1.5, 1.5, width=32))


@functools.partial(jax.jit, static_argnames="mode")
def compiled(fmt, x, mode="nearest", bits=None):
    return fmt.round(x, mode, bits=bits)


encoded = jax.jit(lambda fmt, x: fmt.encode(x))
decoded = jax.jit(lambda fmt, codes, dtype: fmt.decode(codes, dtype), static_argnames="dtype")


def once_for_each_format(function):
    """Remembers what a function of a format gave; arrays in formats keep them from a hash."""
    known = {}

    @functools.wraps(function)
    def remembered(fmt):
        assert any(fmt is case for case in CASES.values()), "another one may get the same id"
        if id(fmt) not in known:
            known[id(fmt)] = function(fmt)
        return known[id(fmt)]

    return remembered


@once_for_each_format
def grid(fmt):
    """All values as the format itself writes them in float32, ascending."""
    values = fmt.values().astype(np.float32)
    return np.asarray(decoded(fmt, encoded(fmt, values), "float32"))


@once_for_each_format
def greatest(fmt):
    return np.abs(fmt.values()).max()


def rounded(fmt, x, mode="nearest", bits=None):
    """Few numbers or as many as values: zeros behind make one program of both."""
    more = max(512, len(grid(fmt))) - len(x)
    bits = None if bits is None else np.pad(bits, (0, more))
    return np.asarray(compiled(fmt, np.pad(x, (0, more)), mode, bits))[: len(x)]


def spread(fmt, unit_values):
    """Numbers of [-1.5, 1.5] stretched to one and a half times the format's range."""
    limit = np.finfo(np.float32).max
    return np.clip(unit_values * greatest(fmt), -limit, limit).astype(np.float32)


def neighbours(points, x):
    """The grid points at or below and at or above x, clamped to the range."""
    last = len(points) - 1
    above = np.clip(np.searchsorted(points, x, side="left"), 0, last)
    below = np.clip(np.searchsorted(points, x, side="right") - 1, 0, last)
    return points[below], points[above]


def test_every_exported_format_has_instances_in_this_file():
    missing = sorted(set(CLASSES) - set(INSTANCES))
    assert not missing, f"add instances of {', '.join(missing)} to number_formats.py"
    assert not set(INSTANCES) - set(CLASSES), "INSTANCES names a class that is not exported"
    for name, instances in INSTANCES.items():
        assert instances
        assert all(type(fmt) is CLASSES[name] for fmt in instances.values())


@every_format
def test_values_ascend_and_are_what_decoding_gives(fmt):
    values = fmt.values()
    assert values.dtype == np.float64
    assert (np.diff(values) > 0).all()
    np.testing.assert_allclose(grid(fmt), values, rtol=2e-7)


@every_format
@deterministic
@given(drawn=unit)
@few
def test_rounding_is_idempotent_monotone_and_stays_among_the_values(fmt, mode, drawn):
    x = np.sort(spread(fmt, drawn))
    once = rounded(fmt, x, mode)
    assert np.isin(once, grid(fmt)).all()
    assert (once[1:] >= once[:-1]).all()
    np.testing.assert_array_equal(rounded(fmt, once, mode), once)


@every_format
@deterministic
def test_values_of_the_format_are_left_alone(fmt, mode):
    points = grid(fmt)
    np.testing.assert_array_equal(rounded(fmt, points, mode), points)


@every_format
@pytest.mark.parametrize("mode", ["nearest", "half_up"])
@given(drawn=unit)
@few
def test_the_nearest_value_is_at_most_half_a_step_away(fmt, mode, drawn):
    values = fmt.values()
    x = np.clip(spread(fmt, drawn), *grid(fmt)[[0, -1]])
    below, above = neighbours(values, x.astype(np.float64))
    error = np.abs(rounded(fmt, x, mode).astype(np.float64) - x)
    if isinstance(fmt, formats.Posit):
        # borders are geometric means at the ends of the range, and nothing rounds to 0
        above = below + 2 * (above - below)
    # float32 divides by the spacing: half an ulp of x in the place of a tie
    assert (error <= (above - below) / 2 + 4e-7 * np.abs(x)).all()


@every_format
def test_stochastic_rounding_hits_only_the_neighbours_and_is_unbiased(fmt):
    points = grid(fmt).astype(np.float64)
    middle = len(points) // 2
    low, high = points[middle], points[middle + 1]
    for share in (0.5, 0.1, 0.97):
        x = np.float32(low + share * (high - low))
        drawn = np.asarray(
            fmt.round(jnp.full(DRAWS, x), "stochastic", key=jax.random.key(7)), np.float64
        )
        assert set(drawn) == {low, high}
        odds = (float(x) - low) / (high - low)
        error = (high - low) * np.sqrt(odds * (1 - odds) / DRAWS)
        assert abs(drawn.mean() - float(x)) < 4 * error


@every_format
@given(drawn=unit, bits=hnp.arrays(np.uint32, 32))
@few
def test_stochastic_rounding_by_any_bits_gives_a_neighbour(fmt, drawn, bits):
    points, x = grid(fmt), spread(fmt, drawn)
    below, above = neighbours(points, x)
    found = rounded(fmt, x, "stochastic", bits)
    # x within an ulp of a value may go to either side of it
    near = np.abs(x - found) <= 3e-7 * np.abs(x)
    assert ((found == below) | (found == above) | near).all()


@every_format
def test_stochastic_rounding_leaves_values_alone(fmt):
    points = grid(fmt)
    found = rounded(fmt, points, "stochastic", words(len(points), 0))
    moved = np.flatnonzero(found != points)
    # a value divided by a spacing that is no power of two may miss its integer by one ulp;
    # float32 with 16 bits then moves it once in 2^9 times at most, to its neighbour
    assert len(moved) <= len(points) * 2.0**-9
    steps = np.searchsorted(points, found[moved]) - moved
    assert (np.abs(steps) == 1).all()


@every_format
def test_stochastic_rounding_without_randomness_is_refused(fmt):
    with pytest.raises(ValueError, match="key"):
        fmt.round(jnp.ones(2), "stochastic")


@every_format
def test_an_unknown_mode_is_refused_with_the_list(fmt):
    with pytest.raises(ValueError, match="nearest"):
        fmt.round(jnp.ones(2), "up")


@every_format
@deterministic
def test_codes_are_what_rounding_rounds_to(fmt, mode):
    x = jnp.asarray(spread(fmt, np.linspace(-1.5, 1.5, 997)))
    codes = fmt.encode(x, mode)
    assert codes.dtype == fmt.code_dtype
    assert jnp.issubdtype(codes.dtype, jnp.integer)
    assert fmt.decode(codes).dtype == jnp.float32
    np.testing.assert_array_equal(fmt.decode(codes), fmt.round(x, mode))


@every_format
def test_every_code_survives_decoding_and_encoding(fmt):
    codes = encoded(fmt, fmt.values().astype(np.float32))
    assert len(np.unique(codes)) == len(fmt.values())
    np.testing.assert_array_equal(encoded(fmt, decoded(fmt, codes, "float32")), codes)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(encoded(fmt, decoded(fmt, codes, "float64")), codes)


@every_format
@pytest.mark.parametrize("mode", formats.MODES)
def test_eager_jit_and_vmap_agree_with_the_format_as_an_argument(fmt, mode):
    x = jnp.asarray(spread(fmt, np.linspace(-1.5, 1.5, 96))).reshape(8, 12)
    bits = formats.random_bits(jax.random.key(1), x.shape) if mode == "stochastic" else None
    eager = np.asarray(fmt.round(x, mode, bits=bits))
    np.testing.assert_array_equal(compiled(fmt, x, mode, bits), eager)
    constant = jax.jit(lambda x, b: fmt.round(x, mode, bits=b))(x, bits)
    np.testing.assert_array_equal(constant, eager)
    rows = jax.vmap(lambda x, b: fmt.round(x, mode, bits=b))(x, bits)
    np.testing.assert_array_equal(rows, eager)


@every_format
def test_one_compiled_program_serves_all_instances_of_equal_kind(fmt):
    traces = []

    @jax.jit
    def run(leaves, x):
        traces.append(1)
        return jax.tree.unflatten(tree, leaves).round(x)

    x = jnp.linspace(-3, 3, 7)
    leaves, tree = jax.tree.flatten(fmt)
    assert leaves, "the numeric fields must be pytree leaves, so that they may be traced"
    run(leaves, x)
    run([leaf * 2 for leaf in leaves], x)
    assert len(traces) == 1


@every_format
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("mode", formats.MODES)
def test_the_dtype_of_the_numbers_is_kept(fmt, dtype, mode):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(spread(fmt, np.linspace(-1, 1, 5)), dtype)
        found = jax.eval_shape(lambda x: fmt.round(x, mode, key=jax.random.key(0)), x)
        assert found.dtype == jnp.dtype(dtype)


@every_format
def test_float64_results_are_the_values_exactly(fmt):
    with jax.enable_x64(True):
        values = jnp.asarray(fmt.values())
        np.testing.assert_array_equal(fmt.round(values), fmt.values())


@every_format
@pytest.mark.parametrize("mode", formats.MODES)
def test_gradients_are_the_named_ones(fmt, mode):
    edges = fmt.values()[[0, -1]].astype(np.float32)
    x = jnp.concatenate([jnp.linspace(-3, 3, 13), jnp.zeros(1), edges, 2 * jnp.asarray(edges)])
    key = jax.random.key(0)

    def slope(gradient):
        def run(x):
            return fmt.round(x, mode, key=key, gradient=gradient).sum()

        return np.asarray(jax.grad(run)(x))

    inside = (x >= edges[0]) & (x <= edges[1])
    np.testing.assert_array_equal(slope("straight_through"), 1)
    np.testing.assert_array_equal(slope("clipped"), inside)
    np.testing.assert_array_equal(slope("none"), 0)


@every_format
@pytest.mark.parametrize("mode", formats.MODES)
def test_nan_stays_and_infinities_saturate(fmt, mode):
    x = np.array([np.nan, np.inf, -np.inf], np.float32)
    found = rounded(fmt, x, mode, words(3, 3) if mode == "stochastic" else None)
    points = grid(fmt)
    np.testing.assert_array_equal(found, [np.nan, points[-1], points[0]])


@every_format
def test_empty_and_scalar_arrays_are_taken(fmt):
    assert fmt.round(jnp.zeros((0, 3))).shape == (0, 3)
    assert fmt.round(jnp.float32(0.3)).shape == ()


@every_format
def test_codes_are_in_the_order_of_values(fmt):
    """Signed codes: of the values; unsigned ones of signed numbers: of the magnitudes."""
    values = fmt.values()
    codes = np.asarray(encoded(fmt, values.astype(np.float32))).astype(np.int64)
    if isinstance(fmt, formats.Minifloat):
        codes, values = codes[values >= 0], values[values >= 0]
    assert (np.diff(codes) > 0).all()


@every_format
def test_formats_keep_the_protocol(fmt):
    assert isinstance(fmt, formats.Format)
    values = fmt.values()
    assert fmt.static_bits <= 8 * fmt.code_dtype.itemsize
    assert len(values) <= 2**fmt.static_bits
    np.testing.assert_allclose(fmt.largest, values[-1], rtol=2e-7)
    np.testing.assert_allclose(fmt.smallest, values[values > 0][0], rtol=2e-7)


@every_format
@pytest.mark.parametrize("mode", formats.MODES)
def test_directed_modes_go_where_they_say(fmt, mode):
    points = grid(fmt)
    x = spread(fmt, np.random.default_rng(1).uniform(-0.999, 0.999, 500))
    x = x[(x > points[0]) & (x < points[-1]) & ~np.isin(x, points)]
    found = rounded(fmt, x, mode, words(len(x), 2) if mode == "stochastic" else None)
    below, above = neighbours(points, x)
    wanted = {
        "zero": lambda: np.where(x > 0, below, above),
        "away": lambda: np.where(x > 0, above, below),
        "odd": lambda: np.where(codes_of(fmt, below) % 2 == 1, below, above),
    }.get(mode)
    if wanted is not None:
        np.testing.assert_array_equal(found, wanted())
    # no rounding mode leaves the two neighbours
    assert ((found == below) | (found == above)).all()


def words(count, seed):
    return np.random.default_rng(seed).integers(0, 2**32, count, dtype=np.uint32)


def codes_of(fmt, values):
    """Codes of float32 numbers among the values, by the program that encodes all of them."""
    codes = np.asarray(encoded(fmt, fmt.values().astype(np.float32))).astype(np.int64)
    return codes[np.searchsorted(grid(fmt), values)]


@every_format
def test_an_unknown_gradient_and_wrong_bits_are_refused(fmt):
    with pytest.raises(ValueError, match="straight_through, clipped, none"):
        fmt.round(jnp.ones(2), gradient="soft")
    for bits in (jnp.zeros(3, jnp.uint32), jnp.zeros(2, jnp.int32)):
        # with shape checks on, the annotation may be quicker than the sentence
        with pytest.raises(Exception, match=r"uint32|bits"):
            fmt.round(jnp.ones(2), "stochastic", bits=bits)


@every_format
def test_bits_are_what_a_key_stands_for(fmt):
    x, key = jnp.asarray(spread(fmt, np.linspace(-1, 1, 50))), jax.random.key(4)
    bits = formats.random_bits(key, x.shape)
    np.testing.assert_array_equal(
        fmt.round(x, "stochastic", bits=bits), fmt.round(x, "stochastic", key=key)
    )
