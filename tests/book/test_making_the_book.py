"""What is missing is run: which, in which order, for how long, and what failures cost."""

import json
import shutil
import time

import pytest
from toys import finish, toy, verdict

from lpml.book import make
from lpml.build import ConfigError
from lpml.data import DataError
from lpml.sweep import run_vectorised
from lpml.training.endings import RunFailed, Stopped
from lpml.training.stopwatch import read_seconds


def book(modules, folder, *, minutes=1.0, engine=run_vectorised, should_stop=lambda: False):
    return make(
        modules,
        folder / "runs",
        folder / "docs",
        size="default",
        minutes=minutes,
        engine=engine,
        should_stop=should_stop,
    )


def page(folder):
    return (folder / "docs" / "REPRODUCTION.md").read_text()


def missing(folder):
    """Names in the table of what is missing."""
    _, _, text = page(folder).partition("## Missing")
    rows = [row.split("|") for row in text.partition("\n## ")[0].splitlines() if "|" in row]
    return {row[1].strip() for row in rows[2:]}


def endless(jobs, *, should_stop):
    """An engine whose runs end when they are asked to."""
    while not should_stop():
        time.sleep(0.01)
    raise Stopped(len(jobs))


def test_what_is_missing_is_run_and_what_is_finished_is_not(tmp_path):
    calls = []
    finish(tmp_path / "runs" / "old")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*")}
    modules = {name: toy(name, calls=calls) for name in ("new", "old")}
    assert book(modules, tmp_path) == 0
    assert calls == ["new"]
    assert {p: p.stat().st_mtime_ns for p in before if p.name != "runs"} == {
        p: t for p, t in before.items() if p.name != "runs"
    }
    assert "### new" in page(tmp_path)
    assert "### old" in page(tmp_path)
    assert missing(tmp_path) == set()
    assert book(modules, tmp_path) == 0
    assert calls == ["new"]


def test_what_is_kept_beside_the_pages_is_not_run_again_unless_it_is_damaged(tmp_path):
    calls = []
    modules = {"one": toy("one", calls=calls)}
    finish(tmp_path / "runs" / "one")
    assert book(modules, tmp_path) == 0
    before = page(tmp_path)
    shutil.rmtree(tmp_path / "runs")
    assert book(modules, tmp_path) == 0
    assert calls == []
    assert page(tmp_path) == before
    (tmp_path / "docs" / "results" / "one.json").write_text("{")
    assert book(modules, tmp_path) == 0
    assert calls == ["one"]


