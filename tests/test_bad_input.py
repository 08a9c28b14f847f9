"""Every bad input gets one clear sentence and exit code 2, and costs nothing that was there."""

import os
import pickle
import shutil
import struct

import pytest
from launching import TINY, here

CONFIGS = "--config=configs/halp_regression.py"
SHORT = (TINY, "--config.train.steps=600", "--config.train.checkpoint_every=200")
MNIST = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
MNIST += ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
OPTIMIZERS = "choose from adagrad, adam, halp, lm_halp, loss_aware, lp_sgd, "


def tree(**settings):
    return repr(settings)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--config.trian.steps=3",),
            ("config.trian.steps", "mean 'train'?", "data, mesh, model"),
        ),
        (("--config.optim.bitz=3",), ("config.optim.bitz", "mean 'bits'?", "config.optim has")),
        (("--config.optim.bits.more=3",), ("config.optim.bits.more", "no fields")),
        (("--config.data[0]=3",), ("config.data[0]",)),
        (("--config.optim.bits=abc",), ("config.optim.bits = abc", "a whole number")),
        (("--config.train.steps=1.5",), ("config.train.steps = 1.5", "a whole number")),
        (("--config.optim.learning_rate=x",), ("learning_rate = x", "a number")),
        (("--config.optim=3",), ("config.optim = 3", "a dict")),
        (("bits=3",), ("'bits=3'", "--config.field=value")),
        (("--bits=3",), ("'bits'", "--help")),
        (("--dry_rum",), ("'dry_rum'", "Did you mean: dry_run")),
        (("--size=tiny",), ("--size", "--config", "leave it out")),
        (("--list",), ("--list and --config",)),
        (("--experiment=halp_regression",), ("--experiment and --config",)),
        ((TINY,), ("--config is given 2 times",)),
        (("--config.optim.name=hapl",), ("'hapl'", "mean 'halp'?", OPTIMIZERS)),
        (("--config.optim.name=sgd",), ("config.optim.bits", "--config.optim={'name': 'sgd'")),
        (("--config.model.name=conv",), ("'conv'", "cifarnet, lenet5, linear_regression")),
        (("--config.data.name=mnits",), ("'mnits'", "mean 'mnist'?", "cifar10, coded, digits")),
        (("--config.data.name=quantize_inputs",), ("config.data.name", "does not exist")),
        (("--config.precision=float16",), ("config.precision", "float32, float64")),
        (("--config.seed=-1",), ("config.seed = -1", "0 to 4294967295")),
        (("--config.optim.bits=1",), ("config.optim", "bits = 1", "2 to 32")),
        (("--config.optim.bits=33",), ("config.optim", "bits = 33", "2 to 32")),
        (("--config.optim.bits=-1",), ("config.optim", "bits = -1", "2 to 32")),
        (("--config.optim.mu=0",), ("config.optim", "mu = 0", "positive")),
        (("--config.optim.mu=abc",), ("config.optim.mu = 'abc'", "a number or 'auto'")),
        (("--config.optim.mu=[1]",), ("config.optim.mu = [1]", "a number or 'auto'")),
        (("--config.optim.learning_rate=nan",), ("learning_rate = nan", "finite")),
        (("--config.optim.inner_steps=0",), ("inner_steps = 0", "at least 1")),
        (("--config.train.batch_size=0",), ("batch_size = 0", "1 to 100")),
        (("--config.train.batch_size=101",), ("batch_size = 101", "1 to 100")),
        (("--config.train.steps=0",), ("config.train: steps = 0", "at least 1")),
        (("--config.train.sampling=any",), ("'any'", "replacement, shuffle, sequential")),
        (
            (f"--config.optim={tree(name='svrg', learning_rate='x', inner_steps=2)}",),
            ("config.optim.learning_rate = 'x'", "a number"),
        ),
        ((f"--config.optim={tree(name='svrg', learning_rate=1)}",), ("svrg", "inner_steps")),
        ((f"--config.model={tree(name='mlp')}",), ("'mlp'", "regression", "choose")),
    ],
)
def test_a_wrong_setting(arguments, words, refused):
    said = refused(TINY, *arguments)
    for word in words:
        assert word in said


