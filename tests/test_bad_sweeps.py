"""Every bad description of a sweep gets one clear sentence and exit code 2; nothing is made."""

import shutil

import pytest
from launching import TINY, here

SHORT = (TINY, "--config.train.steps=600", "--config.train.checkpoint_every=200")
AXIS = "--axis=optim.bits=4,8"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((TINY, "--axis=optim.bits"), ("--axis=optim.bits", "optim.bits=4,8,16")),
        ((TINY, "--axis=optim.bits=4,,8"), ("empty value",)),
        ((TINY, "--axis=optim.lr=log(0,1,3)"), ("two positive numbers",)),
        ((TINY, "--axis=seed=3:1"), ("has no values",)),
        ((TINY, "--axis=optim.bitz=4"), ("point optim.bitz=4", "mean 'bits'?")),
        ((TINY, "--axis=optim.bits=4,8.5"), ("point optim.bits=8.5", "a whole number")),
        ((TINY, "--axis=optim.bits=None,8"), ("point optim.bits=None", "None in place of 8")),
        ((TINY, "--axis=optim.bits=4,33"), ("point optim.bits=33", "2 to 32")),
        ((TINY, "--axis=optim=3"), ("point optim=3", "a dict")),
        ((TINY, "--axis=seed=1,1"), ("two points map to the folder seed=1",)),
        ((TINY, "--axis=data.noise=1,1.0"), ("the points", "are the same run")),
        ((TINY, "--axis=data.dir=a/b,a_b"), ("two points map to the folder data.dir=a_b",)),
        ((TINY, AXIS, "--axis=optim.bits=2"), ("optim.bits is an axis already",)),
        ((TINY, "--axis=optim.bits=4,8 & seed=1"), ("optim.bits 2 and seed 1 values",)),
        ((TINY, AXIS, "--config.optim.bits=6"), ("--config.optim.bits and", "both set")),
        ((TINY, AXIS, "--sweep"), ("sweep() and --axis", "config.optim.bits")),
        (
            (TINY, "--axis=variant=huge"),
            (
                "point variant=huge: the config configs/halp_regression.py refuses the variant "
                "'tiny,huge': there is no variant 'huge'; choose from tiny, default, paper",
            ),
        ),
        ((TINY, "--axis=variant=tiny"), ("'tiny,tiny': 'tiny' is given 2 times",)),
        (
            (TINY, "--axis=optim={'name': 'halp', 'bitz': 4}"),
            ("point optim={'name': 'halp', 'bitz': 4}: config.optim.bitz",),
        ),
        ((TINY, "--axis=variant=paper"), ("point variant=paper", "names both")),
        ((TINY, AXIS, "--shard=0/4"), ("--shard=0/4", "counts from 1")),
        ((TINY, AXIS, "--shard=5/4"), ("--shard=5/4", "counts from 1")),
        ((TINY, AXIS, "--shard=a/b"), ("--shard=a/b", "counts from 1")),
        ((TINY, AXIS, "--metric=los"), ("--metric=los", "mean 'loss'?", "grad_norm, ")),
        ((TINY, AXIS, "--engine=fast"), ("fast", "vectorised|serial|processes|ray")),
        ((TINY, AXIS, "--jobs=two"), ("--jobs=two must be a number",)),
        (("--experiment=halp_bits", "--gpus_per_point=x"), ("=x must be a number",)),
        ((TINY, AXIS, "--jobs=0"), ("--jobs=0", "at least 1")),
        ((TINY, AXIS, "--jobs=2", "--engine=serial"), ("--jobs", "--engine=serial")),
        ((TINY, AXIS, "--jobs=2", "--address=x:1"), ("--address", "--jobs")),
        ((TINY, "--jobs=2"), ("--jobs", "add --sweep or --axis")),
        ((TINY, "--shard=1/2"), ("--shard", "add --sweep or --axis")),
        ((TINY, "--sweep", "--size=tiny"), ("--size", "--sweep", "leave it out")),
        (("--sweep",), ("--sweep needs a config", "--config=FILE")),
        ((AXIS,), ("--axis needs a config", "--config=FILE")),
        (("--experiment=halp_bits", AXIS), ("--axis", "--experiment", "leave it out")),
        (("--experiment=halp_bits", "--chunk=0"), ("--chunk=0", "at least 1")),
    ],
)
def test_a_wrong_sweep(arguments, words, refused):
    said = refused(*arguments)
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("has no function sweep", "--axis=")),
        ("def sweep(): return []", ("has no points",)),
        ("def sweep(): raise KeyError('x')", ("sweep() of", "raises KeyError")),
        ("def sweep(): yield 3", ("gives 3", "no dict")),
    ],
)
def test_a_config_whose_sweep_is_wrong(text, words, refused, tmp_path):
    path = tmp_path / "mine.py"
    start = "from configs.halp_regression import get_config"
    path.write_text(f"{start}\n{text}\n")
    said = refused(f"--config={path}:tiny", "--sweep")
    for word in words:
        assert word in said


def contents(folder):
    files = [p for p in folder.rglob("[!.]*") if p.is_file()]
    return {path: path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "s"
    with pytest.MonkeyPatch.context() as patch:
        flags = ("--axis=optim.bits=4", f"--workdir={folder}")
        assert here(patch, *SHORT, *flags) == 0
    return folder


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*SHORT, AXIS, "--config.seed=7"), ("a sweep of another config", "seed is 1 there")),
        (SHORT, ("but no config.json", "no run folder")),
    ],
)
def test_the_folder_of_another_sweep(arguments, words, refused, sweep):
    before = contents(sweep)
    said = refused(*arguments, workdir=sweep, fresh=False)
    for word in words:
        assert word in said
    assert contents(sweep) == before


def test_a_sweep_in_the_folder_of_a_run(refused, sweep):
    run = sweep / "optim.bits=4"
    before = contents(run)
    assert "holds a single run" in refused(*SHORT, AXIS, workdir=run, fresh=False)
    assert contents(run) == before


def test_a_point_whose_folder_holds_another_run(refused, sweep, tmp_path):
    folder = shutil.copytree(sweep, tmp_path / "s")
    (folder / "optim.bits=4").rename(folder / "optim.bits=8")
    before = contents(folder)
    said = refused(*SHORT, "--axis=optim.bits=8", workdir=folder, fresh=False)
    assert "optim.bits=8 holds a run of another config (optim.bits is 4 there" in said
    assert contents(folder) == before


def test_a_file_in_place_of_the_folder_of_a_sweep(refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    said = refused(*SHORT, AXIS, workdir=tmp_path / "file", fresh=False)
    assert "is a file and no folder" in said


def test_a_sweep_in_the_folder_of_something_else(refused, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "ideas.txt").write_text("mine")
    said = refused(*SHORT, AXIS, workdir=tmp_path / "notes", fresh=False)
    assert "holds ideas.txt but no sweep.json" in said
    assert contents(tmp_path / "notes") == {tmp_path / "notes" / "ideas.txt": b"mine"}
    assert not list((tmp_path / "notes").glob(".*")), "no lock is left behind"


def test_an_experiment_in_the_folder_of_a_sweep(refused, sweep):
    before = contents(sweep)
    flags = ("--experiment=halp_logistic", "--size=tiny")
    assert "holds a sweep" in refused(*flags, workdir=sweep, fresh=False)
    assert contents(sweep) == before
