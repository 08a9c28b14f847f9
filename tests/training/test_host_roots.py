"""Runs whose roots come from the host: the same again, and the same after any stop."""

import json

import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from lpml.sweep.grouping import group_jobs
from lpml.sweep.jobs import Job
from lpml.training import beside
from lpml.training.checkpoint import CheckpointMismatch
from lpml.training.loop import RunFailed, Stopped
from lpml.training.run import train
from tests.launching import newest

STEPS, EVERY = 24, 6
TIMES = ("steps_per_second", "roots_wait_seconds", "roots_late")


def config(**optim):
    shampoo = dict(name="shampoo", learning_rate=0.01, block_size=16, refresh="host")
    shampoo |= dict(refresh_every=EVERY, delay=4, first_delay=2) | optim
    return dict(
        seed=3,
        precision="float32",
        data=dict(name="digits", train_samples=40),
        model=dict(name="mlp", hidden=[6]),
        optim=shampoo,
        train=dict(
            steps=STEPS, batch_size=8, log_every=8, checkpoint_every=5, objective="batch"
        ),
    )


def state(folder):
    saved = ocp.load(newest(folder))
    return {name: np.asarray(saved[name]) for name in saved}


def lines(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def assert_same_end(folder, wanted):
    one, two = state(folder), state(wanted)
    assert set(one) == set(two)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)
    assert lines(folder) == lines(wanted)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(config(), str(folder))
    return folder


def test_the_log_tells_of_the_roots(whole):
    end = json.loads((whole / "metrics.jsonl").read_text().splitlines()[-1])
    # the snapshot after step 18 is in use since step 22; that of 24 would follow the end
    assert end["roots_age"] == 24 - 18
    assert end["roots_share"] == 1
    for name in ("roots_refused", "roots_jobs_failed", "roots_workers_replaced"):
        assert end[name] == 0
    assert end["roots_wait_seconds"] >= 0


def test_stopped_in_every_phase_of_a_refresh_it_ends_the_same(whole, tmp_path, monkeypatch):
    # in flight since 6, about to be put in, nothing in flight, a snapshot about to be taken
    monkeypatch.setattr("lpml.training.loop.SECONDS_PER_CALL", 0)  # calls of one step
    for cut in (8, 10, 11, 12):
        folder, asked = tmp_path / str(cut), []

        def stop(asked=asked, cut=cut):
            asked.append(None)
            return len(asked) == cut

        with pytest.raises(Stopped):
            train(config(), str(folder), should_stop=stop)
        train(config(), str(folder))
        assert_same_end(folder, whole)


def test_a_checkpoint_of_other_blocks_is_refused(whole):
    # the folder's config is held against the new one first; only a patched one comes so far
    settings = json.loads((whole / "config.json").read_text())
    settings["optim"]["block_size"] = 8
    settings["train"]["steps"] = STEPS + 1
    (whole / "config.json").write_text(json.dumps(settings))
    done = (whole / "DONE").read_text()
    (whole / "DONE").unlink()
    try:
        with pytest.raises(CheckpointMismatch, match=r"has no leaf .*size2_p4"):
            train(settings, str(whole))
    finally:
        (whole / "config.json").write_text(json.dumps(config()))
        (whole / "DONE").write_text(done)


def test_roots_that_must_not_fail_end_the_run_with_a_sentence(tmp_path, monkeypatch):
    def never(opt_state, step):
        raise beside.RootsFailed("4 matrices of stack size6_p4 have no root at step 12")

    class Failing(beside.RootRefresher):
        def after_step(self, step, opt_state):
            return super().after_step(step, opt_state) if step < 12 else never(opt_state, step)

    monkeypatch.setattr(beside, "RootRefresher", Failing)
    with pytest.raises(RunFailed, match="size6_p4 have no root at step 12"):
        train(config(), str(tmp_path / "run"))
    assert [row["step"] for row in lines(tmp_path / "run")] == [0, 8]


def test_points_of_a_sweep_run_one_by_one(tmp_path):
    jobs = [
        Job(str(seed), config() | {"seed": seed}, str(tmp_path / str(seed)), ())
        for seed in (1, 2)
    ]
    (group,) = group_jobs(jobs)
    assert "the host renews the roots" in group.alone