@pytest.mark.parametrize("bits", [1, 33])
def test_bits_out_of_range_of_an_lp_method(bits, refused):
    said = refused(f"{CONFIGS}:lp_sgd,tiny", f"--config.optim.bits={bits}")
    assert f"config.optim (lp_sgd): bits = {bits} is outside of 2 to 32" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--config=configs/halp_regresion.py",), ("regresion", "mean 'halp_regression.py'?")),
        (("--config=configs",), ("configs is a folder",)),
        (("--config=",), ("names no file",)),
        ((f"{CONFIGS}:huge",), ("variant 'huge'", "tiny, default, paper, halp")),
        (("--config.seed=1",), ("--config.seed=1", "--config=FILE")),
        (
            ("--experiment=halp_regresion",),
            ("mean 'halp_regression'?", "choose from exsdotp_accuracy, halp_bits"),
        ),
        (("--experiment=halp_bits", "--dry_run"), ("--dry_run", "--experiment")),
        (("--experiment=halp_bits", "--size=huge"), ("huge", "tiny|default|paper")),
        (
            ("--book", "--minutes=0", "--docs=nowhere"),
            ("no finished experiment", "--experiment=NAME"),
        ),
        (("--book", "--minutes=-1"), ("--minutes=-1", "0 or more")),
        (("--book", "--minutes=nan"), ("--minutes=nan", "0 or more")),
        (("--book", "--size=tiny"), ("tiny", "--docs=FOLDER")),
        (("--book", "--docs="), ("--docs names no folder",)),
        (("--book", "--docs=launch.py/x"), ("launch.py is a file", "another --docs")),
        (("--experiment=halp_bits", "--minutes=1"), ("--minutes", "--experiment")),
    ],
)
def test_a_wrong_choice(arguments, words, refused):
    said = refused(*arguments)
    for word in words:
        assert word in said


def test_a_workdir_without_a_name(refused):
    assert "--workdir names no folder" in refused(TINY, "--workdir=", workdir=None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "def get_config():\n    raise ValueError('one\\ntwo')",
            ("raises ValueError: one two",),
        ),
        ("import sys\nsys.exit(3)", ("raises SystemExit",)),
        ("x = 1", ("no function get_config",)),
        ("def get_config(:", ("SyntaxError", "line 1")),
        ("def get_config(): return 1", ("no ConfigDict",)),
        (
            "from ml_collections import ConfigDict\n"
            "def get_config(): return ConfigDict(dict(a=1))",
            ("config.a is not read", "data, model, optim"),
        ),
    ],
)
def test_a_broken_config_file(text, words, refused, tmp_path):
    (tmp_path / "broken.py").write_text(text)
    said = refused(f"--config={tmp_path / 'broken.py'}")
    for word in words:
        assert word in said


def logistic(name, folder, **settings):
    settings = {"name": name, "dir": str(folder), **settings}
    return ("--config=configs/halp_logistic.py:tiny", f"--config.data={tree(**settings)}")


def test_missing_data_files_are_listed_with_their_place(refused, tmp_path):
    for arguments in (logistic("mnist", tmp_path), logistic("mnist", "")):
        said = refused(*arguments)
        for word in (*MNIST, "mnist/", "LPML_DATA", "--config.data.dir"):
            assert word in said


def images(count):
    return b"\0\0\x08\x03" + struct.pack(">III", count, 28, 28) + bytes(784 * count)


