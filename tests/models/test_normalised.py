"""Batch statistics in training, evaluation and passes over the data, against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from lpml import models, optim
from lpml.config import as_plain, override
from lpml.training.assemble import assemble
from lpml.training.checkpoint import CheckpointMismatch
from lpml.training.run import train
from lpml.training.state import TrainState
from lpml.training.step import make_evaluate, make_refresh, make_step

EPSILON = 1e-5


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def problem(**how):
    """A ReLU network of one hidden layer, normalised; 12 samples."""
    random = np.random.default_rng(0)
    x, y = random.normal(1, 2, size=(12, 4)), random.integers(0, 3, 12)
    settings = dict(hidden=(5,), activation="relu", normalise=True) | how
    model = models.mlp(classes=3, dtype="float64", **settings)
    batch = {"x": jnp.asarray(x), "y": jnp.asarray(y)}
    params, state = jax.jit(model.init)(jax.random.key(0), batch)
    return model, batch, params, state


def hidden(params, x):
    layer = params["Dense_0"]
    return np.asarray(x) @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])


def loss(params, batch, mean, var):
    """Cross entropy of the network with these statistics, in numpy."""
    z = (hidden(params, batch["x"]) - mean) / np.sqrt(var + EPSILON)
    last = params["Dense_1"]
    outputs = np.maximum(z, 0) @ np.asarray(last["kernel"]) + np.asarray(last["bias"])
    peak = outputs.max(1, keepdims=True)
    normal = np.log(np.exp(outputs - peak).sum(1)) + peak[:, 0]
    return np.mean(normal - outputs[np.arange(len(outputs)), np.asarray(batch["y"])])


def own_statistics(params, batch):
    z = hidden(params, batch["x"])
    return z.mean(0), z.var(0)


def statistics(model_state):
    layer = model_state["batch_stats"]["BatchNorm_0"]
    return np.asarray(layer["mean"]), np.asarray(layer["var"])


def halves(batch):
    return [{k: v[i : i + 6] for k, v in batch.items()} for i in (0, 6)]


def test_steps_use_the_batchs_statistics_and_move_the_running_ones():
    model, batch, params, model_state = problem()
    state = TrainState.create(
        params=params, tx=optax.sgd(0.3), key=jax.random.key(1), model_state=model_state
    )
    step = jax.jit(make_step(model, with_grad_norm=False))
    evaluate = jax.jit(make_evaluate(model, with_gradient=True, batch_size=5))
    mean, var = np.zeros(5), np.ones(5)
    for each in halves(batch) * 2:
        now = own_statistics(state.params, each)
        expected = loss(state.params, each, *now)
        state, metrics = step(state, each)
        assert float(metrics["batch_loss"]) == pytest.approx(expected, rel=1e-12)
        mean, var = 0.9 * mean + 0.1 * now[0], 0.9 * var + 0.1 * now[1]
        found = statistics(state.model_state)
        assert found[0].dtype == np.float64
        np.testing.assert_allclose(found, (mean, var), rtol=1e-12)
        # evaluation, in batches that divide nothing: running averages, which stay
        numbers = evaluate(state, batch)
        assert float(numbers["loss"]) == pytest.approx(
            loss(state.params, batch, mean, var), rel=1e-12
        )


def test_the_gradient_of_a_step_goes_through_the_statistics():
    model, batch, params, model_state = problem()
    random = np.random.default_rng(3)
    direction = jax.tree.map(lambda p: random.normal(size=p.shape), params)

    def along(t):
        moved = jax.tree.map(lambda p, d: p + t * d, params, direction)
        return loss(moved, batch, *own_statistics(moved, batch))

    def objective(params):
        return model.objective(params, model_state, batch, train=True)[0]

    slope = jax.jit(lambda: jax.jvp(objective, (params,), (direction,))[1])()
    measured = (along(1e-6) - along(-1e-6)) / 2e-6
    assert float(slope) == pytest.approx(measured, rel=1e-6)


def test_a_normalised_network_does_not_see_the_scale_of_its_weights():
    model, batch, params, model_state = problem()
    larger = {**params, "Dense_0": jax.tree.map(lambda p: 7 * p, params["Dense_0"])}
    values = [
        float(model.objective(p, model_state, batch, train=True)[0]) for p in (params, larger)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_refreshes_take_running_averages_and_leave_them():
    """SVRG's full gradient is that of evaluation; its step moves the averages once."""
    model, batch, params, model_state = problem()
    tx = optim.svrg(0.1, inner_steps=4)
    state = TrainState.create(
        params=params, tx=tx, key=jax.random.key(1), model_state=model_state
    )
    step = jax.jit(make_step(model, with_grad_norm=False))
    first, second = halves(batch)
    state, _ = step(state, first)
    refreshed = jax.jit(make_refresh(model, batch_size=5))(state, batch)
    np.testing.assert_array_equal(
        statistics(refreshed.model_state), statistics(state.model_state)
    )

    def objective(params):
        return model.objective(params, state.model_state, batch)[0]

    expected = jax.jit(jax.grad(objective))(state.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12),
        refreshed.opt_state.full_grad,
        expected,
    )
    now = own_statistics(refreshed.params, second)
    before = statistics(refreshed.model_state)
    after, _ = step(refreshed, second)
    for old, batchs, new in zip(before, now, statistics(after.model_state)):
        np.testing.assert_allclose(new, 0.9 * old + 0.1 * batchs, rtol=1e-12)


