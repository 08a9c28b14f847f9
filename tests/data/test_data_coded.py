"""Folders of integer codes: written chunk by chunk, mapped, refused where they are wrong."""

import importlib
import json

import numpy as np
import pytest

from lpml import data
from lpml.data.__main__ import main

SCALE = 0.1 / 3


def chunks(dtype=np.int8, sizes=(5, 0, 7), features=3, labels=False):
    random = np.random.default_rng(0)
    most = np.iinfo(dtype).max
    for size in sizes:
        codes = random.integers(-most, most + 1, (size, features)).astype(dtype)
        yield codes, random.integers(0, 3, size) if labels else random.normal(size=size)


@pytest.fixture
def folder(tmp_path):
    """A sound set of 12 rows of 3 int8 codes, two of them the ends of the range."""
    made = list(chunks())
    made[0][0][0, :2] = (-127, 127)
    data.write_codes(made, tmp_path / "set", scale=SCALE)
    return tmp_path / "set"


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
@pytest.mark.parametrize("labels", [False, True])
def test_what_is_written_is_read_back_mapped(dtype, labels, tmp_path):
    data.write_codes(
        chunks(dtype, labels=labels), tmp_path, scale=SCALE, classes=3 if labels else None
    )
    x, y = (np.concatenate(parts) for parts in zip(*chunks(dtype, labels=labels)))
    found = data.coded(dir=str(tmp_path), dtype="float32")
    np.testing.assert_array_equal(found.train["x"], x)
    np.testing.assert_array_equal(
        found.train["y"], y.astype(np.int32 if labels else np.float32)
    )
    assert found.train["y"].dtype == (np.int32 if labels else np.float32)
    assert found.train["x"].dtype == dtype
    assert isinstance(found.train["x"], np.memmap)
    assert not found.train["x"].flags.writeable
    assert found.train["x"].ctypes.data % 64 == 0  # else a device would take a copy
    assert (found.input_scale, found.test, found.size) == (SCALE, None, 12)
    assert found.classes == (3 if labels else None)


def test_the_file_is_numpys_own_for_any_number_of_rows(tmp_path):
    for sizes in ((1,), (10**5, 10**5)):
        data.write_codes(chunks(sizes=sizes, features=1), tmp_path, scale=1.0)
        assert len(np.load(tmp_path / "x.npy")) == sum(sizes)


def test_folders_under_dir_and_absolute_ones(folder, monkeypatch):
    wanted = data.coded(dir=str(folder)).train["x"]
    monkeypatch.setenv("LPML_DATA", str(folder.parent))
    for found in (data.coded(folder="set"), data.coded(folder=str(folder))):
        np.testing.assert_array_equal(found.train["x"], wanted)


def save(name, array):
    return lambda folder: np.save(folder / name, array)


def cut(name, length):
    def truncate(folder):
        (folder / name).write_bytes((folder / name).read_bytes()[:length])

    return truncate


def lowest_code(folder):
    x = np.load(folder / "x.npy")
    x[9, 1] = -128
    np.save(folder / "x.npy", x)


def meta(text):
    return lambda folder: (folder / "meta.json").write_text(text)