def test_the_cheapest_come_first_by_the_last_time_or_what_they_say(tmp_path):
    calls = []
    modules = {
        "dear": toy("dear", minutes=3, calls=calls),
        "cheap": toy("cheap", minutes=1, calls=calls),
        "known": toy("known", minutes=9, calls=calls),
        "begun": toy("begun", minutes=5, calls=calls),
    }
    run = tmp_path / "runs" / "begun" / "sgd"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{")  # cannot be gone on with, but says its time
    (run / "time.json").write_text(json.dumps({"seconds": 170}))
    (tmp_path / "runs" / ".times.json").write_text(json.dumps({"known": 20}))
    with pytest.raises(RunFailed, match="1 of 4 experiments failed: begun"):
        book(modules, tmp_path)
    assert calls == ["known", "cheap", "begun", "dear"]
    times = json.loads((tmp_path / "runs" / ".times.json").read_text())
    assert times.keys() == {"known", "cheap", "dear"}
    assert times["cheap"] == read_seconds(tmp_path / "runs" / "cheap" / "sgd") < 60


def test_the_time_ends_it_and_what_is_begun_is_named(tmp_path, capsys):
    finish(tmp_path / "runs" / "done")
    modules = {name: toy(name) for name in ("done", "first", "second")}
    begun = time.monotonic()
    assert book(modules, tmp_path, minutes=0.005, engine=endless) == 0
    assert 0.3 <= time.monotonic() - begun < 5
    assert missing(tmp_path) == {"first", "second"}
    assert "| first | begun" in page(tmp_path)
    assert "| second | not begun" in page(tmp_path)
    assert "missing at the size default: first, second" in capsys.readouterr().out


def test_no_minutes_run_nothing(tmp_path):
    calls = []
    finish(tmp_path / "runs" / "done")
    assert book({n: toy(n, calls=calls) for n in ("done", "new")}, tmp_path, minutes=0) == 0
    assert calls == []
    assert not (tmp_path / "runs" / "new").exists()
    assert missing(tmp_path) == {"new"}


def test_a_stop_keeps_what_is_computed_and_the_next_call_goes_on(tmp_path):
    long = {"long": toy("long", steps=400_000)}
    checkpoints = tmp_path / "runs" / "long" / "sgd" / "checkpoints"
    assert book(long, tmp_path, should_stop=checkpoints.exists) == 0
    steps = [int(path.name) for path in checkpoints.iterdir() if path.name.isdigit()]
    assert 0 < max(steps) < 400_000
    first = read_seconds(checkpoints.parent)
    assert first > 0
    assert not (tmp_path / "docs").exists()  # there is nothing to show yet
    assert book(long, tmp_path) == 0
    assert (checkpoints / "400000").is_dir()
    assert read_seconds(checkpoints.parent) > first
    assert "### long" in page(tmp_path)


def test_a_failure_costs_itself_alone(tmp_path, capsys):
    def fail(size):
        raise ZeroDivisionError("of what")

    modules = {"bad": toy("bad", minutes=0.1), "good": toy("good")}
    modules["bad"].runs = fail
    with pytest.raises(RunFailed, match=r"1 of 2 experiments failed: bad; the same command"):
        book(modules, tmp_path)
    assert "failed: bad: of what" in capsys.readouterr().out
    assert missing(tmp_path) == {"bad"}
    assert "| bad | of what |" in page(tmp_path)
    assert "### good" in page(tmp_path)


def test_without_its_data_an_experiment_is_missing_and_no_failure(tmp_path, capsys):
    def lack(size):
        raise DataError("no file train.gz")

    modules = {"files": toy("files"), "good": toy("good")}
    modules["files"].runs = lack
    assert book(modules, tmp_path) == 0
    assert "without its data: files: no file train.gz" in capsys.readouterr().out
    assert missing(tmp_path) == {"files"}


NO_TEXT = json.dumps([verdict(paper=3.1)])


@pytest.mark.parametrize("content", ["", "[", "[]", "{}", '[{"claim": "c"}]', '"x"', NO_TEXT])
def test_a_broken_folder_is_named_and_mended_by_running(content, tmp_path, capsys):
    finish(tmp_path / "runs" / "good")
    (tmp_path / "runs" / "torn").mkdir()
    (tmp_path / "runs" / "torn" / "verdict.json").write_text(content)
    modules = {"torn": toy("torn"), "good": toy("good")}
    with pytest.raises(RunFailed, match="1 of 2 experiments failed: torn"):
        book(modules, tmp_path, minutes=0)
    assert "torn/verdict.json" in capsys.readouterr().out
    assert missing(tmp_path) == {"torn"}
    assert book(modules, tmp_path) == 0
    assert missing(tmp_path) == set()


def test_a_picture_that_is_none_is_named(tmp_path):
    finish(tmp_path / "runs" / "torn")
    finish(tmp_path / "runs" / "good")
    (tmp_path / "runs" / "torn" / "figure.png").write_bytes(b"\x89PNG")
    with pytest.raises(RunFailed, match="torn"):
        book({"torn": toy("torn"), "good": toy("good")}, tmp_path)
    assert missing(tmp_path) == {"torn"}


def test_a_missing_figure_is_named_and_drawn_again(tmp_path, capsys):
    finish(tmp_path / "runs" / "bare", pictures=("more",))
    finish(tmp_path / "runs" / "good")
    modules = {"bare": toy("bare"), "good": toy("good")}
    with pytest.raises(RunFailed, match="--minutes=30 runs them again"):
        book(modules, tmp_path, minutes=0)
    assert "bare/figure.png is missing" in capsys.readouterr().out
    assert book(modules, tmp_path) == 0
    assert missing(tmp_path) == set()


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with pytest.raises(RunFailed, match="mine"):
        book({"mine": toy("mine")}, tmp_path)
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_what_cannot_be_asked_for(tmp_path):
    with pytest.raises(ConfigError, match="no finished experiment"):
        book({"toy": toy()}, tmp_path, minutes=0)
    assert not (tmp_path / "docs").exists()


def test_what_reproduces_no_paper_has_a_chapter_as_well(tmp_path):
    module = toy()
    del module.PAPER, module.MINUTES
    assert book({"toy": module}, tmp_path) == 0
    assert "## Other experiments\n\n### toy\n" in page(tmp_path)
    html = (tmp_path / "docs" / "reproduction.html").read_text()
    assert "<h2>Other experiments</h2>" in html
    assert 'class="reference"' not in html
