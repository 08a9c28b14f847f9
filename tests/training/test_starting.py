"""A training that starts from another run's network, and points that wait for each other."""

import json
import os

import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from lpml.build import ConfigError
from lpml.runs import Point
from lpml.sweep import run_points, run_serially
from lpml.training.checkpoint import CheckpointMismatch
from lpml.training.run import train
from tests.launching import newest


def config(*, model="mlp", hidden=(5,), optim="sgd", **training):
    plan = dict(steps=6, batch_size=5, log_every=3, checkpoint_every=6) | training
    return dict(
        seed=3,
        precision="float32",
        data=dict(name="digits", train_samples=20),
        model=dict(name=model, hidden=list(hidden)),
        optim=dict(name=optim, learning_rate=0.1),
        train=plan,
    )


def leaves(folder, part):
    saved = ocp.load(newest(folder))
    return {name: np.asarray(saved[name]) for name in saved if part in name}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "float"
    return folder, train(config(), str(folder))


def test_no_steps_evaluate_the_other_runs_network(source, tmp_path):
    folder, end = source
    seen = train(config(steps=0, start_from=str(folder)), str(tmp_path / "eval"))
    assert seen["step"] == 0
    for name in ("loss", "grad_norm", "test_accuracy"):
        assert seen[name] == end[name]


def test_a_run_starts_at_the_others_end_with_an_optimizer_of_its_own(source, tmp_path):
    folder, end = source
    own = config(optim="lp_sgd", start_from=str(folder))
    train(own, str(tmp_path / "next"))
    first = json.loads((tmp_path / "next" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["step"] == 0
    assert first["loss"] == end["loss"]


def test_a_bare_name_is_a_run_beside_it(source):
    folder, end = source
    seen = train(config(steps=0, start_from="float"), str(folder.parent / "beside"))
    assert seen["loss"] == end["loss"]


def test_another_network_is_refused_by_its_leaf(source, tmp_path):
    folder, _ = source
    other = config(hidden=(7,), start_from=str(folder))
    with pytest.raises(CheckpointMismatch, match=r"start_from: .*\[5\] at leaf .*Dense_0"):
        train(other, str(tmp_path / "next"))


def test_a_deeper_network_of_the_source_is_refused(tmp_path):
    train(config(hidden=(5, 5)), str(tmp_path / "deep"))
    shallow = config(hidden=(5,), start_from=str(tmp_path / "deep"))
    with pytest.raises(CheckpointMismatch, match="Dense_"):
        train(shallow, str(tmp_path / "next"))


def test_a_source_that_is_not_finished_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="nowhere holds no finished run; run that one first"):
        train(config(start_from=str(tmp_path / "nowhere")), str(tmp_path / "next"))


def test_no_steps_need_a_source(tmp_path):
    with pytest.raises(ConfigError, match="steps = 0 must be at least 1, unless start_from"):
        train(config(steps=0), str(tmp_path / "run"))


POINT = dict(
    seed=1,
    precision="float32",
    data=dict(name="synthetic_regression", samples=12, features=3, seed=0),
    model=dict(name="linear_regression"),
    optim=dict(name="sgd", learning_rate=0.05),
    train=dict(steps=12, batch_size=2, log_every=4, checkpoint_every=12),
)
LATER = {"train.start_from": "first", "train.steps": 0}


@pytest.fixture
def starting(tmp_path):
    """A config of points that can start from each other."""
    path = tmp_path / "starting.py"
    path.write_text(
        "from ml_collections import ConfigDict\n"
        "from ml_collections.config_dict import placeholder\n"
        "def get_config(variant=''):\n"
        f"    config = ConfigDict({POINT!r})\n"
        "    config.train.start_from = placeholder(str)\n"
        "    return config\n"
    )
    return str(path)


def test_a_point_follows_the_one_it_starts_from(starting, tmp_path):
    points = [Point("later", starting, LATER), Point("first", starting)]
    later, first = run_points(points, str(tmp_path / "runs"))
    assert later.metrics["loss"] == first.metrics["loss"]


def test_points_follow_in_chains(starting, tmp_path):
    middle = {"train.start_from": "first", "optim.learning_rate": 0.02}
    last = {"train.start_from": "middle", "train.steps": 0}
    points = [
        Point("last", starting, last),
        Point("middle", starting, middle),
        Point("first", starting),
    ]
    last, middle, first = run_points(points, str(tmp_path / "runs"))
    assert last.metrics["loss"] == middle.metrics["loss"] != first.metrics["loss"]


def test_a_point_fails_with_the_one_it_starts_from(starting, tmp_path):
    points = [
        Point("later", starting, LATER),
        Point("first", starting, {"optim.learning_rate": 1e30}),
    ]
    later, first = run_points(points, str(tmp_path / "runs"), engine=run_serially)
    assert "not finite" in first.failure
    assert later.failure == "it starts from first, which failed"
    assert not os.path.exists(tmp_path / "runs" / "later" / "DONE")


def test_points_in_a_circle_are_refused(starting, tmp_path):
    points = [Point("a", starting, {"train.start_from": "b"}),
              Point("b", starting, {"train.start_from": "a"})]  # fmt: skip
    with pytest.raises(ConfigError, match="a, b start from each other in a circle"):
        run_points(points, str(tmp_path / "runs"))


def test_a_decay_below_one_is_no_obstacle_to_a_sweep(tmp_path):
    path = tmp_path / "decays.py"
    point = {**POINT, "optim": dict(name="momentum", learning_rate=0.01, momentum=0.9)}
    path.write_text(
        "from ml_collections import ConfigDict\n"
        f"def get_config(variant=''):\n    return ConfigDict({point!r})\n"
    )
    points = [Point("a", str(path)), Point("b", str(path), {"optim.momentum": 0.5})]
    outcomes = run_points(points, str(tmp_path / "runs"))
    assert [outcome.failure for outcome in outcomes] == [None, None]
