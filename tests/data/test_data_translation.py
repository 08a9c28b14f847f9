"""Parallel corpora from files written here: their forms, their sub-words, and what is wrong."""

import gzip
import json
import zipfile

import numpy as np
import pytest

from lpml import data
from lpml.data.subwords import BEGIN, END, PADDING, SPECIAL, UNKNOWN

ENGLISH = ["a dog runs", "a cat sleeps", "the dog sleeps", "the cat runs", "dogs  and cats"]
FRENCH = ["un chien court", "un chat dort", "le chien dort", "le chat court", "des chiens"]


@pytest.fixture
def folder(tmp_path):
    """Multi30k's files with five sentences, two of the four compressed."""
    place = tmp_path / "multi30k"
    place.mkdir()
    for part, zipped in (("train", True), ("val", False)):
        for language, lines in (("en", ENGLISH), ("fr", FRENCH)):
            content = "".join(line + "\n" for line in lines).encode()
            name = f"{part}.{language}" + (".gz" if zipped else "")
            (place / name).write_bytes(gzip.compress(content) if zipped else content)
    return tmp_path


def tiny(folder, **changes):
    settings = dict(dir=str(folder), vocabulary=40, vocabulary_file=str(folder / "v.json"))
    return data.multi30k(**settings | changes)


def spaced(lines):
    return [" ".join(line.split()) for line in lines]


def test_pairs_come_as_padded_pieces_that_decode_to_the_text(folder):
    got = tiny(folder)
    subwords = data.corpus_subwords(
        data.multi30k_corpus(dir=str(folder)),
        vocabulary=40,
        vocabulary_file=str(folder / "v.json"),
    )
    assert got.classes == subwords.size == 40
    x, y = got.train["x"], got.train["y"]
    assert (x.dtype, y.dtype) == (np.int32, np.int32)
    assert x.shape == (5, 2, y.shape[1])
    assert subwords.decode(x[:, 0]) == spaced(ENGLISH)
    assert subwords.decode(x[:, 1]) == subwords.decode(np.maximum(y, PADDING)) == FRENCH
    assert UNKNOWN not in x
    for row, told in zip(x, y):
        source, target = (subwords.encode([text])[0] for text in subwords.decode(row))
        rest = [PADDING] * len(told)
        np.testing.assert_array_equal(row[0], [*source, END, *rest][: len(told)])
        np.testing.assert_array_equal(row[1], [BEGIN, *target, *rest][: len(told)])
        np.testing.assert_array_equal(told, [*target, END, *[-1] * len(told)][: len(told)])
    # the longest sentence has no padding
    assert (x[:, 0, -1] == END).any() or (y[:, -1] == END).any()
    for key in ("x", "y"):
        np.testing.assert_array_equal(got.test[key], got.train[key])


def test_long_and_empty_pairs_are_left_out_and_limits_are_of_pairs(folder):
    whole = tiny(folder)
    lengths = np.maximum((whole.train["y"] >= 0).sum(1), (whole.train["x"][:, 0] > 0).sum(1))
    short = tiny(folder, length=int(np.sort(lengths)[1]))
    assert len(short.train["x"]) == (lengths <= np.sort(lengths)[1]).sum() < 5
    assert short.train["y"].shape[1] == np.sort(lengths)[1]
    assert len(tiny(folder, limit=2).train["x"]) == 2
    assert len(tiny(folder, limit=2).test["x"]) == 5
    (folder / "multi30k" / "val.fr").write_text("\n".join([*FRENCH[:2], "  ", *FRENCH[3:], ""]))
    assert len(tiny(folder).test["x"]) == 4


def test_both_directions_and_files_of_ones_own_are_the_same_corpus(folder):
    there, back = tiny(folder), tiny(folder, source="fr", target="en", vocabulary_file=None)
    assert there.classes == back.classes
    own = data.parallel_files(
        dir=str(folder / "multi30k"),
        source="train.en.gz",
        target="train.fr.gz",
        test_source="val.en",
        test_target="val.fr",
        vocabulary=40,
    )
    for key in ("x", "y"):
        np.testing.assert_array_equal(own.train[key], there.train[key])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The home's cache is not for tests."""
    place = tmp_path / "cache"
    monkeypatch.setattr("lpml.data.subwords.CACHE", place)
    return place


