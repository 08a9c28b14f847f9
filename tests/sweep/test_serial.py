"""Points one after another: checked first, finished ones skipped, failures kept apart."""

import functools
import json
import textwrap

import pytest

from lpml.build import ConfigError
from lpml.runs import Point
from lpml.sweep import run_points as run_points_with
from lpml.sweep import run_serially
from lpml.training.loop import Stopped

CONFIG = """
    from ml_collections import ConfigDict
    def get_config(variant=""):
        return ConfigDict(dict(
            seed=1,
            precision="float32",
            data=dict(name="synthetic_regression", samples=12, features=3, seed=0),
            model=dict(name="linear_regression"),
            optim=dict(name="sgd", learning_rate=0.05),
            train=dict(steps=12, batch_size=2, log_every=4, checkpoint_every=12),
        ))
"""


run_points = functools.partial(run_points_with, engine=run_serially)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(textwrap.dedent(CONFIG))
    return str(path)


@pytest.fixture
def trained(monkeypatch):
    """Names of the points that were handed to the training, with the training replaced."""
    names = []

    def train(config, workdir, **_):
        names.append((workdir.rpartition("/")[2], config["seed"]))
        return {"loss": float(config["seed"])}

    monkeypatch.setattr("lpml.sweep.serial.train", train)
    return names


def files(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_points_run_in_their_order_with_their_overrides(config, trained, tmp_path):
    points = [Point("b", config, {"seed": 5}), Point("a", config)]
    outcomes = run_points(points, str(tmp_path / "runs"))
    assert trained == [("b", 5), ("a", 1)]
    assert [(o.name, o.metrics, o.failure) for o in outcomes] == [
        ("b", {"loss": 5.0}, None),
        ("a", {"loss": 1.0}, None),
    ]


def test_two_points_of_one_name_are_refused_before_anything_runs(config, trained, tmp_path):
    points = [Point("a", config), Point("b", config), Point("a", config, {"seed": 2})]
    with pytest.raises(ConfigError, match="two points map to the folder a"):
        run_points(points, str(tmp_path / "runs"))
    assert not trained


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"optim.bitz": 4}, "optim.bitz"),
        ({"seed": "one"}, "config.seed"),
        ({"optimizer.name": "sgd"}, "did you mean 'optim'"),
    ],
)
def test_a_point_that_cannot_be_overridden_is_refused_first(
    config, trained, tmp_path, bad, words
):
    with pytest.raises(ConfigError, match=words):
        run_points([Point("a", config), Point("b", config, bad)], str(tmp_path / "runs"))
    assert not trained


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"optim.name": "sgdd"}, "did you mean 'sgd'"),
        ({"train.batch_size": 100}, "batch_size"),
        ({"model.name": "mlp"}, "classifier"),
    ],
)
def test_a_point_that_cannot_be_built_is_refused_first(config, tmp_path, bad, words):
    with pytest.raises(ConfigError, match=words):
        run_points([Point("a", config), Point("b", config, bad)], str(tmp_path / "runs"))
    assert not (tmp_path / "runs" / "a" / "DONE").exists(), "another point ran before"


def test_a_missing_config_file_is_refused_first(config, trained, tmp_path):
    points = [Point("a", config), Point("b", config + "x.py")]
    with pytest.raises(ConfigError, match="does not exist"):
        run_points(points, str(tmp_path / "runs"))
    assert not trained


def test_a_failing_point_does_not_stop_the_others(config, tmp_path):
    points = [
        Point("bad", config, {"optim.learning_rate": 1e30}),
        Point("good", config),
    ]
    bad, good = run_points(points, str(tmp_path))
    assert bad.metrics is None
    assert "not finite at step" in bad.failure
    assert good.failure is None
    assert good.metrics["step"] == 12
    assert not (tmp_path / "bad" / "DONE").exists()
    assert json.loads((tmp_path / "good" / "DONE").read_text()) == good.metrics


def test_finished_points_are_read_back_and_not_run_again(config, tmp_path):
    points = [Point("a", config)]
    first = run_points(points, str(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").glob("[!.]*")}
    assert run_points(points, str(tmp_path)) == first
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").glob("[!.]*")}
    assert after == before


def test_a_request_to_stop_ends_the_sweep_and_the_next_call_goes_on(config, tmp_path):
    points = [Point("a", config), Point("b", config)]
    with pytest.raises(Stopped):
        run_points(points, str(tmp_path), should_stop=lambda: True)
    assert files(tmp_path / "a" / "checkpoints")
    assert files(tmp_path / "b") == [".lock", "config.json"], "only claimed"
    outcomes = run_points(points, str(tmp_path))
    assert [o.metrics["step"] for o in outcomes] == [12, 12]


def test_no_points_are_no_outcomes(tmp_path):
    assert run_points([], str(tmp_path)) == []
