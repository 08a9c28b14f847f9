"""Running an experiment: what is written, and what happens when points fail."""

import csv
import json
from pathlib import Path
from types import ModuleType

import pytest
from matplotlib.figure import Figure

from lpml.runs import Point, Run, judge
from lpml.sweep import run_experiment
from lpml.sweep.experiment import table
from lpml.training.loop import RunFailed

CONFIG = str(Path(__file__).parent.parent.parent / "configs" / "halp_regression.py")


def experiment(points):
    """A module like those of experiments/, with one claim on the last gradient norm."""
    module = ModuleType("toy")
    module.runs = lambda size: points
    module.load = lambda runs: {name: run.final["grad_norm"] for name, run in runs.items()}
    module.draw = lambda data: {"figure": Figure()}
    module.check = lambda data, size: [
        judge("it fell", {1: data["good"] < 1}, measured=str(data), expected="< 1")
    ]
    return module


def point(name, **overrides):
    settings = {"train.steps": 2000, **{k.replace("__", "."): v for k, v in overrides.items()}}
    return Point(name, f"{CONFIG}:sgd,tiny", settings)


def test_results_are_written_as_scripts_expect_them(tmp_path):
    verdicts = run_experiment(experiment([point("good")]), str(tmp_path), size="tiny")
    assert [v.verdict for v in verdicts] == ["holds"]
    (record,) = json.loads((tmp_path / "verdict.json").read_text())
    assert record["claim"] == "it fell"
    assert record["seeds"] == [1]
    assert record["size"] == "tiny"
    (row,) = csv.DictReader((tmp_path / "results.csv").read_text().splitlines())
    assert row["run"] == "good"
    assert row["optim.name"] == "sgd"
    assert float(row["grad_norm"]) < 1
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_the_columns_do_not_depend_on_the_order_of_the_metrics():
    def made(*names):
        config = {"seed": 1, "optim": {"name": "sgd"}}
        return Run("", config, [], {"step": 3, **dict.fromkeys(names, 0.5)})

    points = [Point("a", "", {"optim.mu": 1.0}), Point("b", "", {"optim.mu": 2.0})]
    lead = ["run", "optim.name", "optim.bits", "seed", "optim.mu", "finished"]
    for a, b in ((("loss", "error"), ("loss", "x")), (("error", "loss"), ("x", "loss"))):
        rows = table(points, {"a": made(*a), "b": made(*b)})
        assert [list(row) for row in rows] == [[*lead, "error", "loss", "x"]] * 2
        assert (rows[0]["error"], rows[0]["x"], rows[1]["error"]) == (0.5, None, None)


def test_a_failed_point_is_named_and_the_others_are_kept(tmp_path):
    points = [point("wild", optim__learning_rate=50.0), point("torn"), point("good")]
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "config.json").write_text("{")
    with pytest.raises(RunFailed) as caught:
        run_experiment(experiment(points), str(tmp_path), size="tiny")
    message = str(caught.value)
    assert message.startswith("2 of 3 runs failed (wild: loss is not finite at step ")
    assert "torn: " in message
    assert not (tmp_path / "verdict.json").exists()
    rows = {
        row["run"]: row
        for row in csv.DictReader((tmp_path / "results.csv").read_text().splitlines())
    }
    assert rows["good"]["finished"] == "True"
    assert rows["wild"]["finished"] == "False"
