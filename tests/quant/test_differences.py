"""Offsets through whole networks, against subtraction in float64 and a first-order bound."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml import models
from lpml.models import Supervised
from lpml.models.losses import softmax_cross_entropy
from lpml.quant import difference, unit_roundoff
from lpml.quant.offset_formats import Held

FORMATS = ["float16", "bfloat16", "e4m3fn", "e5m2", "int8"]


@pytest.fixture
def in_x64():
    with jax.enable_x64(True):
        yield


class GroupNormed(nn.Module):
    """Two convolutions with group normalisation, a shortcut, both kinds of pooling."""

    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), param_dtype=self.dtype)(x)
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        y = nn.GroupNorm(2, param_dtype=self.dtype, dtype=self.dtype)(x)
        x = x + nn.Conv(4, (3, 3), param_dtype=self.dtype)(nn.relu(y))
        x = nn.avg_pool(x, (2, 2), strides=(2, 2))
        return nn.Dense(3, param_dtype=self.dtype)(x.reshape(len(x), -1))


class Pooled(nn.Module):
    """A convolution, max pooling and a dense layer."""

    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(2, (2, 2), param_dtype=self.dtype)(x))
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        return nn.Dense(3, param_dtype=self.dtype)(x.reshape(len(x), -1))


def pooled(*, classes, dtype):
    del classes
    return Supervised(Pooled(dtype), softmax_cross_entropy)


def group_normed(*, classes, dtype):
    del classes
    return Supervised(GroupNormed(dtype), softmax_cross_entropy)


NETWORKS = {
    "mlp": (models.mlp, dict(hidden=(6,), l2=0.1), (5,)),
    "relu": (models.mlp, dict(hidden=(7, 6), activation="relu"), (5,)),
    "normalised": (models.mlp, dict(hidden=(7,), activation="relu", normalise=True), (5,)),
    "lenet5": (models.lenet5, dict(widths=(2, 2, 5, 4)), (8, 8, 1)),
    "resnet": (models.resnet20, dict(width=2, depth=8), (8, 8, 3)),
    "group norm": (group_normed, {}, (8, 8, 1)),
    "pooled": (pooled, {}, (4, 4, 1)),
}


def made(name, dtype="float64", samples=6):
    """A network's gradient as a function of its parameters, in float64 values of float32."""
    build, settings, shape = NETWORKS[name]
    random = np.random.default_rng(0)
    single = random.normal(size=(samples, *shape)).astype(np.float32)
    labels = random.integers(3, size=samples)
    model = build(classes=3, dtype="float64", **settings)
    batch = {"x": jnp.asarray(single, jnp.float64), "y": jnp.asarray(labels)}
    params, model_state = jax.jit(model.init)(jax.random.key(0), batch)
    # biases that are no longer 0, running averages that are no longer those of nothing
    params, model_state = (
        jax.tree.map(lambda a: _single(a + 0.1 * np.abs(random.normal(size=a.shape))), tree)
        for tree in (params, model_state)
    )
    gradients = {}
    for kind in ("float64", dtype):
        narrow = build(classes=3, dtype=kind, **settings)
        state, data = _cast(model_state, kind), _cast(batch, kind)
        gradients[kind] = _gradient(narrow, state, data)
    return gradients[dtype], gradients["float64"], params


def _gradient(model, model_state, batch):
    return jax.grad(lambda params: model.objective(params, model_state, batch)[0])


def _single(a):
    return jnp.asarray(np.asarray(a, np.float32), jnp.float64)


def _cast(tree, dtype):
    def leaf(a):
        return a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a

    return jax.tree.map(leaf, tree)


def offsets(params, size):
    random = np.random.default_rng(1)
    return jax.tree.map(lambda a: _single(size * random.normal(size=a.shape)), params)


def flat(tree):
    return np.concatenate([np.ravel(np.asarray(a, np.float64)) for a in jax.tree.leaves(tree)])


def error(found, wanted):
    found, wanted = flat(found), flat(wanted)
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


def subtracted(gradient, params, offset):
    compiled = jax.jit(gradient)
    there = compiled(jax.tree.map(jnp.add, params, offset))
    return jax.tree.map(jnp.subtract, there, compiled(params))


@pytest.mark.parametrize("name", NETWORKS)
def test_in_float64_it_is_the_difference_of_two_gradients(name, in_x64):
    """Large offsets change most choices of ReLU and of pooling."""
    gradient, _, params = made(name)
    found = jax.jit(lambda p, d: difference(gradient, p, d))
    for size in (0.05, 1.0):
        offset = offsets(params, size)
        assert error(found(params, offset), subtracted(gradient, params, offset)) < 1e-12


