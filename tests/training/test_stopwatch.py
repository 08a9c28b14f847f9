"""How long a run has computed: over sessions, shared, and unknown for old folders."""

import json
import time
from pathlib import Path

import pytest

from lpml.runs import Point
from lpml.sweep import run_points
from lpml.training.stopwatch import NAME, Stopwatch, read_seconds

CONFIG = str(Path(__file__).parents[2] / "configs" / "halp_regression.py")


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_sessions_add_up_and_lost_work_is_not_counted(tmp_path):
    clock = Clock()
    first = Stopwatch(tmp_path, resumed=False, clock=clock)
    clock.now += 5
    first.write()  # with a checkpoint
    clock.now += 3  # and then killed
    second = Stopwatch(tmp_path, resumed=True, clock=clock)
    clock.now += 2
    second.write()
    assert read_seconds(tmp_path) == 7
    Stopwatch(tmp_path, resumed=False, clock=clock).write()
    assert read_seconds(tmp_path) == 0


def test_runs_side_by_side_share_the_time(tmp_path):
    clock = Clock()
    folders = [tmp_path / name for name in "abcd"]
    watches = []
    for folder in folders:
        folder.mkdir()
        watches.append(Stopwatch(folder, resumed=False, sharing=4, clock=clock))
    clock.now += 50  # others of the chunk run first
    for watch in watches[:2]:
        watch.restart(sharing=2)
    clock.now += 6
    for watch in watches[:2]:
        watch.write()
    assert sum(read_seconds(folder) for folder in folders[:2]) == 6


def test_a_run_begun_before_times_were_written_stays_unknown(tmp_path):
    watch = Stopwatch(tmp_path, resumed=True)
    watch.write()
    assert read_seconds(tmp_path) is None
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"seconds": null}'])
def test_a_torn_file_is_no_time(content, tmp_path):
    (tmp_path / NAME).write_text(content)
    assert read_seconds(tmp_path) is None


def test_the_times_of_a_vectorised_sweep_sum_to_what_passed(tmp_path):
    points = [
        Point(f"seed{seed}", f"{CONFIG}:sgd,tiny", {"seed": seed, "train.steps": 20_000})
        for seed in (1, 2, 3)
    ]
    begun = time.monotonic()
    run_points(points, str(tmp_path))
    passed = time.monotonic() - begun
    seconds = [read_seconds(tmp_path / point.name) for point in points]
    record = json.loads((tmp_path / "seed1" / "environment.json").read_text())
    assert record["side_by_side"] == 3
    assert max(seconds) - min(seconds) < 0.2 * passed  # each a third
    assert 0.1 * passed < sum(seconds) <= passed  # and not three times as much
