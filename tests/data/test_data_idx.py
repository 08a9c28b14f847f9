import gzip
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lpml import data

CODES = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}
NAMES = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]


def idx(array, kind="u1"):
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[kind], array.ndim, *array.shape)
    return head + array.astype(kind).tobytes()


def small_set(train=12, test=5):
    random = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", train), ("t10k", test)):
        arrays[f"{part}-images-idx3-ubyte"] = random.integers(0, 256, (n, 28, 28))
        arrays[f"{part}-labels-idx1-ubyte"] = random.integers(0, 10, n)
    return arrays


def write(folder, arrays, ending="", spelling="-idx"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        content = idx(array)
        path = folder / (name.replace("-idx", spelling) + ending)
        path.write_bytes(gzip.compress(content) if ending else content)


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_type_is_read_whatever_the_name(tmp_path, kind, zipped):
    want = np.arange(24).reshape(2, 3, 4).astype(kind)
    path = tmp_path / ("plain.gz" if not zipped else "zipped")
    path.write_bytes(gzip.compress(idx(want, kind)) if zipped else idx(want, kind))
    got = data.read_idx(path)
    assert got.dtype == np.dtype(kind).newbyteorder("=")
    np.testing.assert_array_equal(got, want)


GOOD = idx(np.arange(6).reshape(2, 3))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0",
        GOOD[:7],
        GOOD[:-1],
        GOOD + b"\0",
        b"\1" + GOOD[1:],
        b"\0\0\x0a" + GOOD[3:],
        b"\0\0\x08\0",
        b"\0\0\x08\xff" + bytes(2000),
        struct.pack(">BBBBII", 0, 0, 8, 2, 0, 2**32 - 1),
        struct.pack(">BBBBIII", 0, 0, 14, 3, *[2**32 - 1] * 3),
        gzip.compress(GOOD, mtime=0)[:-3],
        gzip.compress(GOOD, mtime=0)[:12],
        gzip.compress(GOOD, mtime=0) + b"garbage",
        gzip.compress(GOOD + b"x", mtime=0),
        b"\x1f\x8b",
        b"\xfd7zXZ\x00garbage",
        b"<html>404 not found</html>",
    ],
)
def test_unsound_files_are_refused_in_one_sentence(tmp_path, content, refused):
    path = tmp_path / "file"
    path.write_bytes(content)
    with refused(path, "fetch it again"):
        data.read_idx(path)


def test_a_folder_or_nothing_in_place_of_a_file_is_refused(tmp_path, refused):
    with refused(tmp_path, "is not a regular file"):
        data.read_idx(tmp_path)
    with refused(tmp_path / "absent", "does not exist"):
        data.read_idx(tmp_path / "absent")


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_no_damage_raises_anything_else(tmp_path, draws):
    content = bytearray(draws.draw(st.sampled_from([GOOD, gzip.compress(GOOD, mtime=0)])))
    for _ in range(draws.draw(st.integers(1, 4))):
        content[draws.draw(st.integers(0, len(content) - 1))] = draws.draw(st.integers(0, 255))
    path = tmp_path / "file"
    path.write_bytes(content[: draws.draw(st.integers(0, len(content)))])
    message = str(path)
    try:
        data.read_idx(path)
    except data.DataError as error:
        message = str(error)
    assert str(path) in message


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("spelling", ["-idx", ".idx"])
@pytest.mark.parametrize(
    ("source", "folder"),
    [
        (data.mnist, "mnist"),
        (data.mnist, "MNIST/raw"),
        (data.mnist, "."),
        (data.fashion_mnist, "fashion-mnist"),
        (data.fashion_mnist, "FashionMNIST/raw"),
        (data.fashion_mnist, "."),
    ],
)
def test_all_layouts_are_found(tmp_path, source, folder, spelling, ending):
    arrays = small_set()
    write(tmp_path / folder, arrays, ending, spelling)
    got = source(dir=str(tmp_path), verify=False)
    assert got.classes == 10
    for part, name in ((got.train, "train"), (got.test, "t10k")):
        pixels = arrays[f"{name}-images-idx3-ubyte"]
        assert part["x"].dtype == np.float32
        assert part["x"].shape == (len(pixels), 28, 28, 1)
        want = (pixels / 255).astype(np.float32)
        np.testing.assert_array_equal(part["x"][..., 0], want)
        assert part["y"].dtype == np.int32
        np.testing.assert_array_equal(part["y"], arrays[f"{name}-labels-idx1-ubyte"])


