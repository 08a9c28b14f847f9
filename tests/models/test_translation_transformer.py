"""The translating Transformer: its size, its masks, and its decoder one piece at a time."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lpml import data, models
from lpml.data.subwords import BEGIN, END, PADDING, SPECIAL, UNKNOWN

TINY = dict(classes=6, layers=1, width=8, heads=2, hidden=12)
LENGTH = 4


def shapes(model, length=LENGTH):
    x = jax.ShapeDtypeStruct((2, 2, length), jnp.int32)
    return jax.eval_shape(lambda key, x: model.init(key, {"x": x})[0], jax.random.key(0), x)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_the_number_of_parameters_is_the_formula_s():
    k, d, f, t, n = 6, 8, 12, LENGTH, 2
    expected = k * d + n * (12 * d * d + 4 * d * f + 2 * f + 12 * d) + 4 * d
    for changes, more in (
        ({}, 0),
        (dict(norm="post"), -4 * d),
        (dict(positions="learned"), 2 * t * d),
        (dict(share_embeddings=False), 2 * k * d),
    ):
        model = models.translation_transformer(**TINY | dict(layers=n) | changes)
        assert count(shapes(model)) == expected + more


@pytest.fixture(scope="module")
def tiny():
    """A model with large random parameters, so that sentences differ."""
    model = models.translation_transformer(**TINY, positions="learned")
    random = np.random.default_rng(59)
    params = jax.tree.map(
        lambda leaf: random.normal(size=leaf.shape).astype("f") * 0.8, shapes(model)
    )
    return model, params


@pytest.fixture(scope="module")
def logits(tiny):
    model, params = tiny
    return jax.jit(functools.partial(model.outputs, params, {}))


def test_padding_and_what_comes_later_have_no_say(logits):
    x = np.array([[[4, 5, END, PADDING], [BEGIN, 5, 4, PADDING]]], np.int32)
    plain = logits({"x": x})
    later = x.copy()
    later[0, 1, 2] = 5
    found = logits({"x": later})
    np.testing.assert_array_equal(found[0, :2], plain[0, :2])
    assert np.abs(found[0, 2] - plain[0, 2]).max() > 1e-3
    # the vector of PADDING itself, at a padded place of the source, has none either
    source = x.copy()
    source[0, 0, 0] = 5
    assert np.abs(logits({"x": source}) - plain).max() > 1e-3


def test_the_padded_places_of_a_source_are_not_looked_at(tiny):
    """The derivative by the encoder's vectors of places: 0 for those of padding alone."""
    model, params = tiny
    x = jnp.array([[[4, 5, END, PADDING], [BEGIN, 5, 4, PADDING]]])

    def size(places):
        encoder = params["encoder"] | {"places": places}
        return jnp.sum(model.outputs(params | {"encoder": encoder}, {}, {"x": x}) ** 2)

    slopes = np.abs(jax.jit(jax.grad(size))(params["encoder"]["places"])).max(1)
    assert (slopes[:3] > 0).all()
    assert slopes[3] == 0


def test_beams_wide_enough_are_brute_force(tiny, logits):
    """All sentences of at most three pieces (UNKNOWN is one), teacher-forced."""
    model, params = tiny
    source = np.array([[4, 5, 4, END], [5, END, PADDING, PADDING], [5, 4, END, PADDING]], "i")
    told = [UNKNOWN, *range(SPECIAL, 6)]
    sentences = [s for n in range(LENGTH) for s in itertools.product(told, repeat=n)]
    targets = data.pieces([[4]] * len(sentences), sentences, length=LENGTH)
    alpha, best = 0.6, []
    for row in source:
        x = targets["x"].copy()
        x[:, 0] = row
        logs = jax.nn.log_softmax(logits({"x": x}))
        y = targets["y"]
        each = np.take_along_axis(np.asarray(logs), np.maximum(y, 0)[..., None], -1)[..., 0]
        pieces = (y >= 0).sum(1)
        scores = (each * (y >= 0)).sum(1) / ((5 + pieces) / 6) ** alpha
        best.append(np.maximum(y[scores.argmax()], PADDING))
    assert len({tuple(row) for row in best}) > 1
    found = models.translate_all(model, params, source, beams=108, alpha=alpha, batch_size=2)
    np.testing.assert_array_equal(found, best)


