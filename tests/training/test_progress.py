import io
import os

import pytest

from lpml.training import progress
from lpml.training.progress import Progress, format_seconds


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(stream, *, seconds, rate, total=10**6, compile_s=0.0, **options):
    """Steps at `rate` a second, one update each, the first one late by compile_s."""
    clock = Clock()
    bar = Progress(total, stream=stream, clock=clock, **options)
    start = options.get("start", 0)
    clock.now += compile_s
    for step in range(1, int(seconds * rate) + 1):
        clock.now += 1 / rate
        bar.update(start + step, "loss 0.9481")
    return bar


def test_the_line_on_a_terminal():
    stream = Terminal()
    clock = Clock()
    bar = Progress(100000, stream=stream, clock=clock)
    for step, now in [(3876, 0.0), (12000, 1.0)]:
        clock.now = 100 + now
        bar.update(step, "loss 0.9481")
    line = stream.getvalue().split("\r")[-1].rstrip()
    assert line == "step 12000/100000  12%  8124 steps/s  0:11 left  loss 0.9481"


def test_compiling_does_not_spoil_the_rate():
    stream = Terminal()
    run(stream, seconds=3, rate=50, total=1150, compile_s=60)
    assert "50 steps/s  0:20 left" in stream.getvalue().split("\r")[-1]


def test_the_rate_follows_a_change_of_speed():
    clock, stream = Clock(), Terminal()
    bar = Progress(10**6, stream=stream, clock=clock)
    for step in range(1, 5001):
        clock.now += 0.01 if step <= 4000 else 0.04
        bar.update(step)
    assert "25 steps/s" in stream.getvalue().split("\r")[-1]


def test_a_terminal_is_redrawn_ten_times_a_second_at_most():
    stream = Terminal()
    bar = run(stream, seconds=2, rate=2000)
    assert 15 <= stream.getvalue().count("step ") <= 21
    assert "\n" not in stream.getvalue()
    assert len(bar._window) <= 110, "the window must not grow with the speed"


def test_a_line_is_clipped_and_its_rest_wiped(monkeypatch):
    monkeypatch.setattr(
        progress.shutil, "get_terminal_size", lambda: os.terminal_size((30, 24))
    )
    stream, clock = Terminal(), Clock()
    bar = Progress(100, stream=stream, clock=clock)
    bar.update(1, "x" * 100)
    clock.now += 1
    bar.update(2)
    first, second = stream.getvalue().split("\r")[1:]
    assert len(first) == 29
    assert len(second) == 29
    assert second.rstrip() == "step 2/100  2%  1 steps/s  1:"
    bar.done()
    assert stream.getvalue().split("\r")[-2:] == [" " * 29, ""]


def test_a_log_gets_one_line_a_minute_and_none_from_a_short_run():
    short, long = io.StringIO(), io.StringIO()
    run(short, seconds=59, rate=2).done()
    run(long, seconds=185, rate=2, label="seed=1").done()
    assert short.getvalue() == ""
    lines = long.getvalue().splitlines()
    assert len(lines) == 3
    assert all(line.startswith("seed=1 step ") and "\r" not in line for line in lines)


def test_a_resumed_run_counts_its_own_steps_only():
    stream = Terminal()
    run(stream, seconds=5, rate=10, total=1000, start=900)
    assert "step 947/1000  94%  10 steps/s  0:05 left" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (59.6, "1:00"),
        (61, "1:01"),
        (3599.4, "59:59"),
        (3600, "1:00:00"),
        (90061, "25:01:01"),
    ],
)
def test_durations(seconds, text):
    assert format_seconds(seconds) == text


def test_zero_steps_are_done_at_once():
    stream = Terminal()
    Progress(0, stream=stream).update(0)
    assert "step 0/0  100%" in stream.getvalue()
