"""Scaled formats against a loop over blocks, written from the definitions in exact numbers."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lpml import formats

few = settings(deadline=None, max_examples=10, derandomize=True)
POWERS = ("floor", "ceil", "rceil", "even")
FORMATS = {
    "vsq4": formats.VSQ(),
    "vsq3, 6-bit scales, per tensor": formats.VSQ(3, 16, 6, outer="tensor"),
    "vsq4, paper order": formats.VSQ(order="paper"),
    "vsq4, scales rounded up": formats.VSQ(scale_mode="away"),
    "vsq4, unsigned": formats.VSQ(signed=False),
    "int4, block scales in float32": formats.Scaled(formats.Symmetric(1.0, 4), 16),
    "nvfp4": formats.NVFP4(),
    "e2m1 with E4M3 scales, no outer": formats.Scaled(
        formats.E2M1, 16, "absmax", formats.E4M3FN
    ),
    "int8 channel": formats.int_channel(8),
    "fp8 tensor": formats.tensor_scaled(formats.E4M3FN),
    "mxint8": formats.MXINT8(block=16),
    **{f"mxfp4, {rule}": formats.MXFP4(rule, block=16) for rule in POWERS},
    **{f"mxfp8, {rule}": formats.MXFP8(rule=rule) for rule in POWERS},
    "mxfp6": formats.MXFP6(formats.E3M2, "even"),
}
every_format = pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS.keys())


def numbers(shape=(3, 64), seed=0):
    """Blocks of very different size, one of zeros, one of equal numbers."""
    rng = np.random.default_rng(seed)
    x = rng.standard_t(3, shape) * np.exp2(rng.integers(-9, 9, (shape[0], 1)))
    x[1, :32], x[2, 32:] = 0, x[2, 32]
    return x.astype(np.float32)


# --- the oracle -----------------------------------------------------------------------------


def nearest(values, x, up=False):
    """The value nearest to a float, ties to the even one counted from 0; or the next larger."""
    size = sorted(Fraction(float(v)) for v in values if v >= 0)
    negative = x < 0
    if negative and min(values) == 0:
        return 0.0
    wanted = min(abs(Fraction(float(x))), size[-1])
    if up:
        best = next(i for i, v in enumerate(size) if v >= wanted)
    else:
        best = min(range(len(size)), key=lambda i: (abs(size[i] - wanted), i % 2))
    return -float(size[best]) if negative else float(size[best])


def power(amax, rule, element):
    """OCP's shared scale for the largest magnitude `amax` > 0, all in exact numbers."""
    top, below = sorted(Fraction(float(v)) for v in element.values())[:-3:-1]
    amax = Fraction(float(amax))

    def log2_floor(q):
        e = 0
        while Fraction(2) ** (e + 1) <= q:
            e += 1
        while Fraction(2) ** e > q:
            e -= 1
        return e

    e = log2_floor(amax)
    if rule == "floor":
        e -= log2_floor(top)
    elif rule == "ceil":
        e = e + (Fraction(2) ** e < amax) - log2_floor(top)
    elif rule == "rceil":
        e -= log2_floor(top)
        e += amax > top * Fraction(2) ** e
    else:
        # half a step of the element's mantissa, where the maximum lies
        step = (top - below) / Fraction(2) ** log2_floor(top) * Fraction(2) ** e
        e = log2_floor(amax + step / 2) - log2_floor(top)
    return np.float32(2.0 ** min(max(e, -126), 126))


