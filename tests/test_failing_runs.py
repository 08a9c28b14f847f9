"""Runs that cannot go on: exit code 1, one sentence, and what was computed is kept."""

import errno
import resource
from pathlib import Path

import pytest
from launching import TINY, assert_same_end, here, lines, newest, run, start

SGD = "--config=configs/halp_regression.py:sgd,tiny"
LONG = (TINY, "--config.train.steps=4000", "--config.train.checkpoint_every=1000")


def sentence(text):
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text.strip()


def test_a_diverging_run_names_step_metric_and_last_good_checkpoint(
    tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "run"
    arguments = (SGD, "--config.optim.learning_rate=0.1", "--config.train.steps=100000")
    assert here(monkeypatch, *arguments, f"--workdir={folder}") == 1
    said = sentence(capsys.readouterr().err)
    good = newest(folder).name
    assert said.startswith("loss is not finite at step ")
    assert f"; the last good checkpoint is step {good};" in said
    assert said.endswith("; a lower learning rate is the usual remedy")
    assert lines(folder)[-1]["step"] >= int(good)
    assert not (folder / "DONE").exists()
    assert here(monkeypatch, *arguments, f"--workdir={folder}") == 1
    assert sentence(capsys.readouterr().err.partition("\n")[2]) == said


def test_a_run_that_diverges_at_once_says_that_there_is_no_checkpoint(
    tmp_path, monkeypatch, capsys
):
    arguments = (SGD, "--config.optim.learning_rate=1e6", f"--workdir={tmp_path / 'run'}")
    assert here(monkeypatch, *arguments) == 1
    assert "there is no good checkpoint" in sentence(capsys.readouterr().err)


def test_data_that_overflow_stop_the_run_at_step_0(tmp_path, monkeypatch, capsys):
    arguments = (TINY, "--config.data.noise=1e300", f"--workdir={tmp_path / 'run'}")
    assert here(monkeypatch, *arguments) == 1
    assert "is not finite at step 0" in sentence(capsys.readouterr().err)


def test_a_folder_that_cannot_be_made(monkeypatch, capsys):
    assert here(monkeypatch, TINY, "--workdir=/proc/lpml/run") == 1
    said = sentence(capsys.readouterr().err)
    assert said.startswith("/proc/lpml: ")
    assert "once there is room and it may be written" in said


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_may_not_be_written(code, tmp_path, monkeypatch, capsys):
    whole = Path.open

    def refuse(path, mode="r", *args, **kwargs):
        if "r" not in mode and tmp_path in path.parents:
            raise OSError(code, "not allowed", str(path))
        return whole(path, mode, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        assert here(patch, *LONG, f"--workdir={tmp_path}") == 1
    assert "not allowed; what was saved is kept" in sentence(capsys.readouterr().err)


def test_a_full_folder_keeps_what_was_computed(tmp_path, monkeypatch):
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert here(monkeypatch, *LONG, f"--workdir={whole}") == 0
    room = (whole / "metrics.jsonl").stat().st_size // 2
    process = start(*LONG, f"--workdir={folder}")
    # no file of the process may grow beyond this: to it, a disk that is full
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, room))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "once there is room" in sentence(said)
    assert 0 < len(lines(folder)) < 21
    assert here(monkeypatch, *LONG, f"--workdir={folder}") == 0
    assert_same_end(folder, whole)


def test_debug_shows_the_traceback_too(monkeypatch, capsys):
    assert here(monkeypatch, TINY, "--config.optim.bits=1", "--debug") == 2
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said
    assert said.splitlines()[-1].endswith("bits = 1 is outside of 2 to 32")


def test_without_debug_only_the_sentence():
    done = run(TINY, "--config.optim.bits=1")
    assert done.returncode == 2
    assert done.stdout == ""
    assert sentence(done.stderr) == "config.optim (halp): bits = 1 is outside of 2 to 32"
