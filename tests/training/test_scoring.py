"""BLEU at the lines of a log: of the network's own translations, alone or side by side."""

import jax
import numpy as np
import pytest

from lpml import data, models
from lpml.build import ConfigError
from lpml.sweep.jobs import Job
from lpml.sweep.metrics import choose_metric, names
from lpml.training.assemble import assemble
from lpml.training.many import ManyPrograms
from lpml.training.program import line_of
from lpml.training.scoring import Translations

COUNT = 24


def config(**changes):
    return {
        "seed": 3,
        "precision": "float32",
        "data": dict(
            name="synthetic_translation", samples=32, test_samples=32, length=5, classes=6
        ),
        "model": dict(name="translation_transformer", layers=1, width=8, heads=2, hidden=8),
        "optim": dict(name="adam", learning_rate=0.1),
        "train": dict(
            steps=8,
            batch_size=8,
            log_every=4,
            checkpoint_every=8,
            objective="batch",
            bleu=COUNT,
        ),
        **changes,
    }


@pytest.fixture(scope="module")
def program():
    return assemble(config())[0]


@pytest.fixture(scope="module")
def carries(program):
    """Two networks with parameters so large that they say something."""

    def loud(carry):
        params = jax.tree.map(lambda leaf: 3 * leaf, carry.state.params)
        return carry.replace(state=carry.state.replace(params=params))

    return [loud(program.init(seed)) for seed in (3, 4)]


def by_hand(program, carry):
    """Greedy translations by `translate_all`, their text by numbers of words."""
    source, target = program.dataset.test["x"][:COUNT].swapaxes(0, 1)
    told = models.translate_all(program.model, carry.state.params, source, beams=1)

    def sentences(rows):
        return [" ".join(f"w{n}" for n in row if n > data.subwords.UNKNOWN) for row in rows]

    return data.bleu(sentences(told), sentences(target))


def test_the_score_is_the_bleu_of_greedy_translations_alone_and_side_by_side(program, carries):
    wanted = [by_hand(program, carry) for carry in carries]
    assert wanted[0] != wanted[1]
    assert max(wanted) > 0
    for carry, score in zip(carries, wanted):
        assert program.scores(carry) == {"test_bleu": pytest.approx(score)}
    likes = [program.shapes()] * 2
    many = ManyPrograms([program, program], {}, lambda _: program.tx, likes=likes)
    np.testing.assert_allclose(many.scores(many.stacked(carries))["test_bleu"], wanted)


class Silent:
    """A program that measures nothing but a score."""

    objective, test = "full", None

    def evaluate(self, *_, **__):
        return {}

    def scores(self, carry):
        return {"test_bleu": carry}


def test_scores_are_in_every_line_and_higher_ones_are_better():
    assert line_of(Silent(), 7.0, 0) == {"test_bleu": 7.0}
    assert "test_bleu" in names(config())
    assert choose_metric([Job("run", config(), "", ())], "test_bleu").higher


def test_the_right_translations_have_all_of_it_and_others_less(program):
    right = program.dataset.test["y"][:COUNT]
    scoring = program.translations
    assert scoring.bleu(np.maximum(right, 0)) == pytest.approx(100)
    assert scoring.bleu(np.roll(np.maximum(right, 0), 1, axis=0)) < 50


def test_without_the_setting_nothing_is_translated():
    plain = config()
    plain["train"] = {**plain["train"], "bleu": None}
    assert assemble(plain)[0].translations is None
    assert "test_bleu" not in names(plain)


def test_what_cannot_be_translated_is_refused():
    digits = dict(name="digits", train_samples=64)
    with pytest.raises(ConfigError, match="bleu = 24 asks for translations of test sentences"):
        assemble(config(data=digits, model=dict(name="mlp", hidden=(4,))))
    pairs = data.synthetic_translation(samples=8, test_samples=4, length=4, classes=6)
    mute = models.mlp(classes=6, hidden=(4,))
    with pytest.raises(ValueError, match="which this model does not make"):
        Translations(mute, pairs, 2)
    model = models.translation_transformer(classes=6, layers=1, width=8, heads=2)
    for count in (0, 5):
        with pytest.raises(ValueError, match=f"bleu = {count} must be 1 to 4"):
            Translations(model, pairs, count)
    with pytest.raises(ValueError, match="this data set has none"):
        Translations(model, pairs._replace(test=None), 1)


def test_texts_of_pieces_end_where_they_end():
    pairs = data.synthetic_translation(samples=8, test_samples=0, length=4, classes=8)
    assert pairs.text([[1, 4, 5, 2, 6], [7, 2, 0, 0, 0]]) == ["w4 w5", "w7"]
    for row, line in zip(pairs.train["x"][:, 1], pairs.text(pairs.train["x"][:, 1])):
        assert line.split() == [f"w{n}" for n in row if n >= 4]
