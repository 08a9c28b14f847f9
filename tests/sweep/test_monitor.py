"""The line of a sweep: counts, time left from the logs of what runs elsewhere."""

import io
import json
from pathlib import Path

import pytest

from lpml.sweep.jobs import Job, Outcome
from lpml.sweep.monitor import Monitor, last_step


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def jobs(tmp_path):
    return [Job(name, {"train": {"steps": 1000}}, str(tmp_path / name), ()) for name in "abcd"]


def log(job, *steps, torn=""):
    folder = Path(job.folder)
    folder.mkdir(exist_ok=True)
    lines = "".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in steps)
    (folder / "metrics.jsonl").write_text(lines + torn)


def test_time_left_counts_what_this_launch_trained_alone(jobs):
    clock, out = Clock(), io.StringIO()
    log(jobs[0], 0, 500)  # of an earlier launch
    running = []
    monitor = Monitor(jobs, running=lambda: running, stream=out, clock=clock)
    monitor.update()
    assert not out.getvalue(), "a minute has not passed"
    running += jobs[:2]
    log(jobs[0], 0, 500, 600)
    log(jobs[1], 0, 300)
    clock.now += 60
    monitor.update()
    # 400 steps took 60 s; of 4000 there are 400 + 700 + 2000 left
    assert out.getvalue() == "points 0/4 done  2 running  11%  7:45 left\n"
    monitor.update()
    assert out.getvalue().count("\n") == 1


def test_a_failed_point_is_named_and_its_rest_is_not_waited_for(jobs):
    clock, out = Clock(), io.StringIO()
    monitor = Monitor(jobs, running=lambda: [], stream=out, clock=clock)
    for job in jobs[:2]:
        log(job, 0, 1000)
    log(jobs[2], 0, 500)
    monitor.ended(Outcome("a", {}, None))
    monitor.ended(Outcome("b", {}, None))
    monitor.ended(Outcome("c", None, "its process was killed"))
    clock.now += 250
    monitor.update()
    assert out.getvalue().splitlines() == [
        "done    a  (1/4 done)",
        "done    b  (2/4 done)",
        "failed  c: its process was killed",
        "points 2/4 done  0 running  1 failed  71%  1:40 left",
    ]
    assert str(monitor.stopped()).startswith("stopped with 2 of 4 points done")


def test_a_terminal_shows_one_line_and_failures(jobs):
    clock, out = Clock(), Terminal()
    monitor = Monitor(jobs, running=lambda: [], stream=out, clock=clock)
    monitor.update()
    monitor.update()
    monitor.ended(Outcome("a", {}, None))
    monitor.ended(Outcome("b", None, "no"))
    monitor.done()
    line = "points 0/4 done  0 running"
    assert out.getvalue() == f"\r{line}\r{' ' * len(line)}\rfailed  b: no\n"


def test_the_last_step_is_that_of_the_last_whole_line(jobs, tmp_path):
    assert last_step(str(tmp_path / "nowhere")) == 0
    log(jobs[0], 0, 200, torn='{"step": 4')
    assert last_step(jobs[0].folder) == 200
    log(jobs[0], torn='{"step": 4')
    assert last_step(jobs[0].folder) == 0
    log(jobs[0], *range(20000))
    assert last_step(jobs[0].folder) == 19999
