"""Single operations on offsets, against subtraction and derivatives in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lpml.quant import difference

RANDOM = np.random.default_rng(3)
MATRIX = RANDOM.normal(size=(4, 3)).astype(np.float32)
IMAGES = RANDOM.normal(size=(2, 5, 6, 3)).astype(np.float32)
KERNEL = RANDOM.normal(size=(3, 2, 3, 4)).astype(np.float32)
CHOSEN = np.array([2, 0, 2, 1])


def pool(reduce, start, window, strides, padding):
    def of(x):
        return lax.reduce_window(x, start, reduce, (1, *window, 1), (1, *strides, 1), padding)

    return of


max_pool = pool(lax.max, -np.inf, (2, 3), (1, 2), "SAME")


def convolved(x, kernel):
    dtype = jnp.promote_types(x.dtype, kernel.dtype)
    x, kernel = x.astype(dtype), kernel.astype(dtype)
    return lax.conv_general_dilated(
        x, kernel, (2, 1), ((1, 0), (0, 2)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


# of one array of normal numbers: smooth ones, then ones with kinks or jumps
SMOOTH = {
    "add": lambda x: x + x[::-1] + 1,
    "sub": lambda x: 1 - x - x.T.T[:, ::-1],
    "mul": lambda x: x * x[::-1] * 2,
    "div": lambda x: x / (3 + x * x) + 1 / (9 + x),
    "matmul": lambda x: x @ (MATRIX.T @ x),
    "exp": jnp.exp,
    "exp2": jnp.exp2,
    "expm1": jnp.expm1,
    "log": lambda x: jnp.log(9 + x),
    "log1p": lambda x: jnp.log1p(8 + x),
    "tanh": jnp.tanh,
    "logistic": jax.nn.sigmoid,
    "sin": jnp.sin,
    "cos": jnp.cos,
    "sqrt": lambda x: jnp.sqrt(9 + x),
    "rsqrt": lambda x: lax.rsqrt(9 + x),
    "power": lambda x: (9 + x) ** 0.3,
    "cube": lambda x: lax.integer_pow(x, 3),
    "inverse cube": lambda x: lax.integer_pow(9 + x, -3),
    "to the 0": lambda x: lax.integer_pow(x, 0) + x,
    "square": jnp.square,
    "softmax": jax.nn.softmax,
    "logsumexp": lambda x: jax.nn.logsumexp(x, axis=1),
    "variance": lambda x: jnp.var(x, axis=0),
    "softplus": jax.nn.softplus,
    "silu": jax.nn.silu,
    "moved about": lambda x: jnp.split(x.T.reshape(2, 6), 2, axis=1)[1][:, None, ::2],
    "padded": lambda x: lax.pad(x, jnp.sum(x), ((1, 0, 2), (-1, 2, 0))),
    "stacked": lambda x: jnp.stack([x, 2 * x, jnp.ones_like(x)], axis=1),
    "taken apart": lambda x: jnp.add(*jnp.unstack(x.reshape(2, 6))),
    "tanh's slope": jax.vmap(jax.vmap(jax.grad(jnp.tanh))),
    "joined": lambda x: jnp.concatenate([x, jnp.ones((1, 3), x.dtype), 2 * x]),
    "taken": lambda x: jnp.take_along_axis(x, CHOSEN[:, None], 1),
    "scattered": lambda x: jnp.zeros_like(x).at[CHOSEN].add(x),
    "sliced": lambda x: lax.dynamic_slice(x, (CHOSEN[3], 0), (2, 2)),
    "summed up": lambda x: jnp.cumsum(x, axis=0),
    "stopped": lambda x: x * lax.stop_gradient(x),
    "a jvp of its own": lambda x: jax.nn.relu(x + 9) ** 2,
    "rematerialised": jax.checkpoint(lambda x: jnp.sin(x) * x),
    "cast": lambda x: x * (x > 99).astype(x.dtype) + x,
}
KINKED = {
    "relu": jax.nn.relu,
    "max": lambda x: jnp.maximum(x, x[::-1]),
    "min": lambda x: jnp.minimum(x, 0.1),
    "abs": jnp.abs,
    "largest": lambda x: jnp.max(x, axis=1),
    "smallest": lambda x: jnp.min(x, axis=0),
    "leaky": jax.nn.leaky_relu,
    "step": lambda x: jnp.sign(x) * 3 + jnp.floor(x),
    "chosen": lambda x: jnp.where((x > 0.2) & ~(x < x[::-1]), x * x, 1 - x),
    "counted": lambda x: jnp.sum((x > 0.2).astype(x.dtype), axis=0) + 0 * x,
}
ON_IMAGES = {
    "convolution": lambda x: convolved(x, KERNEL),
    "kernel": lambda x: convolved(IMAGES, x[:, :3, :2].transpose(1, 2, 3, 0)),
    "both": lambda x: convolved(x, x[0, :3, :2][..., None]),
    "max pooling": max_pool,
    "its gradient": jax.grad(lambda x: jnp.sum(max_pool(x) ** 3)),
    "its gradient by a constant": jax.grad(lambda x: jnp.sum(max_pool(x))),
    "mean pooling": pool(lax.add, 0.0, (2, 2), (2, 1), "VALID"),
    "gradient": jax.grad(lambda x: jnp.sum(convolved(x, KERNEL) ** 3)),
    "gradient by the kernel": lambda x: jax.grad(
        lambda k: jnp.sum(convolved(jnp.sin(x), k) ** 3)
    )(jnp.asarray(KERNEL, x.dtype)),
}


@pytest.fixture
def in_x64():
    with jax.enable_x64(True):
        yield


def drawn(shape, size):
    random = np.random.default_rng(5)
    anchor, offset = random.normal(size=(2, *shape)).astype(np.float32)
    return jnp.asarray(anchor, jnp.float64), jnp.asarray(size * offset, jnp.float64)


def shape_of(name):
    return (2, 5, 6, 3) if name in ON_IMAGES else (4, 3)


ALL = {**SMOOTH, **KINKED, **ON_IMAGES}
ENDING = ("log", "log1p", "sqrt", "rsqrt", "power")  # not defined far away


@functools.cache  # one program for all: compiling takes longer than the tests
def everything(size):
    """Of every function: its offset, and its values at the anchor and beside it."""
    with jax.enable_x64(True):

        def each(points):
            values = {}
            for name, function in ALL.items():
                anchor, offset = points[shape_of(name)]
                here, there = function(anchor), function(anchor + offset)
                values[name] = difference(function, anchor, offset), here, there
            return values

        return jax.device_get(jax.jit(each)(points(size)))


@functools.cache
def everything_in_float32(size):
    """Of every function: its offset in float32, the derivative along it in float64."""
    with jax.enable_x64(True):

        def each(wide):
            values = {}
            for name, function in ALL.items():
                anchor, offset = wide[shape_of(name)]
                narrow = anchor.astype(jnp.float32), offset.astype(jnp.float32)
                slope = jax.jvp(function, (anchor,), (offset,))[1]
                values[name] = difference(function, *narrow), slope
            return values

        return jax.device_get(jax.jit(each)(points(size)))


def points(size):
    return {shape: drawn(shape, size) for shape in map(shape_of, ALL)}


@pytest.mark.parametrize(
    ("name", "size"),
    # large steps leave the domain of some
    [
        (name, size)
        for name in ALL
        for size in (0.01, 1.0, 30.0)
        if size < 30 or name not in ENDING
    ],
)
def test_in_float64_it_is_what_subtraction_gives(name, size):
    found, here, there = everything(size)[name]
    scale = max(1.0, float(np.abs(there).max()), float(np.abs(here).max()))
    np.testing.assert_allclose(found, there - here, rtol=0, atol=2e-14 * scale)


@pytest.mark.parametrize("size", [1e-12, 1e-30])
@pytest.mark.parametrize("name", [name for name in ALL if name != "stopped"])
def test_tiny_offsets_keep_their_digits_in_float32(name, size):
    found, wanted = everything_in_float32(size)[name]
    assert found.dtype == jnp.float32
    assert np.abs(np.float64(found) - wanted).max() <= 4e-6 * np.abs(wanted).max()


@pytest.mark.parametrize("name", ["exp", "tanh", "logistic", "relu", "sqrt", "abs", "div"])
def test_curves_stay_finite_far_away(name):
    """Where factors of the formulas overflow, or a function ends in a vertical line."""
    function = {**SMOOTH, **KINKED, "sqrt": jnp.sqrt}[name]
    anchor = jnp.array([[0.0, -80.0, 80.0, 0.0] if name != "sqrt" else [0.0, 1.0, 80.0, 0.0]])
    offset = jnp.array([[0.0, 60.0, -70.0, 50.0]])
    wanted = function(anchor + offset) - function(anchor)
    np.testing.assert_allclose(difference(function, anchor, offset), wanted, rtol=1e-5)


def test_equal_entries_keep_their_order(in_x64):
    """The first of equal entries gets the gradient, at the anchor and beside it."""
    flat = jnp.zeros((1, 2, 2, 1))
    rise = flat.at[0, 1, 1, 0].set(1e-9)
    pooled = pool(lax.max, -np.inf, (2, 2), (2, 2), "VALID")
    gradient = jax.grad(lambda x: jnp.sum(pooled(x)))
    np.testing.assert_array_equal(difference(gradient, flat, flat), 0)
    np.testing.assert_array_equal(
        difference(gradient, flat, rise), gradient(flat + rise) - gradient(flat)
    )


def test_indices_that_move_are_refused():
    def found(x):
        return lax.dynamic_slice(x, (jnp.int32(x[0] > 0),), (1,))

    with pytest.raises(ValueError, match="must not depend on the parameters"):
        difference(found, jnp.ones(3), jnp.ones(3))


def test_dilated_windows_are_refused():
    def dilated(x):
        return lax.reduce_window(x, -np.inf, lax.max, (2,), (1,), "VALID", window_dilation=(2,))

    with pytest.raises(ValueError, match="not dilated"):
        difference(dilated, jnp.ones(5), jnp.ones(5))
