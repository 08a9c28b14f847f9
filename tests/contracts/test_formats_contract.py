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

from lpml import formats

CLASSES = {
    name: thing for name in formats.__all__ if inspect.isclass(thing := getattr(formats, name))
}

# Instances with at most 2^16 values; spacings that are and are not powers of two.
INSTANCES = {
    "Fixed": {
        "2 bits": formats.Fixed(0.5, 2),
        "4 bits of 0.1": formats.Fixed(0.1, 4),
        "8 bits to 1": formats.Fixed.spanning(1.0, 8),
        "8 bits of 2^-20": formats.Fixed(2.0**-20, 8),
        "11 bits of 1e10": formats.Fixed(1e10, 11),
        "16 bits of 1/3": formats.Fixed(1 / 3, 16),
    },
}
CASES = {f"{name}, {label}": fmt for name, of in INSTANCES.items() for label, fmt in of.items()}
DRAWS = 20_000

every_format = pytest.mark.parametrize("fmt", CASES.values(), ids=CASES.keys())
deterministic = pytest.mark.parametrize(
    "mode", [mode for mode in formats.MODES if mode != "stochastic"]
)
few = settings(deadline=None, max_examples=8, derandomize=True)
unit = hnp.arrays(np.float32, 32, elements=st.floats(-1.5, 1.5, width=32))


@functools.partial(jax.jit, static_argnames="mode")
def rounded(fmt, x, mode="nearest", noise=None):
    return fmt.round(x, mode, noise=noise)


def grid(fmt, dtype=np.float32):
    """All values as the format itself writes them in `dtype`, ascending."""
    values = jnp.asarray(fmt.values().astype(dtype))
    return np.asarray(jax.jit(lambda v: fmt.decode(fmt.encode(v), v.dtype))(values))


def spread(fmt, unit_values):
    """Numbers of [-1.5, 1.5] stretched to one and a half times the format's range."""
    return (unit_values * np.abs(fmt.values()).max()).astype(np.float32)


def neighbours(points, x):
    """The grid points at or below and at or above x, clamped to the range."""
    last = len(points) - 1
    above = np.clip(np.searchsorted(points, x, side="left"), 0, last)
    below = np.clip(np.searchsorted(points, x, side="right") - 1, 0, last)
    return points[below], points[above]


def test_every_exported_format_has_instances_in_this_file():
    missing = sorted(set(CLASSES) - set(INSTANCES))
    assert not missing, f"add instances of {', '.join(missing)} to INSTANCES of {__file__}"
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
    once = np.asarray(rounded(fmt, x, mode))
    assert np.isin(once, grid(fmt)).all()
    assert (np.diff(once) >= 0).all()
    np.testing.assert_array_equal(np.asarray(rounded(fmt, once, mode)), once)


@every_format
@deterministic
def test_values_of_the_format_are_left_alone(fmt, mode):
    points = grid(fmt)
    np.testing.assert_array_equal(np.asarray(rounded(fmt, points, mode)), points)


@every_format
@deterministic
@given(drawn=unit)
@few
def test_the_nearest_value_is_at_most_half_a_step_away(fmt, mode, drawn):
    values = fmt.values()
    x = np.clip(spread(fmt, drawn), *grid(fmt)[[0, -1]])
    below, above = neighbours(values, x.astype(np.float64))
    error = np.abs(np.asarray(rounded(fmt, x, mode), np.float64) - x)
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
@given(
    drawn=unit, noise=hnp.arrays(np.float32, 32, elements=st.floats(0, 1 - 2**-24, width=32))
)
@few
def test_stochastic_rounding_of_any_noise_gives_a_neighbour(fmt, drawn, noise):
    points, x = grid(fmt), spread(fmt, drawn)
    below, above = neighbours(points, x)
    found = np.asarray(rounded(fmt, x, "stochastic", noise=noise))
    # x within an ulp of a value may go to either side of it
    near = np.abs(x - found) <= 3e-7 * np.abs(x)
    assert ((found == below) | (found == above) | near).all()


@every_format
def test_stochastic_rounding_leaves_values_alone(fmt):
    points = grid(fmt)
    found = np.asarray(fmt.round(jnp.asarray(points), "stochastic", key=jax.random.key(0)))
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
    codes = fmt.encode(jnp.asarray(fmt.values(), jnp.float32))
    assert len(np.unique(codes)) == len(fmt.values())
    np.testing.assert_array_equal(fmt.encode(fmt.decode(codes)), codes)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(fmt.encode(fmt.decode(codes, jnp.float64)), codes)


@every_format
@pytest.mark.parametrize("mode", formats.MODES)
def test_eager_jit_and_vmap_agree_with_the_format_as_an_argument(fmt, mode):
    x = jnp.asarray(spread(fmt, np.linspace(-1.5, 1.5, 96))).reshape(8, 12)
    noise = jax.random.uniform(jax.random.key(1), x.shape) if mode == "stochastic" else None
    eager = np.asarray(fmt.round(x, mode, noise=noise))
    np.testing.assert_array_equal(rounded(fmt, x, mode, noise), eager)
    constant = jax.jit(lambda x, n: fmt.round(x, mode, noise=n))(x, noise)
    np.testing.assert_array_equal(constant, eager)
    rows = jax.vmap(lambda x, n: fmt.round(x, mode, noise=n))(x, noise)
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
        assert fmt.round(x, mode, key=jax.random.key(0)).dtype == jnp.dtype(dtype)


@every_format
def test_float64_results_are_the_values_exactly(fmt):
    with jax.enable_x64(True):
        values = jnp.asarray(fmt.values())
        np.testing.assert_array_equal(fmt.round(values), fmt.values())


@every_format
@pytest.mark.parametrize("mode", formats.MODES)
def test_the_gradient_through_rounding_is_finite(fmt, mode):
    edges = fmt.values()[[0, -1]].astype(np.float32)
    x = jnp.concatenate([jnp.linspace(-3, 3, 13), jnp.zeros(1), jnp.asarray(edges), 2 * edges])
    slope = jax.grad(lambda x: fmt.round(x, mode, key=jax.random.key(0)).sum())(x)
    assert set(np.asarray(slope).tolist()) <= {0.0, 1.0}


@every_format
@pytest.mark.parametrize("mode", formats.MODES)
def test_nan_stays_and_infinities_saturate(fmt, mode):
    x = jnp.array([jnp.nan, jnp.inf, -jnp.inf])
    found = np.asarray(fmt.round(x, mode, key=jax.random.key(3)))
    points = grid(fmt)
    np.testing.assert_array_equal(found, [np.nan, points[-1], points[0]])


@every_format
def test_empty_and_scalar_arrays_are_taken(fmt):
    assert fmt.round(jnp.zeros((0, 3))).shape == (0, 3)
    assert fmt.round(jnp.float32(0.3)).shape == ()
