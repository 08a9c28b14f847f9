"""The character Transformer and its loss: what a place may know, what padding may not do."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lpml import data, models
from lpml.models.attention import attend
from lpml.models.embedding import sinusoids
from lpml.models.losses import softmax_cross_entropy, token_cross_entropy
from lpml.optim import mean_over_data

TINY = dict(classes=7, layers=2, width=8, heads=2, hidden=12)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def shapes(model, length=5):
    x = jax.ShapeDtypeStruct((2, length), jnp.int32)
    return jax.eval_shape(lambda key, x: model.init(key, {"x": x})[0], jax.random.key(0), x)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_the_number_of_parameters_is_the_formula_s(norm):
    k, d, f, t, n = 7, 8, 12, 5, 2
    expected = 2 * k * d + n * (4 * d * d + 2 * d * f + f + 5 * d) + 2 * d * (norm == "pre")
    for positions in ("learned", "sinusoidal"):
        params = shapes(models.character_transformer(**TINY, norm=norm, positions=positions))
        assert count(params) == expected + t * d * (positions == "learned")
    assert shapes(models.character_transformer(**TINY, context=9))["places"].shape == (9, d)


def test_no_place_knows_what_comes_after_it():
    """The derivative of place t's logits by the vector of place s, exactly 0 for s > t."""
    model = models.character_transformer(**TINY | dict(layers=1), positions="learned")
    x = jnp.asarray([[1, 2, 3, 4, 5]])
    params, _ = jax.jit(model.init)(jax.random.key(0), {"x": x})

    def logits(places):
        return model.module.apply({"params": params | {"places": places}}, x)[0]

    # a place's vector enters the network where its character does
    slopes = jax.jit(jax.jacrev(logits))(params["places"])
    seen = np.abs(slopes).max((1, 3)) > 0
    np.testing.assert_array_equal(seen, np.tri(5, dtype=bool))


def test_attention_is_that_of_numpy_for_each_head():
    random = np.random.default_rng(0)
    q, k, v = (random.normal(size=(2, n, 3, 4)) for n in (5, 6, 6))
    mask = random.random((2, 1, 5, 6)) < 0.6
    mask[..., 0] = True
    mask[1, 0, 2] = False
    with jax.enable_x64(True):
        found = attend(*map(jnp.asarray, (q, k, v, mask)))
    for b in range(2):
        for h in range(3):
            for t in range(5):
                scores = np.where(mask[b, 0, t], k[b, :, h] @ q[b, t, h] / 2, -np.inf)
                shares = np.exp(scores) / np.exp(scores).sum() if mask[b, 0, t].any() else 1 / 6
                expected = (shares * np.ones(6)) @ v[b, :, h]
                np.testing.assert_allclose(found[b, t, h], expected, rtol=1e-12)


def test_sinusoids_turn_by_the_same_angle_each_place():
    table = sinusoids(50, 6)
    waves = table[:, :3] * 1j + table[:, 3:]
    np.testing.assert_allclose(np.abs(waves), 1, rtol=1e-12)
    np.testing.assert_allclose(
        np.angle(waves[1:] / waves[:-1]), np.tile(10000.0 ** (-np.arange(3) / 3), (49, 1))
    )
    assert sinusoids(4, 5).shape == (4, 5)


def padded_tokens(seed=0):
    random = np.random.default_rng(seed)
    outputs = random.normal(size=(6, 4, 5))
    y = random.integers(0, 5, (6, 4))
    y[np.arange(4) >= np.array([4, 1, 3, 2, 0, 4])[:, None]] = -1
    return outputs, y


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_token_losses_are_smoothed_cross_entropies_of_what_is_no_padding(smoothing):
    outputs, y = padded_tokens()
    loss = token_cross_entropy(smoothing)
    logs = outputs - np.log(np.exp(outputs).sum(-1, keepdims=True))
    target = (1 - smoothing) * np.eye(5)[np.maximum(y, 0)] + smoothing / 5
    expected = -(target * logs).sum(-1) * (y >= 0)
    with jax.enable_x64(True):
        np.testing.assert_allclose(loss.value(outputs, y), expected.sum(1), rtol=1e-12)
        np.testing.assert_array_equal(loss.answers(y), [4, 1, 3, 2, 0, 4])
        right = (outputs.argmax(-1) == y).sum(1)
        np.testing.assert_array_equal(loss.correct(outputs, y), right)
        change = np.random.default_rng(1).normal(size=outputs.shape)
        slope = jax.grad(lambda outputs: loss.value(outputs, y).sum())
        difference = slope(outputs + change) - slope(jnp.asarray(outputs))
        found = loss.difference(outputs, change, y)
        np.testing.assert_allclose(found, difference, rtol=1e-9, atol=1e-12)
    assert token_cross_entropy(smoothing) is loss