STAIRCASE = dict(bits=2, estimator="clipped_relu", rounding="ceil", alpha="half_gaussian")


def config(activation, **training):
    plan = dict(steps=6, batch_size=5, log_every=3, checkpoint_every=6) | training
    return dict(
        seed=3,
        precision="float32",
        data=dict(name="digits", train_samples=20),
        model=dict(name="mlp", hidden=[8], activation=activation, normalise=True),
        optim=dict(name="momentum", learning_rate=0.1),
        train=plan,
    )


def test_a_quantised_network_starts_from_a_float_one_with_its_statistics(tmp_path):
    source, found = (str(tmp_path / name) for name in ("float", "same"))
    end = train(config("relu"), source)
    # statistics of before training would give another loss
    assert train(config("relu", steps=0, start_from=source), found)["loss"] == end["loss"]
    few = train(config(STAIRCASE, steps=0, start_from=source), str(tmp_path / "few"))
    assert few["loss"] != end["loss"]
    assert abs(few["loss"] - end["loss"]) < 0.7
    bare = config("relu", steps=0, start_from=source)
    bare["model"]["normalise"] = False
    with pytest.raises(CheckpointMismatch, match="batch_stats"):
        train(bare, str(tmp_path / "bare"))


def test_the_activation_is_a_sub_tree_that_the_command_line_sets():
    def module(changes):
        changed = override(ConfigDict(config(STAIRCASE)), changes)
        return assemble(as_plain(changed), shapes=False)[0].model.module

    settings = dict(module({"model.activation.bits": 4}).activation)
    assert settings["bits"] == 4
    assert settings["estimator"] == "clipped_relu"
    whole = dict(module({"model.activation": dict(estimator="relu")}).activation)
    assert (whole["bits"], whole["estimator"]) == (2, "relu")


def test_a_learned_alpha_trains_with_the_network():
    learned = STAIRCASE | dict(alpha="learned")
    program, _ = assemble(config(learned, steps=60, log_every=60), shapes=False)
    carry = program.init(0)

    def alpha(carry):
        return float(carry.state.params["QuantizedReLU_0"]["alpha"])

    start, before = alpha(carry), program.evaluate(carry, with_gradient=False)
    carry = program.run(carry, 0, 60)
    after = program.evaluate(carry, with_gradient=False)
    assert abs(alpha(carry) - start) > 1e-3
    assert float(after["loss"]) < 0.3 * float(before["loss"])