def test_greedily_each_piece_is_the_likeliest_of_the_whole_pass(tiny, logits):
    model, params = tiny
    source = np.array([[4, 5, 4, END], [5, END, PADDING, PADDING]], np.int32)
    found = models.translate_all(model, params, source, beams=1)
    shifted = np.concatenate([np.full((2, 1), BEGIN), found[:, :-1]], 1)
    outputs = np.asarray(logits({"x": np.stack([source, shifted], 1)}))
    likeliest = 2 + outputs[..., 2:].argmax(-1)
    for row, expected in zip(found, likeliest):
        n = list(row).index(END)
        np.testing.assert_array_equal(row[:n], expected[:n])
        assert n == LENGTH - 1 or expected[n] == END


@pytest.mark.slow
def test_a_language_that_turns_words_round_is_learned_and_spoken():
    text = data.synthetic_translation(samples=256, test_samples=64, length=4, classes=8)
    model = models.translation_transformer(
        classes=8, layers=1, width=32, heads=4, norm="post", label_smoothing=0.1, dropout=0.05
    )
    tx = optax.adam(0.01)

    def step(carry, key):
        params, state = carry
        slope = jax.grad(lambda p: model.objective(p, {}, text.train, key, train=True)[0])
        updates, state = tx.update(slope(params), state)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def learned(key):
        params, _ = model.init(key, text.train)
        (params, _), _ = jax.lax.scan(
            step, (params, tx.init(params)), jax.random.split(key, 80)
        )
        return params, model.objective(params, {}, text.test)

    params, (loss, (_, metrics)) = learned(jax.random.key(0))
    # the entropy of the smoothed target is the least there is
    high, low = 0.9 + 0.1 / 8, 0.1 / 8
    floor = -high * np.log(high) - 7 * low * np.log(low)
    assert floor < loss < floor + 0.1
    assert metrics["accuracy"] > 0.98
    found = models.translate_all(model, params, text.test["x"][:, 0], beams=2, batch_size=64)
    right = (found == np.maximum(text.test["y"], PADDING)).all(1)
    assert right.mean() > 0.95


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (np.zeros((2, 4), np.int32), r"numbers of pieces \(B, 2, L\), integers, not int32"),
        (np.zeros((2, 3, 4), np.int32), r"takes pieces \(B, 2, L\), source and target"),
        (np.zeros((2, 2, 4), np.float32), "integers, not float32"),
        (np.zeros((2, 2, 9), np.int32), "texts have 9 places, but positions are learned for"),
    ],
)
def test_what_is_no_pair_of_sentences_is_refused(x, sentence):
    model = models.translation_transformer(**TINY, context=8, positions="learned")
    with pytest.raises(ValueError, match=sentence):
        jax.eval_shape(lambda x: model.init(jax.random.key(0), {"x": x})[0], x)


def test_settings_out_of_range_are_refused(tiny):
    for wrong, sentence in (
        (dict(heads=3), "width = 8 does not split over heads = 3"),
        (dict(context=0), "context = 0"),
        (dict(norm="no"), "norm 'no' does not exist"),
        (
            dict(quant=dict(layers={"decoder_crossing_1_key": {}})),
            "decoder_crossing_1_key does not exist",
        ),
    ):
        with pytest.raises(ValueError, match=sentence):
            models.translation_transformer(**TINY | wrong)
    source = np.zeros((1, LENGTH), np.int32)
    for wrong, sentence in ((dict(beams=0), "beams = 0"), (dict(alpha=-1.0), "alpha = -1.0")):
        with pytest.raises(ValueError, match=sentence):
            models.translate(*tiny, source, **wrong)
