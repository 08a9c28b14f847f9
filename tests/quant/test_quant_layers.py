"""Layers with formats: parameters and numbers of flax.linen's, and where randomness enters."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml import quant
from lpml.formats import by_name
from lpml.quant import Roles

VSQ4 = by_name("vsq4")
# without blocks: fast to compile
FIXED = by_name("fixed5")
DRAWING = Roles(FIXED, FIXED, FIXED, "stochastic")
PAIRS = {
    "dense": (quant.Dense(5), nn.Dense(5), (3, 2, 7)),
    "dense without bias": (quant.Dense(5, use_bias=False), nn.Dense(5, use_bias=False), (3, 7)),
    "conv": (quant.Conv(4, (3, 2)), nn.Conv(4, (3, 2)), (2, 5, 6, 3)),
    "conv of 1 axis, valid": (
        quant.Conv(4, (3,), strides=2, padding="VALID"),
        nn.Conv(4, (3,), strides=2, padding="VALID"),
        (2, 9, 3),
    ),
    "conv, pairs of padding": (
        quant.Conv(4, (3, 3), padding=((1, 0), (2, 1)), use_bias=False),
        nn.Conv(4, (3, 3), padding=((1, 0), (2, 1)), use_bias=False),
        (2, 4, 4, 3),
    ),
}


def gradients(layer, variables, x, key=None):
    rngs = None if key is None else {"rounding": key}
    run = jax.jit(
        jax.value_and_grad(lambda v, x: (layer.apply(v, x, rngs=rngs) ** 2).sum(), (0, 1))
    )
    return run(variables, x)


@pytest.mark.parametrize(("ours", "flax", "shape"), PAIRS.values(), ids=PAIRS.keys())
def test_without_formats_a_layer_is_that_of_flax_bit_for_bit(ours, flax, shape):
    x = jax.random.normal(jax.random.key(0), shape)
    variables = jax.jit(flax.init)(jax.random.key(1), x)
    again = jax.jit(ours.init)(jax.random.key(1), x)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    found, expected = (gradients(layer, variables, x) for layer in (ours, flax))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_checkpoint_of_flax_loads_and_is_rounded():
    x = jax.random.normal(jax.random.key(0), (6, 20))
    kernel, bias = jax.random.normal(jax.random.key(1), (20, 5)), jnp.arange(5.0)
    variables = {"params": {"kernel": kernel, "bias": bias}}
    flax = jax.jit(nn.Dense(5).apply)(variables, x)
    found = jax.jit(quant.Dense(5, roles=Roles(VSQ4, VSQ4)).apply)(variables, x)
    expected = jax.jit(quant.dense)(x, kernel, Roles(VSQ4, VSQ4)) + bias
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.abs(found - flax).max() > 0.1


def test_inputs_are_widened_to_the_parameters():
    with jax.enable_x64(True):
        x = jnp.ones((2, 20), jnp.float32)
        layer = quant.Dense(5, param_dtype="float64", roles=Roles(VSQ4, VSQ4))
        variables = jax.eval_shape(layer.init, jax.random.key(0), x)
        assert jax.eval_shape(layer.apply, variables, x).dtype == jnp.float64


def test_the_stream_of_randomness_is_used_where_it_is_and_needed_nowhere():
    x = jax.random.normal(jax.random.key(0), (6, 20))
    layer = quant.Dense(5, roles=DRAWING)
    variables = jax.jit(layer.init)(jax.random.key(1), x)  # no stream
    (value, nearest), (drawn_value, drawn) = (
        gradients(layer, variables, x, key) for key in (None, jax.random.key(2))
    )
    assert value == drawn_value, "only the backward pass draws"
    other = gradients(layer, variables, x, jax.random.key(3))[1]
    for a, b in ((nearest, drawn), (drawn, other)):
        differ = a[0]["params"]["kernel"] != b[0]["params"]["kernel"]
        assert differ.mean() > 0.5
    plain = quant.Dense(5, roles=Roles(FIXED, FIXED, FIXED))
    jax.tree.map(np.testing.assert_array_equal, gradients(plain, variables, x)[1], nearest)


def test_every_layer_of_a_network_draws_for_itself():
    class Twins(nn.Module):
        @nn.compact
        def __call__(self, x):
            return quant.Dense(5, roles=DRAWING)(x), quant.Dense(5, roles=DRAWING)(x)

    x = jax.random.normal(jax.random.key(0), (6, 20))
    kernel = jax.random.normal(jax.random.key(1), (20, 5))
    layer = {"kernel": kernel, "bias": jnp.zeros(5)}
    g = jax.random.normal(jax.random.key(2), (6, 5))

    @jax.jit
    def slopes(params):
        def loss(params):
            rngs = {"rounding": jax.random.key(3)}
            one, other = Twins().apply({"params": params}, x, rngs=rngs)
            return (one * g).sum() + (other * g).sum()

        return jax.grad(loss)(params)

    found = slopes({"Dense_0": layer, "Dense_1": layer})
    assert (found["Dense_0"]["kernel"] != found["Dense_1"]["kernel"]).mean() > 0.5
    np.testing.assert_array_equal(found["Dense_0"]["bias"], found["Dense_1"]["bias"])
