"""Windows of characters: a text written here, the published one, and a chain of known law."""

import gzip

import numpy as np
import pytest

from lpml import data

TEXT = "abcabd\r\n" * 40


def written(tmp_path, content, name="input.txt"):
    folder = tmp_path / "tinyshakespeare"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return str(tmp_path)


@pytest.mark.parametrize("name", ["input.txt", "input.txt.gz"])
def test_windows_tell_the_next_character(tmp_path, name):
    content = TEXT.encode()
    content = gzip.compress(content) if name.endswith("gz") else content
    got = data.tinyshakespeare(dir=written(tmp_path, content, name), context=5, verify=False)
    assert got.classes == 5
    text = TEXT.replace("\r\n", "\n")
    ids = np.array(["\nabcd".index(c) for c in text])
    train, test = ids[:252], ids[252:]
    assert got.train["x"].shape == got.train["y"].shape == (50, 5)
    assert got.train["x"].dtype == got.train["y"].dtype == np.int32
    np.testing.assert_array_equal(got.train["x"].ravel(), train[:250])
    np.testing.assert_array_equal(got.train["y"].ravel(), train[1:251])
    np.testing.assert_array_equal(got.test["x"].ravel(), test[:25])
    np.testing.assert_array_equal(got.test["y"].ravel(), test[1:26])


def test_windows_may_overlap_and_be_few(tmp_path):
    root = written(tmp_path, TEXT.encode())
    ids = data.tinyshakespeare(dir=root, context=1, verify=False).train["x"].ravel()
    got = data.tinyshakespeare(dir=root, context=4, stride=3, limit=7, verify=False)
    assert got.train["x"].shape == (7, 4)
    for n in range(7):
        np.testing.assert_array_equal(got.train["x"][n], ids[3 * n : 3 * n + 4])
        np.testing.assert_array_equal(got.train["y"][n], ids[3 * n + 1 : 3 * n + 5])
    assert got.test["x"].shape == ((28 - 1) // 4, 4)


def test_the_published_text(published):
    got = data.tinyshakespeare(dir=published("tinyshakespeare"), context=64)
    assert got.classes == 65
    assert got.train["x"].shape == ((1003854 - 1) // 64, 64)
    assert got.test["x"].shape == ((111540 - 1) // 64, 64)


def test_what_is_no_such_text_is_refused(tmp_path, refused):
    with refused("input.txt is not under", "--config.data.dir"):
        data.tinyshakespeare(dir=str(tmp_path))
    root = written(tmp_path, b"one\ntwo\n\xff\xfe\n")
    with refused("md5", "verify=False"):
        data.tinyshakespeare(dir=root)
    with refused("line 3", "UTF-8"):
        data.tinyshakespeare(dir=root, verify=False)
    root = written(tmp_path, b"short")
    with refused("5 characters", "context = 8"):
        data.tinyshakespeare(dir=root, context=8, verify=False)
    for wrong, word in ((dict(context=0), "context is 0"), (dict(stride=0), "stride is 0")):
        with pytest.raises(ValueError, match=word):
            data.tinyshakespeare(dir=root, **wrong)


def test_the_markov_text_follows_its_chain():
    settings = dict(classes=4, branching=2.0, seed=3)
    chain, stationary = data.markov_chain(**settings)
    np.testing.assert_allclose(chain.sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(stationary @ chain, stationary, atol=1e-12)
    assert (stationary > 0).all()
    got = data.markov_text(samples=4000, test_samples=5, context=10, **settings)
    x, y = got.train["x"], got.train["y"]
    np.testing.assert_array_equal(x[:, 1:], y[:, :-1])
    assert x.dtype == np.int32
    assert (got.classes, got.test["y"].shape) == (4, (5, 10))
    # every window begins in the stationary distribution: binomial counts
    starts = np.bincount(x[:, 0], minlength=4) / 4000
    assert (np.abs(starts - stationary) < 5 * np.sqrt(stationary / 4000)).all()
    # and the next character is binomial given this one
    counts = np.zeros((4, 4))
    np.add.at(counts, (x, y), 1)
    number = counts.sum(1, keepdims=True)
    deviation = np.sqrt(chain * (1 - chain) / number)
    assert (np.abs(counts / number - chain) < 5 * deviation).all()
    again = data.markov_text(samples=4000, test_samples=5, context=10, **settings)
    np.testing.assert_array_equal(again.train["x"], x)
    assert data.markov_text(test_samples=0).test is None


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(samples=0), "samples is 0"),
        (dict(test_samples=-1), "test_samples is -1"),
        (dict(context=0), "context is 0"),
        (dict(classes=1), "classes is 1"),
        (dict(branching=0.0), "branching is 0.0"),
        (dict(seed=-1), "seed is -1"),
    ],
)
def test_settings_of_the_markov_text_out_of_range_are_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        data.markov_text(**wrong)
