"""HALP whose offsets go through the layers of a network: how low it gets, what it refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from launching import here

from lpml.models import Supervised
from lpml.models.losses import squared_error
from lpml.models.mlp import MLP
from lpml.optim import halp

SAMPLES, BATCH, EPOCHS = 60, 10, 500
MODEL = Supervised(MLP((3,), 1, dtype="float64"), squared_error, l2=0.1)


def regression():
    """Noisy sums of two tanh, which three units fit; residuals do not vanish."""
    random = np.random.default_rng(0)
    x = random.normal(size=(SAMPLES, 3))
    y = np.tanh(x @ random.normal(size=(3, 2))) @ [1, -2] + 0.5 * random.normal(size=SAMPLES)
    return {"x": jnp.asarray(x), "y": jnp.asarray(y)}


def gradient(params, batch):
    return jax.grad(lambda w: MODEL.objective(w, {}, batch)[0])(params)


def in_float32(params, batch):
    narrow = jax.tree.map(lambda a: a.astype(jnp.float32), (params, batch))
    return jax.tree.map(lambda g: g.astype(jnp.float64), gradient(*narrow))


def norms(layer_offsets, grad_fn):
    """Gradient norms after each epoch, in float64, of anchors in float64 and 8-bit codes."""
    data = regression()
    steps = 2 * SAMPLES // BATCH
    tx = halp(0.3, inner_steps=steps, bits=8, mu=0.3, scale="leaf", layer_offsets=layer_offsets)

    def step(carry, index):
        params, state = carry
        batch = jax.tree.map(lambda v: v[index], data)
        grads = functools.partial(grad_fn, batch=batch)
        key = jax.random.fold_in(jax.random.key(3), state.step)
        updates, state = tx.update(grads(params), state, params, key=key, grad_fn=grads)
        return (optax.apply_updates(params, updates), state), None

    def epoch(carry, number):
        params, state = carry
        full_grad = functools.partial(gradient, batch=data)
        params, state = tx.refresh(state, params, full_grad_fn=full_grad)
        key = jax.random.fold_in(jax.random.key(9), number)
        order = jax.random.permutation(key, 2 * SAMPLES).reshape(steps, BATCH) % SAMPLES
        carry, _ = jax.lax.scan(step, (params, state), order)
        return carry, optax.tree.norm(full_grad(state.anchor))

    params = MODEL.init(jax.random.key(0), data)[0]
    start = params, tx.init(params)
    return np.asarray(jax.jit(lambda c: jax.lax.scan(epoch, c, jnp.arange(EPOCHS))[1])(start))


@pytest.mark.slow
def test_few_bits_in_the_layers_go_below_what_subtracting_float32_leaves(in_x64):
    """8-bit codes, offsets of 8 bits in the layers, and anchors in float64."""
    floor = np.median(norms(None, in_float32)[-50:])
    through = {name: norms(name, gradient)[-1] for name in ("float32", "e4m3fn")}
    assert floor > 1e-8
    assert max(through.values()) < 1e-11


def test_of_a_linear_model_the_steps_are_those_of_its_own_difference(least_squares, in_x64):
    problem = least_squares(40, 6)
    settings = dict(inner_steps=16, mu=2.0, bits=8)
    own, _ = problem.trajectory(halp(5e-3, **settings), 40)
    through, _ = problem.trajectory(halp(5e-3, layer_offsets="float32", **settings), 40)
    np.testing.assert_allclose(through, own, rtol=1e-5)


@pytest.mark.parametrize("network", ["halp_mlp", pytest.param("lenet", marks=pytest.mark.slow)])
def test_a_config_runs_with_it(network, monkeypatch, tmp_path):
    config = f"--config=configs/{network}.py:halp,tiny"
    settings = ("--config.optim.layer_offsets=bfloat16", "--config.train.steps=4")
    assert here(monkeypatch, config, *settings, f"--workdir={tmp_path / network}") == 0


def test_an_unknown_format_of_offsets_is_refused():
    with pytest.raises(ValueError, match="'float17' does not exist"):
        halp(0.1, inner_steps=4, layer_offsets="float17")


def test_the_kernels_have_no_layers():
    with pytest.raises(ValueError, match="no layers"):
        halp(0.1, inner_steps=4, layer_offsets="float32", backend="native")


def test_layers_that_round_are_refused_in_one_sentence(refused):
    said = refused(
        "--config=configs/halp_mlp.py:tiny",
        "--config.optim.layer_offsets=float32",
        "--config.model={'name': 'mlp', 'quant': {'weights': 'e4m3fn'}}",
    )
    assert "offsets do not go through the operation" in said
