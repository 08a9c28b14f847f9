"""Greedy and beam search against plain Python over a table of every prefix."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml.models.search import Marks, beam_search, greedy

ROWS, K, LENGTH = 3, 5, 4  # pieces 3 and 4 are words, 2 is END
WORDS = (3, 4)
END = Marks().end


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.fixture(scope="module")
def logits():
    """(ROWS, K^0 + K^1 + ... prefixes, K): what follows on a prefix, by the prefix's number."""
    drawn = np.random.default_rng(30).normal(size=(ROWS, K**LENGTH, K)).astype("f")
    drawn[..., END] -= 0.5  # else most sentences are empty
    return drawn


def stepped(logits, beams):
    """A model whose state is the row and the prefix as a number in base K."""

    def step(state, last, at):
        row, prefix = state
        prefix = jnp.where(at == 0, 0, prefix * K + last)
        return jnp.asarray(logits)[row, prefix], (row, prefix)

    row = jnp.repeat(jnp.arange(ROWS), beams)
    return step, (row, jnp.zeros_like(row))


def logs_along(logits, row, words):
    prefix, total = 0, 0.0
    for piece in (*words, END):
        total += log_softmax(logits[row, prefix])[piece]
        prefix = prefix * K + piece
    return total


def padded(words):
    return [*words, END, *[0] * (LENGTH - len(words) - 1)]


def penalty(pieces, alpha):
    return ((5 + pieces) / 6) ** alpha


def everything(logits, row, alpha):
    """The best of all sentences of at most LENGTH pieces with END."""
    sentences = [words for n in range(LENGTH) for words in itertools.product(WORDS, repeat=n)]
    return max(sentences, key=lambda s: logs_along(logits, row, s) / penalty(len(s) + 1, alpha))


def narrow(logits, row, beams, alpha):
    """Beam search in plain Python: sequences end where that is among the likeliest."""
    alive, ended = [(0.0, ())], []
    for at in range(LENGTH):
        ends, longer = [], []
        for score, words in alive:
            prefix = 0
            for word in words:
                prefix = prefix * K + word
            logs = log_softmax(logits[row, prefix])
            ends.append((score + logs[END], words))
            longer += [(score + logs[word], (*words, word)) for word in WORDS]
        least = sorted(ends + longer, reverse=True)[:beams][-1][0]
        for score, words in ends:
            if score >= least or at == LENGTH - 1:
                ended.append((score / penalty(at + 1, alpha), words))
        alive = sorted(longer, reverse=True)[:beams]
    return max(ended)[1]


@pytest.mark.parametrize(("beams", "alpha"), [(24, 0.0), (24, 2.0), (1, 0.6), (2, 1.0)])
def test_beams_find_what_plain_python_finds(logits, beams, alpha):
    step, state = stepped(logits, beams)
    found = jax.jit(
        lambda state: beam_search(
            step, state, rows=ROWS, beams=beams, length=LENGTH, alpha=alpha
        )
    )(state)
    expected = [narrow(logits, row, beams, alpha) for row in range(ROWS)]
    if beams == 24:  # 2^3 sentences of three words with 3 pieces behind: exhaustive
        assert expected == [everything(logits, row, alpha) for row in range(ROWS)]
    np.testing.assert_array_equal(found, [padded(words) for words in expected])


def test_the_draw_tells_wide_beams_from_narrow_ones(logits):
    """Else the test above could not see a beam that is lost."""
    wide = [everything(logits, row, 0.6) for row in range(ROWS)]
    assert wide != [narrow(logits, row, 1, 0.6) for row in range(ROWS)]
    assert len({len(words) for words in wide}) > 1
    assert wide != [everything(logits, row, 2.0) for row in range(ROWS)]


def test_greedy_takes_the_likeliest_piece_at_each_place(logits):
    expected = []
    for row in range(ROWS):
        words, prefix = [], 0
        while len(words) < LENGTH - 1:
            told = 2 + int(np.argmax(logits[row, prefix, 2:]))
            if told == END:
                break
            words.append(told)
            prefix = prefix * K + told
        expected.append(padded(words))
    step, state = stepped(logits, 1)
    found = jax.jit(lambda state: greedy(step, state, rows=ROWS, length=LENGTH))(state)
    np.testing.assert_array_equal(found, expected)
