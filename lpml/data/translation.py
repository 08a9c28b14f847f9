"""Translation: pairs of sentences as numbers of pieces, one padded length for a data set."""

from collections.abc import Iterable, Sequence

import numpy as np

from lpml.data.dataset import DataError, Dataset
from lpml.data.parallel_text import Corpus
from lpml.data.subwords import BEGIN, END, PADDING, SPECIAL, Subwords, text_of

NOTHING = -1  # in y: nothing is to be told


def translation_dataset(corpus: Corpus, subwords: Subwords, *, length: int) -> Dataset:
    """Pairs of sentences in numbers of pieces.

    Data lie on the device with one shape, so all are padded to the longest sentence that is
    kept, of training and test set; how much of that is padding is what `length` decides.
    `train.buckets` leaves most of it out of the steps.

    Args:
      corpus: the sentences.
      subwords: their vocabulary.
      length: most pieces of a sentence, its end included, at least 2.

    Returns:
      See `pieces`; classes the number of sub-words. Pairs with a side that is empty or longer
      than `length` are left out, of the test set too.

    Raises:
      DataError: no pair is left.
      ValueError: length out of its range.
    """
    if length < 2:
        raise ValueError(f"length is {length} but must be at least 2.")
    parts = []
    for pairs, part in ((corpus.train, "training"), (corpus.test, "test")):
        sides = [subwords.encode(side) for side in pairs]
        kept = [pair for pair in zip(*sides) if all(0 < len(row) < length for row in pair)]
        if not kept:
            raise DataError(
                f"no {part} pair of {corpus.name} has 1 to {length - 1} sub-words on both "
                "sides: raise length, or mend the text."
            )
        parts.append(kept)
    longest = 1 + max(len(row) for kept in parts for pair in kept for row in pair)
    train, test = (pieces(*zip(*kept), length=longest) for kept in parts)
    return Dataset(train, test, subwords.size, text=subwords.decode)


def pieces(
    source: Sequence[Sequence[int]], target: Sequence[Sequence[int]], *, length: int
) -> dict[str, np.ndarray]:
    """Numbers of pieces as a Transformer takes them.

    Args:
      source: N sentences, each of at most length - 1 numbers.
      target: their translations.
      length: L.

    Returns:
      x (N, 2, L) int32: x[:, 0] is the source, END, PADDING ...; x[:, 1] is BEGIN, the target,
      PADDING ...; y (N, L) int32: the target, END, and -1 where nothing is to be told, so
      that y[:, t] follows on x[:, 1, :t + 1].
    """
    x = np.full((len(source), 2, length), PADDING, np.int32)
    y = np.full((len(source), length), NOTHING, np.int32)
    x[:, 1, 0] = BEGIN
    for n, (row, translated) in enumerate(zip(source, target, strict=True)):
        x[n, 0, : len(row) + 1] = [*row, END]
        x[n, 1, 1 : len(translated) + 1] = translated
        y[n, : len(translated) + 1] = [*translated, END]
    return {"x": x, "y": y}


def lengths(data: dict[str, np.ndarray]) -> np.ndarray:
    """Places that each pair of `pieces` needs: of its longer side with END or BEGIN, (N,)."""
    used = (data["x"] != PADDING).any(axis=1) | (data["y"] >= 0)
    return used.shape[1] - np.argmax(used[:, ::-1], axis=1)


def source_pieces(lines: Sequence[str], subwords: Subwords, *, length: int) -> np.ndarray:
    """Sentences to be translated: int32 (N, L), END and PADDING behind; longer ones are cut."""
    rows = [row[: length - 1] for row in subwords.encode(lines)]
    return pieces(rows, rows, length=length)["x"][:, 0]


def synthetic_translation(
    *,
    samples: int = 2048,
    test_samples: int = 256,
    length: int = 8,
    classes: int = 16,
    seed: int = 0,
) -> Dataset:
    """A language that needs no file: one translation a word, in the reverse order.

    Sentences have 1 to length - 1 words, uniformly, of classes - 4 words, uniformly; a
    permutation translates them. So there is exactly one right answer at every place, and
    who knows it has loss 0.

    Args:
      samples: training pairs, at least 1.
      test_samples: test pairs, at least 0.
      length: L, at least 2.
      classes: number of pieces, the four that are no words included: at least 6.
      seed: of the permutation and the sentences, at least 0.

    Returns:
      As `pieces`.

    Raises:
      ValueError: an argument out of its range.
    """
    for name, value, least in (
        ("samples", samples, 1),
        ("test_samples", test_samples, 0),
        ("length", length, 2),
        ("classes", classes, SPECIAL + 2),
        ("seed", seed, 0),
    ):
        if value < least:
            raise ValueError(f"{name} is {value} but must be at least {least}.")
    random = np.random.default_rng(seed)
    meaning = random.permutation(classes - SPECIAL) + SPECIAL
    words = random.integers(classes - SPECIAL, size=(samples + test_samples, length - 1))
    counts = random.integers(1, length, size=len(words))
    source = [row[:n] + SPECIAL for row, n in zip(words, counts)]
    target = [meaning[row - SPECIAL][::-1] for row in source]
    train = pieces(source[:samples], target[:samples], length=length)
    test = pieces(source[samples:], target[samples:], length=length) if test_samples else None
    return Dataset(train, test, classes, text=_words)


def _words(rows: Iterable[Iterable[int]]) -> list[str]:
    """Sentences of the synthetic language: its words are w4, w5, ..."""
    return [" ".join(f"w{piece}" for piece in text_of(row)) for row in rows]
