"""Run folders read back, and verdicts from one outcome per seed."""

import json

import numpy as np
import pytest

from lpml.runs import Point, judge, judge_mean, read_run

LINES = [
    {"step": 0, "loss": 4.0},
    {"step": 10, "loss": 2.0, "accuracy": 0.5},
    {"step": 20, "loss": None},
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"seed": 1, "optim": {"name": "sgd"}}))
    text = "".join(json.dumps(line) + "\n" for line in LINES)
    (tmp_path / "metrics.jsonl").write_text(text)
    return tmp_path


def test_a_finished_run_has_config_lines_and_final_metrics(folder):
    (folder / "DONE").write_text(json.dumps({"loss": 1.0}))
    run = read_run(str(folder))
    assert run.path == str(folder)
    assert run.config == {"seed": 1, "optim": {"name": "sgd"}}
    assert run.metrics == LINES
    assert run.final == {"loss": 1.0}


def test_an_unfinished_run_has_no_final_metrics(folder):
    assert read_run(str(folder)).final is None


@pytest.mark.parametrize("torn", ["{", '{"step": 30, "loss": 1', "\x00\x00"])
def test_a_torn_last_line_is_passed_over(folder, torn):
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(torn)
    assert read_run(str(folder)).metrics == LINES


def test_garbage_amid_the_lines_is_an_error_that_names_the_line(folder):
    path = folder / "metrics.jsonl"
    path.write_text("garbage\n" + path.read_text())
    with pytest.raises(ValueError, match="line 1"):
        read_run(str(folder))


def test_a_run_without_lines_yet_is_a_run(folder):
    (folder / "metrics.jsonl").unlink()
    assert read_run(str(folder)).metrics == []


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_a_folder_without_config_holds_no_run(tmp_path, name):
    with pytest.raises(ValueError, match="holds no run"):
        read_run(str(tmp_path / name))


def test_a_series_has_the_steps_that_know_it_and_nan_for_null(folder):
    steps, values = read_run(str(folder)).series("loss")
    np.testing.assert_array_equal(steps, [0, 10, 20])
    np.testing.assert_array_equal(values, [4.0, 2.0, np.nan])
    assert values.dtype == np.float64
    steps, values = read_run(str(folder)).series("accuracy")
    np.testing.assert_array_equal(steps, [10])


def test_a_series_of_an_unknown_metric_is_empty(folder):
    steps, values = read_run(str(folder)).series("nothing")
    assert steps.shape == values.shape == (0,)


@pytest.mark.parametrize(
    ("outcomes", "word"),
    [
        ({1: True, 2: True}, "holds"),
        ({1: False, 2: False}, "fails"),
        ({1: True, 2: False}, "undecided"),
        ({1: np.True_, 2: np.False_}, "undecided"),
        ({3: True}, "holds"),
        ({3: False}, "fails"),
    ],
)
def test_a_verdict_is_that_of_all_seeds_or_undecided(outcomes, word):
    verdict = judge("a claim", outcomes, measured="2", expected="3")
    assert verdict.verdict == word
    assert verdict.seeds == sorted(outcomes)
    assert (verdict.claim, verdict.measured, verdict.expected) == ("a claim", "2", "3")
    json.dumps(verdict._asdict())


def test_without_seeds_nothing_is_decided():
    assert judge("a claim", {}, measured="", expected="").verdict == "undecided"


def test_points_without_overrides_are_configs_as_they_are():
    assert Point("name", "configs/x.py").overrides == {}


# Three seeds: mean 2, standard error 1 / sqrt(3), and Student's t with two degrees 4.3027.
THREE = {5: 1.0, 6: 2.0, 7: 3.0}
REACH = 4.3026527 / np.sqrt(3)


@pytest.mark.parametrize(
    ("bounds", "word"),
    [
        (dict(above=2 - REACH - 0.001), "holds"),
        (dict(above=2 - REACH + 0.001), "undecided"),
        (dict(above=2 + REACH - 0.001), "undecided"),
        (dict(above=2 + REACH + 0.001), "fails"),
        (dict(below=2 + REACH + 0.001), "holds"),
        (dict(below=2 - REACH - 0.001), "fails"),
        (dict(above=-1.0, below=5.0), "holds"),
        (dict(above=-1.0, below=2.0), "undecided"),
    ],
)
def test_a_mean_is_judged_by_its_confidence_interval(bounds, word):
    verdict = judge_mean("a claim", THREE, **bounds, unit=" points")
    assert verdict.verdict == word
    assert verdict.measured.startswith("mean 2 points, 95 % within -0.484 points to 4.48")
    assert verdict.seeds == [5, 6, 7]


def test_what_is_expected_of_a_mean_is_said():
    assert judge_mean("a claim", THREE, above=1, below=3.5).expected == "above 1 and below 3.5"


def test_what_the_paper_gives_stands_beside_what_decides():
    words = "3.1 times (table 2)"
    one = judge("a claim", {1: True}, measured="2", expected="> 1", paper=words)
    assert one.paper == judge_mean("a claim", THREE, above=1, paper=words).paper == words
    assert judge("a claim", {1: True}, measured="2", expected="> 1").paper == ""
