import gzip

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lpml import data

GOOD = b"+1 1:0.5 3:-2\n-1 2:1e-3 # a comment\n\n+1\n"


def read(tmp_path, content, **kwargs):
    path = tmp_path / "set"
    path.write_bytes(content)
    return data.libsvm(file=str(path), **kwargs)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_file_by_hand(tmp_path, pack, dtype):
    got = read(tmp_path, pack(GOOD), dtype=dtype)
    want = np.array([[0.5, 0, -2], [0, 1e-3, 0], [0, 0, 0]], dtype)
    np.testing.assert_array_equal(got.train["x"], want)
    assert got.train["x"].dtype == dtype
    np.testing.assert_array_equal(got.train["y"], [1, 0, 1])
    assert got.train["y"].dtype == np.int32
    assert (got.classes, got.test) == (2, None)


@pytest.mark.parametrize("folder", ["libsvm", "."])
def test_names_are_looked_up_in_the_folder(tmp_path, folder, monkeypatch):
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "toy").write_bytes(GOOD)
    assert data.libsvm(file="toy", dir=str(tmp_path)).size == 3
    monkeypatch.setenv("LPML_DATA", str(tmp_path))
    assert data.libsvm(file="toy").size == 3


def test_more_classes_and_features(tmp_path):
    content = b"7 1:1\n3 1:2\n-2 1:3\n7 2:1\n"
    got = read(tmp_path, content, binary=False, features=5)
    np.testing.assert_array_equal(got.train["y"], [2, 1, 0, 2])
    assert got.classes == 3
    assert got.train["x"].shape == (4, 5)


def test_the_test_file_shares_columns_and_labels(tmp_path, refused):
    (tmp_path / "test").write_bytes(b"-1 4:1\n")
    got = read(tmp_path, GOOD, test_file=str(tmp_path / "test"))
    assert got.train["x"].shape == (3, 4)
    np.testing.assert_array_equal(got.test["x"], [[0, 0, 0, 1]])
    np.testing.assert_array_equal(got.test["y"], [0])
    for label in (b"0", b"2"):
        (tmp_path / "test").write_bytes(label + b" 4:1\n")
        with refused(tmp_path / "test", "labels"):
            read(tmp_path, GOOD, test_file=str(tmp_path / "test"))


@pytest.mark.parametrize(
    ("line", "kwargs"),
    [
        (b"1 1:nan", {}),
        (b"1 1:inf", {}),
        (b"nan 1:1", {}),
        (b"1 1:1e999", {}),
        (b"1 1", {}),
        (b"1 1:", {}),
        (b"1 :1", {}),
        (b"1 1:a", {}),
        (b"a 1:1", {}),
        (b"1,2 1:1", {}),
        (b"1 2:1 1:1", {}),
        (b"1 1:1 1:1", {}),
        (b"1 -1:1", {}),
        (b"1 99999999999999999999:1", {}),
        (b"\xff\xfe\x00garbage", {}),
        (b"<html>404 not found</html>", {}),
    ],
)
def test_malformed_lines_are_named(tmp_path, line, kwargs, refused):
    with refused(tmp_path / "set", "in line 5", "fetch"):
        read(tmp_path, GOOD + line + b"\n+1 1:1\n", **kwargs)


@pytest.mark.parametrize(
    ("content", "kwargs", "words"),
    [
        (b"", {}, "no rows"),
        (b"# nothing\n\n", {}, "no rows"),
        (b"1 1:1\n1 2:1\n", {}, "1 distinct labels"),
        (b"1 1:1\n2 2:1\n3 1:1\n", {}, "binary=False"),
        (b"1 1:1\n2 4:1\n", {"features": 3}, "features"),
        (b"1 1:1\n2 2000000000:1\n", {}, "dense"),
        (gzip.compress(GOOD, mtime=0)[:-4], {}, "truncated"),
    ],
)
def test_unusable_files_are_refused_in_one_sentence(tmp_path, content, kwargs, words, refused):
    with refused(tmp_path / "set", words):
        read(tmp_path, content, **kwargs)


def test_a_folder_or_nothing_in_place_of_a_file_is_refused(tmp_path, monkeypatch, refused):
    with refused(tmp_path, "is not a regular file"):
        data.libsvm(file=str(tmp_path))
    with refused("absent", tmp_path, "LPML_DATA", "--config.data.dir"):
        data.libsvm(file="absent", dir=str(tmp_path))
    monkeypatch.delenv("LPML_DATA", raising=False)
    with refused("absent", "LPML_DATA"):
        data.libsvm(file="absent")
    with pytest.raises(ValueError, match="features is 0"):
        data.libsvm(file="absent", features=0)


SETTINGS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def check(tmp_path, content):
    """Finite numbers or a DataError that names the file."""
    message, finite = str(tmp_path), True
    try:
        finite = np.isfinite(read(tmp_path, content).train["x"]).all()
    except data.DataError as error:
        message = str(error)
    assert finite
    assert str(tmp_path) in message


@SETTINGS
@given(st.text("01289:+-.eE#, \n\r\tnaif", max_size=40))
def test_no_text_raises_anything_else(tmp_path, text):
    check(tmp_path, text.encode())


@SETTINGS
@given(st.binary(max_size=40))
def test_no_bytes_raise_anything_else(tmp_path, content):
    check(tmp_path, GOOD + content)


@pytest.mark.parametrize(
    ("file", "kwargs", "counts", "features", "nonzeros"),
    [
        ("a9a", {"test_file": "a9a.t"}, [24720, 7841], 123, 451592),
        ("mushrooms", {}, [3916, 4208], 112, 170604),
        ("w8a", {}, [48270, 1479], 300, 579586),
    ],
)
def test_the_published_files(published, file, kwargs, counts, features, nonzeros):
    got = data.libsvm(file=file, dir=published("libsvm"), **kwargs)
    np.testing.assert_array_equal(np.bincount(got.train["y"]), counts)
    assert got.train["x"].shape == (sum(counts), features)
    assert np.count_nonzero(got.train["x"]) == nonzeros
    if got.test is not None:
        assert got.test["x"].shape == (16281, features)
        np.testing.assert_array_equal(np.bincount(got.test["y"]), [12435, 3846])
