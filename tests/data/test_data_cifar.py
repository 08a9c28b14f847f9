import gzip
import io
import lzma
import os
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpml import data
from lpml.data.batch_pickle import parse_batch_pickle

NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
WHERE = Path("data_batch_1")


def batches(n=4):
    random = np.random.default_rng(1)
    return {
        name: (random.integers(0, 256, (n, 3072), np.uint8), random.integers(0, 10, n).tolist())
        for name in NAMES
    }


def binary(pixels, labels):
    return b"".join(bytes([y]) + x.tobytes() for x, y in zip(pixels, labels))


def python3(pixels, labels, protocol=2):
    fields = {"data": pixels, "labels": labels, "batch_label": "batch", "filenames": ["a.png"]}
    return pickle.dumps(fields, protocol=protocol)


def python2(pixels, labels):
    """What cPickle of Python 2 writes (protocol 2): every string is a byte string."""

    def text(s):
        return b"U" + bytes([len(s)]) + s

    raw = pixels.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b")
        + b"\x87R(K\x01J" + struct.pack("<i", len(pixels)) + b"M\x00\x0c\x86"
        + b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + b"T" + struct.pack("<i", len(raw)) + raw + b"tb"
    )  # fmt: skip
    numbers = b"](" + b"".join(b"K" + bytes([y]) for y in labels) + b"e"
    return (
        b"\x80\x02}(" + text(b"batch_label") + text(b"training batch 1 of 5")
        + text(b"labels") + numbers + text(b"data") + array + b"u."
    )  # fmt: skip


def archive(files):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def files_of(form, content=None):
    content = content or batches()
    if form.startswith("binary"):
        files = {f"{name}.bin": binary(*batch) for name, batch in content.items()}
    else:
        files = {name: (python2 if "2" in form else python3)(*b) for name, b in content.items()}
    if form.endswith("archive"):
        return {f"cifar-10-{form.split()[0]}.tar.gz": archive(
            {f"some-folder/{name}": body for name, body in files.items()}
        )}  # fmt: skip
    if form.endswith("xz"):
        return {name + ".xz": lzma.compress(body, preset=0) for name, body in files.items()}
    if form.endswith("gz"):
        return {name + ".gz": gzip.compress(body) for name, body in files.items()}
    return files