def test_sub_words_are_kept_and_those_of_another_corpus_refused(folder, cache, refused):
    first = tiny(folder, vocabulary_file=None)
    (kept,) = cache.iterdir()
    assert kept.name.startswith("multi30k-en-fr-40-")
    before = kept.stat().st_mtime_ns
    again = tiny(folder, vocabulary_file=None)
    np.testing.assert_array_equal(first.train["x"], again.train["x"])
    assert kept.stat().st_mtime_ns == before
    tiny(folder, vocabulary_file=None, vocabulary=41)
    assert len(list(cache.iterdir())) == 2

    file = folder / "v.json"
    tiny(folder)
    with refused(file, "vocabulary = 40", "vocabulary = 41", "name another vocabulary_file"):
        tiny(folder, vocabulary=41)
    (folder / "multi30k" / "train.en.gz").write_text("\n".join(["a dog", *ENGLISH[1:]]))
    with refused(file, "another text", "multi30k-en-fr", "delete this one"):
        tiny(folder)
    record = json.loads(file.read_text())
    for damaged in ("{", "[]", json.dumps(record | {"model": "AAAA"})):
        file.write_text(damaged)
        with refused(file, "delete it"):
            tiny(folder)
    with refused("cannot be written"):
        tiny(folder, vocabulary_file=str(file / "below"))


def test_a_cache_that_cannot_be_written_costs_only_time(folder, monkeypatch):
    (folder / "file").write_text("")
    monkeypatch.setattr("lpml.data.subwords.CACHE", folder / "file" / "cache")
    assert tiny(folder, vocabulary_file=None).classes == 40


def test_what_is_wrong_with_text_files_is_named_with_its_line(folder, refused):
    place = folder / "multi30k"
    (place / "val.fr").write_text("\n".join(FRENCH[:4]) + "\n")
    with refused("val.en has 5 lines", "val.fr has 4", "ends at line 4"):
        tiny(folder)
    (place / "val.fr").write_bytes(b"un\ndeux\nfran\xe7ais\nquatre\ncinq\n")
    with refused("val.fr", "line 3", "UTF-8"):
        tiny(folder)
    (place / "val.fr").write_text("\n \n")
    with refused("val.fr has no text"):
        tiny(folder)
    (place / "val.fr").unlink()
    with refused("val.fr is not under", "LPML_DATA"):
        tiny(folder)
    packed = place / "train.fr.gz"
    packed.write_bytes(packed.read_bytes()[:-6])
    with refused("train.fr.gz is truncated or damaged"):
        tiny(folder)


def test_what_makes_no_corpus_is_refused(folder, refused):
    with refused("vocabulary = 999", "lower it to"):
        tiny(folder, vocabulary=999)
    with refused("vocabulary = 9", "raise it to at least"):
        tiny(folder, vocabulary=9)
    with refused("no training pair of multi30k-en-fr has 1 to 1 sub-words"):
        tiny(folder, length=2)
    for wrong, sentence in (
        (dict(length=1), "length is 1 but must be at least 2"),
        (dict(limit=0), "limit is 0"),
        (dict(source="es"), "source is 'es' but must be one of en, fr, de"),
        (dict(target="en"), "source and target are both 'en'"),
    ):
        with pytest.raises(ValueError, match=sentence):
            tiny(folder, **wrong)


def zipped(folder, text, member="fra.txt"):
    (folder / "tatoeba").mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "tatoeba" / "fra-eng.zip", "w") as archive:
        archive.writestr(member, text)
    return str(folder)


