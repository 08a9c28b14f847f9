"""Corpus BLEU against its definition, on sentences whose tokens are words."""

import math

import pytest

from lpml import data


def test_bleu_is_the_geometric_mean_of_precisions_with_its_brevity_penalty():
    references = ["the black cat sat on a red mat", "two dogs run in the park today"]
    assert data.bleu(references, references) == pytest.approx(100)
    translations = ["the black cat sat on a blue mat", "two dogs run in the park"]
    # matches of 1- to 4-grams: 7 + 6, 5 + 5, 4 + 4, 3 + 3 of 8 + 6, 7 + 5, 6 + 4, 5 + 3
    precisions = (13 / 14, 10 / 12, 8 / 10, 6 / 8)
    expected = 100 * math.exp(1 - 15 / 14) * math.prod(precisions) ** (1 / 4)
    assert data.bleu(translations, references) == pytest.approx(expected, rel=1e-9)


def test_sentences_without_a_reference_are_refused():
    for translations, references in ((["a"], []), ([], []), (["a"], ["b", "c"])):
        with pytest.raises(ValueError, match="one for each"):
            data.bleu(translations, references)