def reference(fmt, x):
    """`fmt.round` of a float32 matrix along its last axis: plain loops, float32 scales.

    Where the definitions divide by a scale, so do these loops: by its rounded reciprocal.
    """
    one = np.float32
    width = fmt.block if isinstance(fmt.block, int) else x.shape[1]
    blocks = x.reshape(x.shape[0], -1, width)
    counted = blocks if min(fmt.values()) < 0 else np.maximum(blocks, 0)
    amax = np.abs(counted).max(axis=-1)
    if fmt.block == "tensor":
        amax = np.full_like(amax, amax.max())
    float_scale = amax * (one(1) / one(fmt.element.largest))
    gamma = np.ones_like(amax)
    if fmt.outer is not None:
        over = float_scale.max(axis=None if fmt.outer == "tensor" else 1, keepdims=True)
        gamma = gamma * (over * (one(1) / one(fmt.scale_format.largest)))
    y = np.zeros_like(blocks)
    for row, column in np.ndindex(*amax.shape):
        if amax[row, column] == 0:
            continue
        scale = divisor = float_scale[row, column]
        if fmt.rule in POWERS:
            scale = divisor = power(amax[row, column], fmt.rule, fmt.element)
        elif fmt.scale_format is not None:
            grid = fmt.scale_format.values()
            up = fmt.scale_mode == "away"
            share = float_scale[row, column] * (one(1) / gamma[row, column])
            code = nearest(grid, share, up)
            scale = one(max(code, grid[grid > 0][0])) * gamma[row, column]
            divisor = scale if fmt.order == "requantise" else divisor
        for i, number in enumerate(blocks[row, column]):
            y[row, column, i] = one(nearest(fmt.values(), number * (one(1) / divisor))) * scale
    return y.reshape(x.shape)


@every_format
def test_rounding_is_what_the_definitions_give(fmt):
    x = numbers()
    np.testing.assert_array_equal(fmt.round(jnp.asarray(x)), reference(fmt, x))


# --- properties -----------------------------------------------------------------------------


