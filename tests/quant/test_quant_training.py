"""Formats from a config's words to a step of training."""

import jax
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from lpml.build import ConfigError
from lpml.config import as_plain, override
from lpml.optim import svrg
from lpml.training.assemble import assemble
from lpml.training.state import TrainState
from lpml.training.step import ROUNDING, make_evaluate, make_step

QUANT = dict(
    weights="vsq4", activations="uvsq4t", gradients="vsq4", gradient_rounding="nearest"
)


def config(**quant):
    return ConfigDict(
        dict(
            seed=0,
            precision="float32",
            data=dict(name="digits", train_samples=1200),
            model=dict(name="mlp", hidden=(24,), activation="relu", quant=QUANT | quant),
            optim=dict(name="sgd", learning_rate=0.3),
            train=dict(steps=8, batch_size=50, log_every=8, checkpoint_every=8),
        )
    )


def model_of(config):
    return assemble(as_plain(config), shapes=False)[0].model


def test_formats_are_fields_that_the_command_line_sets():
    changed = override(config(), {"model.quant.weights": "vsq3v64m6"})
    expected = model_of(config(weights="vsq3v64m6"))
    assert model_of(changed).module == expected.module
    assert model_of(changed).module != model_of(config()).module
    unset = override(config(weights="none"), {"model.quant.weights": "vsq3v64m6"})
    assert model_of(unset).module == expected.module
    whole = override(config(), {"model.quant": dict(gradients="e5m2")})
    assert model_of(whole).module.roles[0].weights is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"weights": "vsq"}, r"config.model \(mlp\): quant.weights: number format 'vsq' does"),
        ({"wieghts": "vsq4"}, r"quant.wieghts does not exist; did you mean 'weights'"),
        ({"layers": {"Dense_2": {}}}, r"quant.layers.Dense_2 does not exist"),
    ],
)
def test_what_a_config_cannot_ask_for_is_one_sentence(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        model_of(config(**changes))


def test_a_word_in_place_of_the_sub_tree_is_refused():
    wrong = config()
    wrong.model = dict(name="mlp", quant="vsq4")
    with pytest.raises(ConfigError, match=r"config.model.quant = 'vsq4' must be a sub-tree"):
        model_of(wrong)


def start_of(tx, rounding):
    # formats without blocks: fast to compile
    fixed = dict.fromkeys(("weights", "activations", "gradients"), "fixed6")
    quant = fixed | dict(gradient_rounding=rounding)
    program = assemble(as_plain(config(**quant)), shapes=False)[0]
    batch = program.example_batch()
    params, _ = jax.jit(program.model.init)(jax.random.key(1), batch)
    return program.model, TrainState.create(params=params, tx=tx, key=jax.random.key(2)), batch


def test_steps_draw_anew_and_evaluation_draws_nothing():
    model, state, batch = start_of(optax.sgd(1.0), "stochastic")
    step = jax.jit(make_step(model, with_grad_norm=False))

    def kernel(state):
        return np.asarray(state.params["Dense_0"]["kernel"])

    one, again = step(state, batch)[0], step(state, batch)[0]
    np.testing.assert_array_equal(kernel(one), kernel(again))
    later = step(state.replace(step=state.step + 1), batch)[0]
    assert not np.array_equal(kernel(one), kernel(later))

    evaluate = jax.jit(make_evaluate(model, with_gradient=True, batch_size=50))
    found = [evaluate(state.replace(step=state.step + i), batch) for i in range(2)]
    assert found[0] == found[1]
    nearest, _, _ = start_of(optax.sgd(1.0), "nearest")
    same = jax.jit(make_evaluate(nearest, with_gradient=True, batch_size=50))
    assert same(state, batch) == found[0]


def test_all_gradients_of_one_step_share_their_noise():
    """SVRG's two gradients of a batch cancel at the anchor itself, noise and all."""
    tx = svrg(0.1, inner_steps=4)
    model, state, batch = start_of(tx, "stochastic")
    full = jax.tree.map(np.zeros_like, state.params)
    opt_state = state.opt_state._replace(anchor=state.params, full_grad=full)
    at_anchor = state.replace(opt_state=opt_state, step=state.step + 1)
    moved, _ = jax.jit(make_step(model, with_grad_norm=False))(at_anchor, batch)
    for before, after in zip(*map(jax.tree.leaves, (state.params, moved.params))):
        np.testing.assert_array_equal(before, after)


def test_noise_of_layers_is_none_of_the_optimizers():
    """Transformations split the key of a step by their number of leaves."""
    key = jax.random.key(0)
    children = jax.random.key_data(jax.random.split(key, 1000))
    ours = jax.random.key_data(jax.random.fold_in(key, ROUNDING))
    assert not (children == ours).all(-1).any()


def test_digits_are_learnt_with_four_bits_in_all_three_products():
    """597 test images: a difference of 0.03 is three standard errors of two rates of 0.97."""

    def accuracy(**quant):
        settings = as_plain(config(**quant))
        settings["model"]["hidden"] = (64,)
        settings["train"] |= dict(steps=480, log_every=480)
        program, _ = assemble(settings, shapes=False)
        carry = program.run(program.init(0), 0, 480)
        measured = program.evaluate(carry, with_gradient=False, data=program.test)
        return float(measured["accuracy"])

    full = accuracy(**dict.fromkeys(("weights", "activations", "gradients")))
    four = accuracy(weights="vsq4v16m8", activations="uvsq4v16m8t", gradients="vsq4v16m8")
    assert full > 0.96
    assert four > full - 0.03