def test_options_and_the_variable(tmp_path, monkeypatch):
    arrays = small_set()
    write(tmp_path / "mnist", arrays)
    monkeypatch.setenv("LPML_DATA", str(tmp_path))
    got = data.mnist(flat=True, dtype="float64", limit=7, input_bits=8, verify=False)
    assert got.train["x"].shape == (7, 784)
    assert got.train["y"].shape == (7,)
    assert got.test["x"].shape == (5, 784)
    assert got.train["x"].dtype == np.float64
    codes = got.train["x"] / got.input_scale
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-9)
    with pytest.raises(ValueError, match="limit is 0"):
        data.mnist(limit=0, verify=False)
    with pytest.raises(ValueError, match="dtype is 'int8'"):
        data.mnist(dtype="int8", verify=False)


@pytest.mark.parametrize("source", [data.mnist, data.fashion_mnist])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_other_content_fails_the_checksum(tmp_path, source, ending, refused):
    write(tmp_path, small_set(), ending)
    name = tmp_path / f"train-images-idx3-ubyte{ending}"
    with refused(name, "md5", "fetch it again", "verify=False"):
        source(dir=str(tmp_path))


@pytest.mark.parametrize("source", [data.mnist, data.fashion_mnist])
def test_a_missing_set_says_which_files_go_where(tmp_path, source, monkeypatch, refused):
    words = ("train-images-idx3-ubyte", "t10k-labels-idx1-ubyte", "LPML_DATA")
    with refused(tmp_path, *words, "--config.data.dir"):
        source(dir=str(tmp_path))
    with refused("absent", *words):
        source(dir=str(tmp_path / "absent"))
    monkeypatch.delenv("LPML_DATA", raising=False)
    with refused(*words, "--config.data.dir"):
        source()


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("train-images-idx3-ubyte", np.zeros((12, 28, 27))),
        ("train-images-idx3-ubyte", np.zeros((12, 784))),
        ("train-labels-idx1-ubyte", np.zeros(11)),
        ("t10k-labels-idx1-ubyte", np.full(5, 10)),
        ("t10k-labels-idx1-ubyte", np.zeros((5, 1))),
    ],
)
def test_files_that_do_not_fit_together_are_refused(tmp_path, name, array, refused):
    write(tmp_path, {**small_set(), name: array})
    with refused(tmp_path / name, "fetch"):
        data.mnist(dir=str(tmp_path), verify=False)


MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize(
    ("source", "folder", "train", "test", "mean", "std"),
    [
        (data.mnist, "mnist", MNIST_TRAIN, MNIST_TEST, 33.3184, 78.5675),
        (data.fashion_mnist, "fashion-mnist", [6000] * 10, [1000] * 10, 72.9404, 90.0212),
    ],
)
def test_the_published_files(published, source, folder, train, test, mean, std):
    got = source(dir=published(folder))
    np.testing.assert_array_equal(np.bincount(got.train["y"]), train)
    np.testing.assert_array_equal(np.bincount(got.test["y"]), test)
    assert got.train["x"].shape == (60000, 28, 28, 1)
    assert got.train["x"].max() == 1
    assert got.train["x"].mean(dtype=np.float64) * 255 == pytest.approx(mean, abs=1e-4)
    assert np.std(got.train["x"], dtype=np.float64) * 255 == pytest.approx(std, abs=1e-4)


def test_the_published_content_passes_unzipped_too(published, tmp_path):
    root = published("mnist")
    for name in NAMES:
        with gzip.open(f"{root}/mnist/{name}.gz") as file:
            (tmp_path / name).write_bytes(file.read())
    assert data.mnist(dir=str(tmp_path), limit=10).size == 10


def test_mnist_in_place_of_fashion_mnist_is_noticed(published, refused):
    with refused("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"):
        data.fashion_mnist(dir=published("mnist") + "/mnist")