@every_format
@given(drawn=hnp.arrays(np.float32, (2, 64), elements=st.floats(-4, 4, width=16)))
@few
def test_errors_are_bounded_block_by_block(fmt, drawn):
    if fmt.values()[0] == 0:
        drawn = np.abs(drawn)
    width = fmt.block if isinstance(fmt.block, int) else drawn.size
    amax = np.abs(drawn).reshape(-1, min(width, 64)).max(-1)
    amax = np.full_like(amax, amax.max()) if fmt.block == "tensor" else amax
    values = fmt.values()
    # half the widest step under a scale that is at most doubled; "floor" and "even" may
    # also saturate, nearest scales clip by half a scale step
    steps = {"absmax": 0.5, "rceil": 1.0, "ceil": 1.0}.get(fmt.rule, 1.0)
    bound = steps * np.diff(values).max() / values[-1] * amax
    if fmt.scale_format is not None:
        coarse = 1 / fmt.scale_format.largest if fmt.outer else 0.0
        top = np.abs(drawn).max() if fmt.outer == "tensor" else np.abs(drawn).max(1)
        rough = np.repeat(np.broadcast_to(top, 2), 64 // width) * coarse
        relative = 2.0**-4 if fmt.scale_format == formats.E4M3FN else 0.0
        # a scale that is off by `rough` moves the largest number as much
        bound = bound * (1 + relative) + relative * amax + rough + 2.0**-9
    if fmt.rule in ("floor", "even"):
        bound = np.maximum(bound, amax * (1 - values[-1] / 2 ** np.ceil(np.log2(values[-1]))))
    error = np.abs(np.asarray(fmt.round(jnp.asarray(drawn)), np.float64) - drawn)
    error = error.reshape(len(bound), -1).max(-1)
    assert (error <= bound * (1 + 1e-6)).all()


@every_format
def test_powers_of_two_pass_through(fmt):
    x = jnp.asarray(numbers())
    if fmt.scale_format is formats.E4M3FN and fmt.outer is None:
        pytest.skip("scales of E4M3 alone have a range of their own")
    for exponent in (-20, 7):
        scaled = fmt.round(x * 2.0**exponent)
        np.testing.assert_array_equal(scaled, fmt.round(x) * 2.0**exponent)


@every_format
def test_a_block_does_not_see_the_others(fmt):
    if not isinstance(fmt.block, int) or fmt.outer is not None:
        pytest.skip("its scales are not of blocks alone")
    x = numbers()
    alone = np.asarray(fmt.round(jnp.asarray(x)))
    x[:, 32:] *= 1000
    np.testing.assert_array_equal(np.asarray(fmt.round(jnp.asarray(x)))[:, :32], alone[:, :32])


@every_format
def test_zeros_stay_zeros(fmt):
    zeros = jnp.zeros((2, 64))
    np.testing.assert_array_equal(fmt.round(zeros), zeros)
    np.testing.assert_array_equal(fmt.decode(fmt.encode(zeros)), zeros)


def test_codes_of_zero_blocks():
    assert int(formats.VSQ().encode(jnp.zeros(16)).scales[0]) == 1
    assert int(formats.MXFP4().encode(jnp.zeros(32)).scales[0]) == 127
    assert float(formats.int_channel().encode(jnp.zeros(16)).scales[0]) == 1


def test_a_small_block_beside_a_large_one_keeps_the_least_scale():
    """Its scale would round to 0 and erase it; the guard keeps what the least code reaches."""
    x = jnp.concatenate([jnp.full(16, 7.0 * 15), jnp.full(16, 0.6)])
    encoded = formats.VSQ().encode(x)
    np.testing.assert_array_equal(encoded.scales, [15, 1])
    np.testing.assert_allclose(formats.VSQ().round(x)[16:], 1.0, rtol=3e-7)


def test_requantising_never_clips_what_paper_order_would_shift():
    x = jnp.asarray(numbers((64, 256)))
    error = {
        order: float(jnp.mean((formats.VSQ(order=order).round(x) - x) ** 2))
        for order in ("requantise", "paper")
    }
    assert error["requantise"] < error["paper"]


# --- what is not finite, or nearly nothing ----------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rule", POWERS)
def test_mx_makes_the_block_nan(rule, bad):
    fmt = formats.MXFP8(rule=rule)
    x = np.ones(96, np.float32)
    x[40] = bad
    y = np.asarray(fmt.round(jnp.asarray(x)))
    assert np.isnan(y[32:64]).all()
    np.testing.assert_array_equal(np.delete(y, np.s_[32:64]), 1)
    np.testing.assert_array_equal(fmt.encode(jnp.asarray(x)).scales == 255, [0, 1, 0])
    np.testing.assert_array_equal(fmt.decode(fmt.encode(jnp.asarray(x))), y)


@pytest.mark.parametrize("name", ["vsq4", "nvfp4", "int8channel", "fp8tensor"])
def test_elsewhere_nan_stays_alone_and_infinities_saturate(name):
    fmt = formats.by_name(name)
    x = np.tile(np.linspace(-1, 1, 16, dtype=np.float32), 2)
    clean = np.asarray(fmt.round(jnp.asarray(x)))
    x[3], x[4], x[21] = np.nan, -np.inf, np.inf
    y = np.asarray(fmt.round(jnp.asarray(x)))
    np.testing.assert_array_equal(y[[3, 4, 21]], [np.nan, clean.min(), clean.max()])
    others = np.delete(np.arange(32), [3, 4, 21])
    np.testing.assert_array_equal(y[others], clean[others])


@every_format
def test_the_ends_of_float32_are_taken(fmt):
    """Subnormal numbers flush, the smallest scale is a normal number, nothing overflows."""
    for size in (2.0**-149, 2.0**-130, 2.0**-126, 2.0**-123):
        y = np.asarray(fmt.round(jnp.full((1, 64), size, jnp.float32)))
        assert np.isfinite(y).all()
        assert (np.abs(y) <= 2.0**-122).all()
    top = np.finfo(np.float32).max
    y = np.asarray(fmt.round(jnp.full((1, 64), top)))
    assert np.isfinite(y).all() or fmt.rule in ("ceil", "rceil", "even")
    assert (y > 0).all()


def test_scale_codes_never_fall_below_2_to_the_minus_126():
    x = jnp.full(32, 2.0**-126)
    assert int(formats.MXFP8(formats.E5M2).encode(x).scales[0]) == 1


# --- axes, shapes, types --------------------------------------------------------------------


@every_format
@pytest.mark.parametrize("axis", [0, 1, -2, -3])
def test_any_axis_is_the_last_one_moved(fmt, axis):
    x = jnp.asarray(numbers((3, 64 * 64))).reshape(3, 64, 64)
    x = jnp.concatenate([x] * 22)[:64] if axis in (0, -3) else x
    moved = fmt.round(jnp.moveaxis(x, axis, -1))
    found = fmt.round(x, axis=axis)
    np.testing.assert_array_equal(jnp.moveaxis(found, axis, -1), moved)
    encoded = fmt.encode(x, axis=axis)
    assert encoded.codes.shape == x.shape
    np.testing.assert_array_equal(fmt.decode(encoded), found)


@pytest.mark.parametrize(
    "length",
    [
        pytest.param(n, marks=[pytest.mark.slow] if n in (1, 17) else [])
        for n in (1, 15, 17, 40)
    ],
)
def test_a_block_that_does_not_divide_is_refused_or_padded(length):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((5, length)), jnp.float32)
    with pytest.raises(ValueError, match=r'blocks of 16 .* length .* ragged="pad"'):
        formats.VSQ().round(x)
    fmt = formats.VSQ(ragged="pad")
    whole = jnp.pad(x, ((0, 0), (0, -length % 16)))
    wanted = formats.VSQ().round(whole)[:, :length]
    np.testing.assert_array_equal(fmt.round(x), wanted)
    encoded = fmt.encode(x)
    assert encoded.codes.shape == x.shape
    assert encoded.scales.shape == (5, -(-length // 16))
    np.testing.assert_array_equal(fmt.decode(encoded), wanted)
    np.testing.assert_array_equal(fmt.round(x.T, axis=0), wanted.T)


def test_bits_per_element():
    shape = (512, 4096)
    assert formats.MXFP4().bits_per_element(shape) == 4.25
    assert formats.NVFP4().bits_per_element(shape) == 4.5 + 32 / (512 * 4096)
    assert formats.VSQ().bits_per_element(shape) == 4.25 + 32 / 4096
    assert formats.VSQ(outer="tensor").bits_per_element((16, 5), 0) == 4.25 + 32 / 80
    assert formats.int_channel(4).bits_per_element(shape, axis=0) == 4 + 32 / 512
    assert formats.VSQ(ragged="pad").bits_per_element((1, 17)) == 4 + (2 * 4 + 32) / 17


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@every_format
def test_narrow_floats_are_computed_in_float32(fmt, dtype):
    # far from the subnormal float16, that the casts of some compilers flush
    drawn = np.random.default_rng(0).standard_normal((3, 64)) * 16
    x = jnp.asarray(np.round(drawn) / 16).astype(dtype)
    found = fmt.round(x)
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found, fmt.round(x.astype(jnp.float32)).astype(dtype))


def test_float64_has_scales_of_its_own():
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 32)))
        y = formats.int_channel(8).round(x)
        assert y.dtype == jnp.float64
        top = np.abs(np.asarray(x)).max(1, keepdims=True) / 127
        np.testing.assert_allclose(y, np.round(np.asarray(x) / top) * top, rtol=1e-14)
        np.testing.assert_array_equal(
            formats.MXFP8().round(x.astype(jnp.float32)),
            formats.MXFP8().round(x.astype(jnp.float32).astype(jnp.float64)),
        )


# --- four over six --------------------------------------------------------------------------


def test_four_over_six_takes_the_better_of_two_scales():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((8, 160)), jnp.float32)
    fmt = formats.NVFP4("four_over_six")
    y, blocks = np.asarray(fmt.round(x), np.float64), np.asarray(x).reshape(-1, 16)
    one = np.float32(1)
    sixth, quarter = one / np.float32(6), one / np.float32(4)
    gamma = np.abs(blocks).max() * sixth * np.float32(2.0**-8)
    chosen = []
    for block, found in zip(blocks, y.reshape(-1, 16), strict=True):
        tries = []
        for part in (sixth, quarter):
            share = np.abs(block).max() * part * (one / gamma)
            scale = np.float32(nearest(formats.E4M3FN.values(), share)) * gamma
            tries.append(
                [nearest(formats.E2M1.values(), v * (one / scale)) * scale for v in block]
            )
        errors = ((np.array(tries, np.float64) - block) ** 2).sum(1)
        np.testing.assert_array_equal(found, np.array(tries, np.float32)[errors.argmin()])
        chosen.append(errors.argmin())
    assert set(chosen) == {0, 1}
    np.testing.assert_array_equal(fmt.decode(fmt.encode(x)), fmt.round(x))