def test_tatoeba_is_split_by_english_sentence(tmp_path):
    lines = [f"number {n // 2}\tnombre {n}\tfield three" for n in range(400)]
    root = zipped(tmp_path, "\n".join(lines) + "\n")
    train, test = data.tatoeba_corpus(dir=root)[1:]
    assert (len(train.source), len(test.source)) == (392, 8)
    assert not set(train.source) & set(test.source)
    pairs = {tuple(line.split("\t")[:2]) for line in lines}
    assert {*zip(*train), *zip(*test)} == pairs
    turned = data.tatoeba_corpus(dir=root, source="fr", target="en")
    assert turned.test == (test.target, test.source)
    got = data.tatoeba(dir=root, vocabulary=40)
    assert (len(got.train["x"]), len(got.test["x"]), got.classes) == (392, 8, 40)


def test_what_is_wrong_with_a_zip_is_named_with_its_line(tmp_path, refused):
    with refused("fra.txt in", "line 2", "tab"):
        data.tatoeba_corpus(dir=zipped(tmp_path, "one\tun\ntwo\n"))
    with refused("line 1", "tab"):
        data.tatoeba_corpus(dir=zipped(tmp_path, "one\t \n"))
    with refused("line 2", "UTF-8"):
        data.tatoeba_corpus(dir=zipped(tmp_path, b"one\tun\ntwo\tdeux \xe9\n"))
    with refused("fra-eng.zip has no member fra.txt"):
        data.tatoeba_corpus(dir=zipped(tmp_path, "one\tun\n", member="deu.txt"))
    path = tmp_path / "tatoeba" / "fra-eng.zip"
    path.write_bytes(path.read_bytes()[:-30])
    with refused("fra-eng.zip is damaged or is no zip archive"):
        data.tatoeba_corpus(dir=str(tmp_path))
    with pytest.raises(ValueError, match="must be 'en'"):
        data.tatoeba_corpus(dir=str(tmp_path), source="fr", target="de")


def test_sentences_to_be_translated_are_cut_where_they_are_too_long(folder):
    subwords = data.train_subwords(ENGLISH + FRENCH, size=40)
    rows = data.source_pieces(ENGLISH, subwords, length=4)
    for row, whole in zip(rows, subwords.encode(ENGLISH), strict=True):
        np.testing.assert_array_equal(row, [*whole[:3], END])
    assert subwords.encode(["z"])[0][-1] == UNKNOWN


def test_the_synthetic_language_turns_words_round():
    got = data.synthetic_translation(samples=500, test_samples=3, length=6, classes=9, seed=1)
    x, y = got.train["x"], got.train["y"]
    assert (x.shape, y.shape, got.test["x"].shape, got.classes) == (
        (500, 2, 6),
        (500, 6),
        (3, 2, 6),
        9,
    )
    meaning = {}
    for (source, shifted), told in zip(x, y):
        words = source[source >= SPECIAL]
        n = len(words)
        assert 1 <= n <= 5
        np.testing.assert_array_equal(source, [*words, END, *[PADDING] * (5 - n)])
        np.testing.assert_array_equal(told[n:], [END, *[-1] * (5 - n)])
        np.testing.assert_array_equal(shifted, [BEGIN, *told[:n], *[PADDING] * (5 - n)])
        for word, translation in zip(words[::-1], told):
            assert meaning.setdefault(int(word), int(translation)) == translation
    assert set(meaning) == set(meaning.values()) == set(range(SPECIAL, 9))
    for wrong in (dict(samples=0), dict(length=1), dict(classes=5), dict(seed=-1)):
        with pytest.raises(ValueError, match="must be at least"):
            data.synthetic_translation(**wrong)


def test_the_published_corpora(published):
    pairs = data.multi30k_corpus(dir=published("multi30k"), test="test_2016_flickr")
    assert (len(pairs.train.source), len(pairs.test.target)) == (29000, 1000)
    pairs = data.tatoeba_corpus(dir=published("tatoeba"))
    assert len(pairs.train.source) + len(pairs.test.source) == 142787
