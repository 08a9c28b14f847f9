"""Runs that are killed or stopped end, launched again, as if nothing had happened."""

import functools
import json
import os
import random
import shutil
import signal
import time

import pytest
from launching import (
    TINY,
    assert_same_end,
    here,
    lines,
    newest,
    run,
    start,
    wait_for,
)

# About two seconds of training in 40 stretches, each ended by a checkpoint.
LONG = (TINY, "--config.train.steps=40000", "--config.train.checkpoint_every=1000")
EXPERIMENT = ("--experiment=halp_logistic", "--size=tiny")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    with pytest.MonkeyPatch.context() as patch:
        assert here(patch, *LONG, f"--workdir={folder}") == 0
    return folder


def checkpoints(folder):
    return [path.name for path in (folder / "checkpoints").glob("*") if path.name.isdigit()]


def amid_training(folder, draw):
    log, pause = folder / "metrics.jsonl", draw.uniform(0, 1.5)
    before = log.stat().st_ino if log.exists() else None
    begun = []

    def condition():
        # a resumed run puts a new file in the place of the old one
        if not begun and log.exists() and log.stat().st_ino != before:
            begun.append(time.monotonic())
        return begun and time.monotonic() > begun[0] + pause

    return condition


def after_a_checkpoint(folder, draw):
    first, number = set(checkpoints(folder)), draw.randrange(1, 8)
    seen = set()

    def condition():
        seen.update(checkpoints(folder))
        return len(seen - first) >= number

    return condition


def amid_a_checkpoint(folder, draw):
    start_after = draw.randrange(3)
    seen = set()

    def condition():
        seen.update(checkpoints(folder))
        return len(seen) >= start_after and (folder / "checkpoints" / ".writing").exists()

    return condition


def kill(folder, moment, draw):
    """Launches the run and kills it at the moment; says whether it was still running."""
    process = start(*LONG, f"--workdir={folder}")
    try:
        wait_for(moment(folder, draw), process)
        process.kill()
    except AssertionError:
        assert process.poll() == 0, "it may have ended before the moment came"
        return False
    finally:
        process.kill()
        process.communicate()
    return process.returncode == -signal.SIGKILL


def test_a_killed_run_ends_as_one_that_was_not(unbroken, tmp_path, monkeypatch, caplog):
    folder = tmp_path / "run"
    assert kill(folder, amid_a_checkpoint, random.Random(0))
    assert not (folder / "DONE").exists()
    assert here(monkeypatch, *LONG, f"--workdir={folder}") == 0
    assert "resumes at step" in caplog.text
    assert_same_end(folder, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("moment", [amid_training, after_a_checkpoint, amid_a_checkpoint])
@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(
    moment, seed, unbroken, tmp_path
):
    folder, draw = tmp_path / "run", random.Random(seed)
    killed = [kill(folder, moment, draw) for _ in range(3)]
    assert any(killed)
    done = run(*LONG, f"--workdir={folder}")
    assert done.returncode == 0, done.stderr
    assert_same_end(folder, unbroken)


def stop(folder, number, capsys, monkeypatch):
    """Launches a run, finds its folder locked, sends the signal; gives what the run said."""
    process = start(*LONG, f"--workdir={folder}")
    try:
        wait_for(functools.partial(checkpoints, folder), process)
        assert here(monkeypatch, *LONG, f"--workdir={folder}") == 2
        refusal = capsys.readouterr().err
        assert process.poll() is None, "too fast to be stopped"
        process.send_signal(number)
        sent = time.monotonic()
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert time.monotonic() - sent < 5
    assert process.returncode == 0
    assert f"in use by process {process.pid}" in refusal
    return said


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_stops_a_run_that_no_other_may_touch(
    number, unbroken, tmp_path, monkeypatch, capsys, caplog
):
    folder = tmp_path / "run"
    said = stop(folder, number, capsys, monkeypatch)
    (step,) = [word.strip(";") for word in said.split() if word.strip(";").isdigit()]
    assert said == f"stopped at step {step}; the same command resumes there\n"
    assert newest(folder).name == step
    assert 0 < int(step) < 40000
    assert lines(folder)[-1]["step"] <= int(step)
    assert here(monkeypatch, *LONG, f"--workdir={folder}") == 0
    assert f"resumes at step {step} of 40000" in caplog.text
    assert_same_end(folder, unbroken)


@pytest.mark.slow
def test_a_signal_while_the_first_step_compiles_is_not_lost(unbroken, tmp_path):
    folder = tmp_path / "run"
    process = start(*LONG, f"--workdir={folder}")
    wait_for((folder / "config.json").exists, process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "stopped at step" in said
    assert run(*LONG, f"--workdir={folder}").returncode == 0
    assert_same_end(folder, unbroken)


def copied(unbroken, tmp_path):
    """A copy of the run in which the mark of its end is missing."""
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder)
    (folder / "DONE").unlink()
    return folder


def largest_file(checkpoint):
    return max(
        (p for p in checkpoint.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )


@pytest.mark.parametrize("length", [0, 20])
def test_a_torn_checkpoint_is_passed_over(length, unbroken, tmp_path, monkeypatch, caplog):
    folder = copied(unbroken, tmp_path)
    os.truncate(largest_file(newest(folder)), length)
    assert here(monkeypatch, *LONG, f"--workdir={folder}") == 0
    assert "skipping unreadable checkpoint" in caplog.text
    assert "resumes at step 39000 of 40000" in caplog.text
    assert_same_end(folder, unbroken)


def test_without_a_readable_checkpoint_it_starts_again(unbroken, tmp_path, monkeypatch, caplog):
    folder = copied(unbroken, tmp_path)
    for path in (folder / "checkpoints").iterdir():
        os.truncate(largest_file(path), 20)
    assert here(monkeypatch, *LONG, f"--workdir={folder}") == 0
    assert caplog.text.count("skipping unreadable checkpoint") == 2
    assert "resumes" not in caplog.text
    assert_same_end(folder, unbroken)


def test_a_run_killed_before_its_mark_only_gets_the_mark(unbroken, tmp_path, monkeypatch):
    folder = copied(unbroken, tmp_path)
    assert here(monkeypatch, *LONG, f"--workdir={folder}") == 0
    assert_same_end(folder, unbroken)


def test_a_torn_line_of_the_log_is_written_anew(unbroken, tmp_path, monkeypatch):
    folder = copied(unbroken, tmp_path)
    os.truncate(largest_file(newest(folder)), 20)
    log = folder / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[:-30])
    assert here(monkeypatch, *LONG, f"--workdir={folder}") == 0
    assert_same_end(folder, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_experiment_goes_on_where_it_was_stopped(number, tmp_path, monkeypatch, capsys):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert here(monkeypatch, *EXPERIMENT, f"--workdir={whole}") == 0
    process = start(*EXPERIMENT, f"--workdir={broken}")
    wait_for(lambda: len(list(broken.glob("*/DONE"))) >= 4, process)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == (0 if number == signal.SIGTERM else -number)
    before = {path: path.stat().st_mtime_ns for path in broken.glob("*/DONE")}
    assert 4 <= len(before) < len(list(whole.glob("*/DONE")))
    assert not (broken / "verdict.json").exists()
    capsys.readouterr()
    assert here(monkeypatch, *EXPERIMENT, f"--workdir={broken}") == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for path in whole.glob("*/DONE"):
        assert_same_end(broken / path.parent.name, path.parent)
    verdicts = [json.loads((folder / "verdict.json").read_text()) for folder in (whole, broken)]
    assert verdicts[0] == verdicts[1]
    assert (whole / "figure.png").read_bytes() == (broken / "figure.png").read_bytes()