WRONG = {
    "no x": (lambda folder: (folder / "x.npy").unlink(), ("x.npy does not exist",)),
    "no y": (lambda folder: (folder / "y.npy").unlink(), ("y.npy does not exist",)),
    "no meta": (lambda folder: (folder / "meta.json").unlink(), ("meta.json does not exist",)),
    "float codes": (save("x.npy", np.ones((12, 3))), ("x.npy holds float64[12, 3]", "int8")),
    "one axis": (save("x.npy", np.ones(12, np.int8)), ("x.npy holds int8[12]",)),
    "foreign order": (save("x.npy", np.ones((12, 3), ">i2")), ("x.npy holds >i2[12, 3]",)),
    "columns first": (
        save("x.npy", np.asfortranarray(np.ones((12, 3), np.int8))),
        ("x.npy holds int8[12, 3] in Fortran order",),
    ),
    "no rows": (save("x.npy", np.ones((0, 3), np.int8)), ("x.npy", "[0, 3]")),
    "cut codes": (cut("x.npy", 150), ("x.npy cannot be mapped (truncated",)),
    "cut header": (cut("x.npy", 20), ("x.npy cannot be mapped (truncated",)),
    "empty": (cut("y.npy", 0), ("y.npy cannot be mapped (truncated",)),
    "cut targets": (cut("y.npy", 140), ("y.npy cannot be mapped (truncated",)),
    "objects": (save("y.npy", np.array([{}] * 12)), ("y.npy cannot be mapped",)),
    "few targets": (save("y.npy", np.ones(11)), ("y.npy holds float64[11]", "(12,)")),
    "bad target": (save("y.npy", np.full(12, np.nan)), ("y.npy", "not finite")),
    "lowest code": (lowest_code, ("x.npy holds -128 in rows 8 to 11", "clip to -127")),
    "no JSON": (meta("{"), ('meta.json is not {"scale"',)),
    "no scale": (meta('{"classes": null}'), ('meta.json is not {"scale"',)),
    "scale 0": (meta('{"scale": 0, "classes": null}'), ('meta.json is not {"scale"',)),
    "one class": (meta('{"scale": 1, "classes": 1}'), ('meta.json is not {"scale"',)),
    "no labels": (meta('{"scale": 1, "classes": 3}'), ("y.npy holds float64", "whole")),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_folder_that_is_wrong_is_named_in_a_sentence(wrong, folder, refused, monkeypatch):
    module = importlib.import_module("lpml.data.coded")  # its function has the same name
    monkeypatch.setattr(module, "_CHUNK_BYTES", 4 * 3)  # of four rows
    data.coded(dir=str(folder))
    spoil, words = WRONG[wrong]
    spoil(folder)
    with refused(*words):
        data.coded(dir=str(folder))


def test_labels_beyond_the_classes_are_refused(tmp_path, refused):
    data.write_codes(chunks(labels=True), tmp_path, scale=1.0, classes=2)
    with refused("y.npy holds labels 0 to 2, not 0 to 1"):
        data.coded(dir=str(tmp_path))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ([], "no chunks"),
        ([(np.ones((2, 3)), np.ones(2))], "codes are float64"),
        ([(np.full((2, 3), -128, np.int8), np.ones(2))], "clip to -127"),
        ([(np.ones((2, 3), np.int8), np.ones(3))], "2 samples but y of shape"),
        ([*chunks(), (np.ones((2, 4), np.int8), np.ones(2))], r"int8 \(n, 4\) but the first"),
        ([*chunks(), (np.ones((2, 3), np.int16), np.ones(2))], "int16"),
    ],
)
def test_the_writer_refuses_what_no_set_is_and_leaves_none(made, words, tmp_path, refused):
    data.write_codes(chunks(), tmp_path, scale=1.0)
    with pytest.raises(ValueError, match=words):
        data.write_codes(made, tmp_path, scale=1.0)
    with refused("meta.json does not exist"):
        data.coded(dir=str(tmp_path))


@pytest.mark.parametrize(("bits", "dtype"), [(4, np.int8), (8, np.int8), (12, np.int16)])
def test_codes_of_a_source_give_its_grid_back(bits, dtype, tmp_path):
    source = data.synthetic_regression(samples=30, features=4, dtype="float32")
    parts, scale = data.codes_of(source, bits)
    data.write_codes(parts, tmp_path, scale=scale)
    found = data.coded(dir=str(tmp_path), dtype="float32")
    wanted = data.quantize_inputs(source, bits)
    assert found.train["x"].dtype == dtype
    product = found.train["x"].astype(np.float32) * np.float32(found.input_scale)
    np.testing.assert_array_equal(product, wanted.train["x"])
    np.testing.assert_array_equal(found.train["y"], source.train["y"])


def test_the_command_writes_a_source(tmp_path, capsys):
    assert main([str(tmp_path / "set"), "digits", "train_samples=40", "input_bits=6"]) == 0
    assert "40 samples in 6-bit codes" in capsys.readouterr().out
    found = data.coded(dir=str(tmp_path / "set"))
    assert (found.train["x"].shape, found.classes) == ((40, 64), 10)
    assert np.abs(found.train["x"]).max() == 31
    assert json.loads((tmp_path / "set" / "meta.json").read_text())["classes"] == 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "usage:"),
        (["folder", "digit"], "SOURCE is one of"),
        (["folder", "digits", "train_samples"], "write NAME=VALUE"),
        (["folder", "digits", "sample=3"], "sample"),
        (["folder", "digits", "input_bits=40"], "bits is 40"),
        (["folder", "markov_text"], "have no codes"),
    ],
)
def test_the_command_refuses_in_a_sentence(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())