@pytest.mark.parametrize(
    ("content", "settings", "words"),
    [
        (images(3), {}, ("not the published file", "fetch it again")),
        (images(3)[:-9], {"verify": False}, ("bytes", "fetch it again")),
        (images(3)[:6], {"verify": False}, ("truncated", "fetch it again")),
        (b"\x1f\x8b\x08\0garbage", {"verify": False}, ("does not decompress",)),
        (b"<html>", {"verify": False}, ("not an IDX file",)),
        (b"", {"verify": False}, ("not an IDX file",)),
    ],
)
def test_a_damaged_data_file(content, settings, words, refused, tmp_path):
    for name in MNIST:
        (tmp_path / name).write_bytes(content)
    said = refused(*logistic("mnist", tmp_path, **settings))
    for word in (str(tmp_path / MNIST[0]), *words):
        assert word in said


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_read_without_running_what_it_says(refused, tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    content = pickle.dumps({"data": Evil(tmp_path / "was_run"), "labels": []})
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(content)
    said = refused(*logistic("cifar10", tmp_path, verify=False))
    assert "forbidden global 'posix.mkdir'" in said
    assert not (tmp_path / "was_run").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        assert here(patch, *SHORT, f"--workdir={folder}") == 0
    return folder


@pytest.fixture
def held(finished, tmp_path):
    """A copy of a run folder."""
    return shutil.copytree(finished, tmp_path / "held")


def contents(folder):
    files = [p for p in folder.rglob("[!.]*") if p.is_file()]
    return {path: path.read_bytes() for path in files}


LINEAR = f"--config.model={tree(name='linear_regression', l2=1.0)}"


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--config.optim.bits=6", "optim.bits is 8 there and 6 here"),
        (LINEAR, "model.l2 is 0.0 there and 1.0 here"),
    ],
)
def test_a_folder_of_another_run(argument, words, refused, held):
    before = contents(held)
    said = refused(*SHORT, argument, workdir=held, fresh=False)
    assert f"{held} holds a run of another config ({words})" in said
    assert "give another --workdir" in said
    assert contents(held) == before


@pytest.mark.parametrize("name", ["config.json", "DONE"])
@pytest.mark.parametrize("text", ["", '{"seed": 1', "[1]"])
def test_a_damaged_file_of_a_run(name, text, refused, held):
    (held / name).write_text(text)
    before = contents(held)
    said = refused(*SHORT, workdir=held, fresh=False)
    assert f"holds a {name} that is no JSON object" in said
    assert contents(held) == before


def test_a_damaged_log(refused, held):
    (held / "DONE").unlink()
    log = held / "metrics.jsonl"
    log.write_text("garbage\n" + log.read_text())
    said = refused(*SHORT, workdir=held, fresh=False)
    assert f"{log}, line 1" in said
    assert log.read_text().startswith("garbage\n{")


def test_a_folder_that_is_no_run(refused, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "ideas.txt").write_text("mine")
    said = refused(*SHORT, workdir=tmp_path / "notes", fresh=False)
    assert "holds ideas.txt but no config.json" in said
    assert contents(tmp_path / "notes") == {tmp_path / "notes" / "ideas.txt": b"mine"}


def test_an_experiment_in_the_folder_of_a_run(refused, held):
    before = contents(held)
    flags = ("--experiment=halp_logistic", "--size=tiny")
    assert "holds a single run" in refused(*flags, workdir=held, fresh=False)
    assert contents(held) == before


@pytest.mark.parametrize("below", ["", "sub/run"])
def test_a_file_in_place_of_the_folder(below, refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    said = refused(*SHORT, workdir=tmp_path / "file" / below, fresh=False)
    assert f"{tmp_path / 'file'} is a file and no folder" in said
    assert (tmp_path / "file").read_text() == "mine"


def test_checkpoints_of_another_model(refused, held, tmp_path, monkeypatch):
    other = tmp_path / "other"
    wide = "--config.data.features=20"
    assert here(monkeypatch, *SHORT, wide, f"--workdir={other}") == 0
    shutil.rmtree(held / "checkpoints")
    shutil.copytree(other / "checkpoints", held / "checkpoints")
    (held / "DONE").unlink()
    before = contents(held)
    said = refused(*SHORT, workdir=held, fresh=False)
    assert "checkpoints/600 holds float64[20,1]" in said
    assert "float64[10,1] in this run" in said
    assert contents(held) == before
