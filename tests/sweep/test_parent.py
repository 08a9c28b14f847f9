"""The folder of a sweep: whose it is, and what it remembers of failures."""

import json
import threading

import pytest

from lpml.sweep import parent
from lpml.sweep.jobs import Outcome
from lpml.training.run_folder import FolderConflict, RunFolder

BASE = {"seed": 1, "data": {"name": "digits", "dir": None}, "optim": {"name": "sgd"}}


def refusal(folder, base=BASE):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(FolderConflict) as caught:
        parent.claim(str(folder), "c.py", base)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert "give another --workdir" in str(caught.value)
    return str(caught.value)


def test_a_fresh_folder_takes_the_base_config(tmp_path):
    for _ in range(2):
        parent.claim(str(tmp_path / "a" / "b"), "c.py:tiny", BASE)
    held = json.loads((tmp_path / "a" / "b" / "sweep.json").read_text())
    assert held == {"path": "c.py:tiny", "config": BASE}


def test_where_the_data_lie_does_not_matter(tmp_path):
    parent.claim(str(tmp_path), "c.py", BASE)
    parent.claim(str(tmp_path), "c.py", {**BASE, "data": {"name": "digits", "dir": "/x"}})


def test_another_config_is_refused_with_the_difference(tmp_path):
    parent.claim(str(tmp_path), "c.py", BASE)
    said = refusal(tmp_path, {**BASE, "optim": {"name": "halp", "bits": 4}})
    assert "holds a sweep of another config" in said
    assert 'optim.name is "sgd" there and "halp" here' in said
    assert "optim.bits is absent there and 4 here" in said
    assert "1.0 here" in refusal(tmp_path, {**BASE, "seed": 1.0})


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("config.json", "holds a single run"),
        ("notes.txt", "holds notes.txt but no sweep.json"),
        ("sweep.json", "holds a sweep.json that is no JSON object"),
    ],
)
def test_a_folder_of_something_else_is_refused(file, words, tmp_path):
    (tmp_path / file).write_text("mine")
    assert words in refusal(tmp_path)
    (tmp_path / "sweep.json").write_text("{}")
    if file == "sweep.json":
        assert "without a config" in refusal(tmp_path)


def test_failures_are_remembered_until_they_are_mended(tmp_path):
    folder = str(tmp_path)
    assert parent.failures(folder) == {}
    parent.note(folder, [Outcome("a", {}, None)])
    assert not list(tmp_path.iterdir()), "nothing to remember"
    parent.note(folder, [Outcome("a", None, "bad"), Outcome("b", None, "worse")])
    parent.note(folder, [Outcome("a", {"loss": 1}, None), Outcome("c", None, "new")])
    assert parent.failures(folder) == {"b": "worse", "c": "new"}


def test_only_one_at_a_time_is_inside_the_lock(tmp_path):
    inside, most = [], []

    def enter():
        for _ in range(50):
            with parent.locked(str(tmp_path)):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 200
    assert set(most) == {1}


def test_a_run_that_is_refused_leaves_the_lock_in_place(tmp_path):
    parent.claim(str(tmp_path), "c.py", BASE)
    before = {path.name for path in tmp_path.iterdir()}
    with RunFolder(tmp_path) as folder, pytest.raises(FolderConflict):
        folder.claim(BASE)
    assert {path.name for path in tmp_path.iterdir()} == before
