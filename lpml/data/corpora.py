"""Parallel corpora by name: Multi30k, Tatoeba, and text files of one's own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lpml.data.dataset import DataError, Dataset, check_limit
from lpml.data.files import data_folder, first_file
from lpml.data.parallel_text import Corpus, Pairs, read_pairs, read_zip_pairs
from lpml.data.subwords import Subwords, kept_subwords
from lpml.data.translation import translation_dataset

_TATOEBA = {"fr": "fra", "de": "deu"}


def multi30k(
    *,
    dir: str | None = None,
    source: str = "en",
    target: str = "fr",
    vocabulary: int = 8000,
    length: int = 48,
    limit: int | None = None,
    vocabulary_file: str | None = None,
) -> Dataset:
    """Multi30k: 29000 captions of photographs with translations; the test set is `val`.

    Args:
      dir: folder that holds multi30k/ or its files train.en.gz, val.en.gz and so on, each
        with or without .gz; None for that of the variable LPML_DATA.
      source: language translated from: 'en', 'fr' or 'de'.
      target: language translated to, another of these.
      vocabulary: number of sub-words, shared by both languages, trained on the training set.
      length: most pieces L of a sentence, its end included, at least 2; longer pairs are
        left out.
      limit: use the first `limit` training pairs only, at least 1; None for all. The
        sub-words are those of all.
      vocabulary_file: see `subwords.kept_subwords`.

    Returns:
      As `translation_dataset`.

    Raises:
      DataError: a file is missing or damaged, the two sides do not fit, the sub-words kept
        are those of another corpus, or nothing is short enough.
      ValueError: an argument out of its range.
    """
    check_limit(limit)
    corpus = multi30k_corpus(dir=dir, source=source, target=target)
    return _dataset(corpus, vocabulary, length, limit, vocabulary_file)


def tatoeba(
    *,
    dir: str | None = None,
    source: str = "en",
    target: str = "fr",
    vocabulary: int = 8000,
    length: int = 32,
    limit: int | None = None,
    vocabulary_file: str | None = None,
) -> Dataset:
    """Tatoeba: short sentences with translations, of which one in 50 English ones is test.

    `dir` holds tatoeba/ or its files fra-eng.zip and deu-eng.zip; one of the two languages is
    'en', the other 'fr' or 'de'; all else is as for `multi30k`.
    """
    check_limit(limit)
    corpus = tatoeba_corpus(dir=dir, source=source, target=target)
    return _dataset(corpus, vocabulary, length, limit, vocabulary_file)


def parallel_files(
    *,
    source: str,
    target: str,
    test_source: str,
    test_target: str,
    dir: str | None = None,
    vocabulary: int = 8000,
    length: int = 48,
    limit: int | None = None,
    vocabulary_file: str | None = None,
) -> Dataset:
    """A corpus of your own: two text files for training and two for the test.

    Each is plain, .gz or .xz, UTF-8, one sentence a line, line n of both belonging together.
    Paths are relative to `dir`, or to the folder in LPML_DATA; all else is as for `multi30k`.
    """
    check_limit(limit)
    root = data_folder(
        dir, f"{source}, {target}, {test_source} and {test_target} into a folder"
    )
    corpus = Corpus(
        Path(source).name.partition(".")[0] or "corpus",
        read_pairs(root / source, root / target),
        read_pairs(root / test_source, root / test_target),
    )
    return _dataset(corpus, vocabulary, length, limit, vocabulary_file)


def multi30k_corpus(
    *, dir: str | None = None, source: str = "en", target: str = "fr", test: str = "val"
) -> Corpus:
    """The sentences of `multi30k`; `test` may also be 'test_2016_flickr' and the like."""
    _check_languages(source, target, ("en", "fr", "de"))
    wanted = f"{{train,{test}}}.{{{source},{target}}}.gz into multi30k/ of a folder"
    root = data_folder(dir, wanted)
    parts = [
        read_pairs(
            *(_find(root, "multi30k", f"{part}.{side}", wanted) for side in (source, target))
        )
        for part in ("train", test)
    ]
    return Corpus(f"multi30k-{source}-{target}", *parts)


def tatoeba_corpus(*, dir: str | None = None, source: str = "en", target: str = "fr") -> Corpus:
    """The sentences of `tatoeba`, in an order that is not that of their length.

    Many English sentences have several translations, so the test set is one of English
    sentences: all pairs of a fiftieth of them.
    """
    _check_languages(source, target, ("en", *_TATOEBA))
    if "en" not in (source, target):
        raise ValueError(f"one of source = {source!r} and target = {target!r} must be 'en'.")
    other = _TATOEBA[target if source == "en" else source]
    wanted = f"{other}-eng.zip into tatoeba/ of a folder"
    path = _find(data_folder(dir, wanted), "tatoeba", f"{other}-eng.zip", wanted)
    english, foreign = read_zip_pairs(path, f"{other}.txt")
    sides = (english, foreign) if source == "en" else (foreign, english)
    # fixed seed: which sentences are the test set is no setting of a run
    random = np.random.default_rng(0)
    sentences, number = np.unique(np.array(english, object), return_inverse=True)
    is_test = random.permutation(len(sentences))[number] < len(sentences) // 50
    order = random.permutation(len(english))
    parts = [
        Pairs(*([side[i] for i in order if is_test[i] == test] for side in sides))
        for test in (False, True)
    ]
    return Corpus(f"tatoeba-{source}-{target}", *parts)


def corpus_subwords(
    corpus: Corpus, *, vocabulary: int = 8000, vocabulary_file: str | None = None
) -> Subwords:
    """The sub-words that `multi30k` and the others use: of both sides of the training set."""
    lines = corpus.train.source + corpus.train.target
    return kept_subwords(corpus.name, lines, size=vocabulary, file=vocabulary_file)


def _dataset(
    corpus: Corpus, vocabulary: int, length: int, limit: int | None, file: str | None
) -> Dataset:
    subwords = corpus_subwords(corpus, vocabulary=vocabulary, vocabulary_file=file)
    made = translation_dataset(corpus, subwords, length=length)
    return made._replace(train={key: value[:limit] for key, value in made.train.items()})


def _find(root: Path, folder: str, name: str, wanted: str) -> Path:
    path = first_file((root / folder, root), (name, f"{name}.gz"))
    if path is None:
        raise DataError(
            f"{name} is not under {root}: put {wanted} and name that folder in the variable "
            "LPML_DATA or, for one config, with --config.data.dir."
        )
    return path


def _check_languages(source: str, target: str, known: Sequence[str]) -> None:
    for name, value in (("source", source), ("target", target)):
        if value not in known:
            raise ValueError(f"{name} is {value!r} but must be one of {', '.join(known)}.")
    if source == target:
        raise ValueError(f"source and target are both {source!r} but must be two languages.")