FORMS = [
    "binary",
    "binary xz",
    "binary gz",
    "binary archive",
    "python",
    "python 2",
    "python archive",
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("folder", [".", "cifar-10-batches-bin", "cifar-10-batches-py"])
def test_all_forms_give_the_same_arrays(tmp_path, form, folder):
    content = batches()
    write(tmp_path / folder, files_of(form, content))
    got = data.cifar10(dir=str(tmp_path), verify=False)
    assert got.classes == 10
    train = [content[name] for name in NAMES[:5]]
    for part, group in ((got.train, train), (got.test, [content["test_batch"]])):
        pixels = np.concatenate([batch[0] for batch in group])
        labels = np.concatenate([batch[1] for batch in group])
        assert part["x"].dtype == np.float32
        assert part["y"].dtype == np.int32
        assert part["x"].shape == (len(pixels), 32, 32, 3)
        np.testing.assert_array_equal(part["y"], labels)
        for i, row, column, channel in ((0, 0, 0, 0), (1, 3, 5, 1), (3, 31, 30, 2)):
            want = np.float32(pixels[i, 1024 * channel + 32 * row + column]) / np.float32(255)
            assert part["x"][i, row, column, channel] == want
    limited = data.cifar10(dir=str(tmp_path), limit=6, dtype="float64", verify=False)
    assert limited.train["x"].dtype == np.float64
    np.testing.assert_array_equal(limited.train["y"], got.train["y"][:6])


@pytest.mark.parametrize("form", FORMS)
def test_other_content_fails_the_checksum(tmp_path, form, refused):
    write(tmp_path, files_of(form))
    with refused(tmp_path, "md5", "fetch it again", "verify=False"):
        data.cifar10(dir=str(tmp_path))


def test_a_missing_set_says_which_files_go_where(tmp_path, monkeypatch, refused):
    words = ("cifar-10-binary.tar.gz", "cifar-10-batches-bin", "LPML_DATA", "--config.data.dir")
    with refused(tmp_path, *words):
        data.cifar10(dir=str(tmp_path))
    files = files_of("binary")
    del files["data_batch_3.bin"]
    write(tmp_path, files)
    with refused("data_batch_3.bin", *words):
        data.cifar10(dir=str(tmp_path), verify=False)
    monkeypatch.delenv("LPML_DATA", raising=False)
    with refused(*words):
        data.cifar10()
    with pytest.raises(ValueError, match="limit is -1"):
        data.cifar10(dir=str(tmp_path), limit=-1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("damage", ["empty", "half", "garbage", "one byte less"])
def test_damaged_files_are_refused_in_one_sentence(tmp_path, form, damage, refused):
    files = files_of(form)
    name = min(files)
    body = files[name]
    half, garbage = body[: len(body) // 2 + 1], b"<html>404</html>"
    files[name] = {"empty": b"", "half": half, "garbage": garbage}.get(damage, body[:-1])
    write(tmp_path, files)
    with refused(tmp_path / name, "fetch it again"):
        data.cifar10(dir=str(tmp_path), verify=False)


def test_an_archive_without_a_batch_is_refused(tmp_path, refused):
    write(tmp_path, {"cifar-10-binary.tar.gz": archive({"readme.html": b"hello"})})
    with refused("cifar-10-binary.tar.gz", "lacks data_batch_1.bin", "fetch it again"):
        data.cifar10(dir=str(tmp_path), verify=False)


@pytest.mark.parametrize("protocol", range(5))
def test_pickles_of_python_3_and_fortran_order(protocol):
    pixels, labels = batches()["test_batch"]
    for array in (pixels, np.asfortranarray(pixels)):
        got = parse_batch_pickle(python3(array, labels, protocol), WHERE)
        np.testing.assert_array_equal(got[0], pixels)
        np.testing.assert_array_equal(got[1], labels)


class Malice:
    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def test_a_malicious_pickle_is_refused_and_does_not_run(tmp_path, refused):
    mark = tmp_path / "ran"
    attack = Malice(os.system, f"touch {mark}")
    pixels, labels = batches()["data_batch_1"]
    for body in (attack, {"data": pixels, "labels": labels, "more": attack}):
        files = {**files_of("python"), "data_batch_1": pickle.dumps(body, protocol=2)}
        write(tmp_path, files)
        with refused(tmp_path / "data_batch_1", f"'{os.name}.system'", "fetch"):
            data.cifar10(dir=str(tmp_path), verify=False)
    assert not mark.exists()
    pickle.loads(pickle.dumps(attack, protocol=2))
    assert mark.exists()  # the attack works where nothing stops it


@pytest.mark.parametrize("named", [eval, print, np.load, getattr, io.open, os.system])
def test_every_other_global_is_refused(named, refused):
    with refused("forbidden global", WHERE):
        parse_batch_pickle(pickle.dumps({"data": named}, protocol=4), WHERE)


@pytest.mark.parametrize(
    "body",
    [
        [1, 2],
        {},
        {"data": None, "labels": [1]},
        {"data": np.zeros((1, 3072), np.int8), "labels": [1]},
        {"data": np.zeros((1, 3072), object), "labels": [1]},
        {"data": np.zeros((1, 3071), np.uint8), "labels": [1]},
        {"data": np.zeros(3072, np.uint8), "labels": [1]},
        {"data": np.zeros((0, 3072), np.uint8), "labels": []},
        {"data": np.zeros((1, 3072), np.uint8), "labels": [10]},
        {"data": np.zeros((1, 3072), np.uint8), "labels": [1.0]},
        {"data": np.zeros((1, 3072), np.uint8), "labels": [1, 2]},
        {"data": np.zeros((1, 3072), np.uint8), "labels": None},
        {"data": [np.zeros((1, 3072), np.uint8)], "labels": [1]},
    ],
)
def test_pickles_of_something_else_are_refused(body, refused):
    with refused(WHERE, "fetch"):
        parse_batch_pickle(pickle.dumps(body, protocol=2), WHERE)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_damage_to_a_pickle_raises_anything_else(draws):
    pixels, labels = np.zeros((1, 3072), np.uint8), [3]
    whole = draws.draw(st.sampled_from([python2(pixels, labels), python3(pixels, labels)]))
    content = bytearray(whole)
    bound = draws.draw(st.sampled_from([200, len(content)]))
    for _ in range(draws.draw(st.integers(1, 5))):
        content[-draws.draw(st.integers(1, bound))] = draws.draw(st.integers(0, 255))
        content[draws.draw(st.integers(0, bound - 1))] = draws.draw(st.integers(0, 255))
    message = str(WHERE)
    try:
        parse_batch_pickle(bytes(content), WHERE)
    except data.DataError as error:
        message = str(error)
    assert str(WHERE) in message


@pytest.mark.parametrize("put", [b"r\xff\xff\xff\xff", b"p99999999999\n"])
def test_a_memo_larger_than_the_file_is_not_allocated(put, refused):
    with refused(WHERE, "fetch"):
        parse_batch_pickle(b"\x80\x02}" + put + b".", WHERE)


def test_the_published_files(published):
    """One batch and the test set: all five take 10 s on two cores."""
    got = data.cifar10(dir=published("cifar-10-batches-bin"), limit=10000)
    want = [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]
    np.testing.assert_array_equal(np.bincount(got.train["y"]), want)
    np.testing.assert_array_equal(np.bincount(got.test["y"]), [1000] * 10)
    assert got.train["x"].shape == (10000, 32, 32, 3)


@pytest.mark.slow
def test_all_published_files(published):
    got = data.cifar10(dir=published("cifar-10-batches-bin"))
    np.testing.assert_array_equal(np.bincount(got.train["y"]), [5000] * 10)
    means = got.train["x"].mean(axis=(0, 1, 2), dtype=np.float64)
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=6e-5)
    stds = got.train["x"].std(axis=(0, 1, 2), dtype=np.float64)
    np.testing.assert_allclose(stds, [0.2470, 0.2435, 0.2616], atol=6e-5)