class Shift(nn.Module):
    """Outputs are the inputs, shifted."""

    @nn.compact
    def __call__(self, x):
        return x + self.param("shift", nn.initializers.zeros, (5,), x.dtype)


def test_means_are_over_tokens_whatever_the_batches():
    outputs, y = padded_tokens()
    with jax.enable_x64(True):
        batch = {"x": jnp.asarray(outputs), "y": jnp.asarray(y)}
        model = models.Supervised(Shift(), token_cross_entropy())
        params = {"shift": jnp.arange(5) / 7}

        def objective(params, batch):
            value, (_, metrics) = model.objective(params, {}, batch)
            return value, metrics["accuracy"]

        told = y >= 0
        each = softmax_cross_entropy.value(outputs + params["shift"], np.maximum(y, 0))
        answers = np.asarray(outputs + params["shift"]).argmax(-1)
        expected = (each[told].mean(), (answers == y)[told].mean())
        np.testing.assert_allclose(objective(params, batch), expected, rtol=1e-12)
        slope = jax.value_and_grad(lambda p, b: objective(p, b)[0])
        whole = slope(params, batch)
        for size in (1, 4):
            found = mean_over_data(
                lambda b: (slope(params, b), objective(params, b)[1]),
                batch,
                batch_size=size,
                weigh=model.weight,
            )
            np.testing.assert_allclose(found[0][0], whole[0], rtol=1e-12)
            np.testing.assert_allclose(found[0][1]["shift"], whole[1]["shift"], rtol=1e-12)
            np.testing.assert_allclose(found[1], expected[1], rtol=1e-12)
        # padding has no say: other outputs there, and more places of it
        junk = jnp.where(told[..., None], outputs, 1e6)
        np.testing.assert_array_equal(
            objective(params, {"x": junk, "y": y})[0], objective(params, batch)[0]
        )
        wider = {
            "x": jnp.pad(junk, ((0, 0), (0, 3), (0, 0))),
            "y": jnp.pad(batch["y"], ((0, 0), (0, 3)), constant_values=-1),
        }
        np.testing.assert_allclose(objective(params, wider), expected, rtol=1e-12)
        nothing = {"x": batch["x"], "y": jnp.full_like(y, -1)}
        assert objective(params, nothing)[0] == 0


@pytest.mark.slow
def test_a_markov_text_is_learned_down_to_its_entropy():
    """The chain's entropy rate is the least mean loss there is; 60 steps come close."""
    settings = dict(classes=6, branching=1.0, seed=2)
    text = data.markov_text(samples=256, context=16, **settings)
    chain, stationary = data.markov_chain(**settings)
    entropy = -(stationary[:, None] * chain * np.log(chain)).sum()
    model = models.character_transformer(classes=6, layers=1, width=16, heads=2, dropout=0.1)
    tx = optax.adam(0.02)
    train, test = text.train, text.test

    def step(carry, key):
        params, state = carry
        slope = jax.value_and_grad(lambda p: model.objective(p, {}, train, key, train=True)[0])
        value, grads = slope(params)
        updates, state = tx.update(grads, state)
        return (optax.apply_updates(params, updates), state), value

    @jax.jit
    def learned(key):
        params, _ = model.init(key, train)
        (params, _), losses = jax.lax.scan(
            step, (params, tx.init(params)), jax.random.split(key, 60)
        )
        at_test = model.objective(params, {}, test)[0]
        twice = jax.vmap(lambda k: model.objective(params, {}, train, k, train=True)[0])(
            jax.random.split(key, 2)
        )
        return losses, at_test, twice

    losses, at_test, twice = learned(jax.random.key(0))
    assert abs(losses[0] - np.log(6)) < 1
    # 4096 tokens: the mean's own deviation is about 0.01
    assert entropy - 0.04 < at_test < entropy + 0.1
    assert twice[0] != twice[1], "dropout draws anew for every key"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(heads=3), "width = 8 does not split over heads = 3"),
        (dict(layers=0), "layers = 0 must be at least 1"),
        (dict(hidden=0), "hidden = 0 must be at least 1"),
        (dict(context=0), "context = 0 must be at least 1"),
        (dict(norm="both"), "norm 'both' does not exist; choose from pre, post"),
        (dict(positions="none"), "positions 'none' does not exist; choose from learned"),
        (dict(dropout=1.0), "dropout = 1.0 must be at least 0 and below 1"),
        (dict(label_smoothing=1.0), "label_smoothing = 1.0 must be at least 0 and below 1"),
        (dict(context=4), "texts have 5 places, but positions are learned for context = 4"),
    ],
)
def test_what_makes_no_transformer_is_one_sentence(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        shapes(models.character_transformer(**TINY | wrong))


def test_images_are_refused():
    model = models.character_transformer(**TINY)
    with pytest.raises(ValueError, match=r"numbers of pieces \(B, T\), integers, not float32"):
        model.init(jax.random.key(0), {"x": jnp.zeros((2, 5))})