def test_statistics_of_the_batch_move_too(in_x64):
    build, settings, _ = NETWORKS["normalised"]
    model = build(classes=3, dtype="float64", **settings)
    random = np.random.default_rng(0)
    batch = {"x": jnp.asarray(random.normal(size=(9, 5))), "y": jnp.arange(9) % 3}
    params, state = model.init(jax.random.key(0), batch)

    def gradient(p):
        return jax.grad(lambda p: model.objective(p, state, batch, train=True)[0])(p)

    offset = offsets(params, 0.2)
    found = jax.jit(lambda p, d: difference(gradient, p, d))(params, offset)
    assert error(found, subtracted(gradient, params, offset)) < 1e-12


@pytest.mark.parametrize("name", NETWORKS)
def test_tiny_offsets_keep_six_digits_in_float32(name, in_x64):
    """Against the derivative along the offset in float64: the next term is 1e-10 smaller."""
    gradient, exact, params = made(name, "float32")
    offset = offsets(params, 1e-10)
    _, wanted = jax.jit(lambda p, d: jax.jvp(exact, (p,), (d,)))(params, offset)
    narrow = _cast(params, "float32"), _cast(offset, "float32")
    found = jax.jit(lambda p, d: difference(gradient, p, d))(*narrow)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found))
    assert error(found, wanted) < 1e-6
    assert error(subtracted(gradient, *narrow), wanted) > 0.5


@pytest.mark.parametrize("name", ["mlp", "lenet5"])
def test_float32_offsets_serve_a_float64_anchor(name, in_x64):
    _, gradient, params = made(name)
    offset = offsets(params, 0.05)
    found = jax.jit(lambda p, d: difference(gradient, p, d))(params, _cast(offset, "float32"))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found))
    assert error(found, subtracted(gradient, params, offset)) < 1e-6


def test_no_offset_makes_no_difference(in_x64):
    gradient, _, params = made("pooled")
    found = difference(gradient, params, jax.tree.map(jnp.zeros_like, params))
    assert not flat(found).any()


class Disturbed:
    """An offset format that adds a given error at every place where another would round."""

    def __init__(self, errors=None):
        self.errors, self.largest = errors, []

    def hold(self, offset):
        place = len(self.largest)
        self.largest.append((jnp.max(jnp.abs(offset), initial=0), offset.shape))
        return Held(offset if self.errors is None else offset + self.errors[place], None)

    def read(self, held, dtype):
        return held.codes.astype(dtype)


def first_order_bound(gradient, params, offset):
    """sum over roundings i of |d result / d error_i| max |x_i|: times u it bounds the error.

    To first order in u, if each rounding of x errs by at most u max |x| in every entry.
    """
    plain = Disturbed()
    difference(gradient, params, offset, format=plain)
    errors = [jnp.zeros(shape) for _, shape in plain.largest]

    def disturbed(errors):
        found = difference(gradient, params, offset, format=Disturbed(errors))
        return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(found)])

    slopes = jax.jacrev(disturbed)(errors)
    parts = (
        jnp.sum(jnp.abs(slope.reshape(slope.shape[0], -1)), axis=1) * largest
        for slope, (largest, _) in zip(slopes, plain.largest, strict=True)
    )
    return sum(parts)


@pytest.mark.slow  # eager passes through every rounding: a minute
@pytest.mark.parametrize("name", ["mlp", "pooled"])
def test_few_bits_err_by_their_roundoff_times_the_networks_condition(name, in_x64):
    gradient, _, params = made(name, samples=3)

    @jax.jit
    def each(params, offset):
        formats = (None, *FORMATS)
        return [difference(gradient, params, offset, format=format) for format in formats]

    condition = jax.jit(lambda p, d: first_order_bound(gradient, p, d))
    for size in (1e-12, 1e-3):
        offset = offsets(params, size)
        exact, *found = (flat(tree) for tree in each(params, offset))
        bound = np.asarray(condition(params, offset))
        for format, rounded in zip(FORMATS, found, strict=True):
            u = unit_roundoff(format)
            assert (np.abs(rounded - exact) <= u * bound).all(), format
            # the roundings are there, and small beside the difference itself
            relative = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
            assert 0.05 * u < relative < 8 * u, (format, relative / u)


def test_what_nobody_asked_for_may_be_anything():
    """As an accuracy beside the loss."""
    found = difference(lambda x: (jnp.sort(x), 2 * x)[1], jnp.arange(3.0), jnp.ones(3))
    np.testing.assert_array_equal(found, 2)


def test_an_operation_without_a_rule_is_named():
    with pytest.raises(ValueError, match="'sort'"):
        difference(jnp.sort, jnp.ones(3), jnp.ones(3))
    with pytest.raises(ValueError, match="'cumprod'"):
        difference(jnp.cumprod, jnp.ones(3), jnp.ones(3))


def test_layers_that_round_are_refused():
    model = models.mlp(classes=3, quant={"weights": "e4m3fn"})
    batch = {"x": jnp.ones((2, 4)), "y": jnp.zeros(2, int)}
    params, state = model.init(jax.random.key(0), batch)
    with pytest.raises(ValueError, match="offsets do not go through the operation"):
        difference(_gradient(model, state, batch), params, params)
