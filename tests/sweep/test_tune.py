"""Tuning: it finds better settings, prunes, survives a kill, and is the same in pieces."""

import csv
import functools
import json
import signal
import subprocess
import sys
import textwrap

import pytest
from launching import ROOT, environment, wait_for

from lpml.build import ConfigError
from lpml.runs import rows as rows_of
from lpml.sweep.axes import parse_axes
from lpml.sweep.metrics import Metric
from lpml.sweep.space import Space
from lpml.sweep.tune import tune
from lpml.training.loop import RunFailed, Stopped
from lpml.training.run import train
from lpml.training.run_folder import FolderConflict

SVRG = str(ROOT / "configs" / "halp_regression.py") + ":tiny,svrg"
SHORT = {"train.steps": 600, "train.log_every": 200, "train.checkpoint_every": 200}
GOAL = Metric("grad_norm", False)
RATE = "optim.learning_rate"
RATES = (f"{RATE}=log(1e-5,1e-2,2)",)

needs_optuna = pytest.mark.usefixtures("optuna")


@pytest.fixture
def optuna():
    return pytest.importorskip("optuna")


def search(folder, trials, *, axes=RATES, goal=GOAL, base=SHORT, should_stop=lambda: False):
    return tune(
        Space(SVRG, base, ()),
        parse_axes(axes),
        str(folder),
        goal=goal,
        trials=trials,
        should_stop=should_stop,
    )


def by_folder(tuned):
    return {trial.folder: (trial.state, trial.value) for trial in tuned.trials}


def finals(folder):
    return {
        path.parent.name: json.loads(path.read_text())["grad_norm"]
        for path in folder.glob("*/DONE")
    }


@needs_optuna
def test_it_finds_prunes_and_is_the_same_in_pieces(tmp_path):
    whole = search(tmp_path / "whole", 12)
    done = finals(tmp_path / "whole")
    states = [trial.state for trial in whole.trials]
    assert len(states) == 12
    assert whole.best.value == min(done.values()) == done[whole.best.folder]
    assert whole.best.value < max(value for _, value in by_folder(whole).values()) / 2
    assert states.count("pruned") >= 1
    assert states.count("done") == len(done)
    for trial in whole.trials:
        assert 1e-5 <= trial.settings[RATE] <= 1e-2
        config = json.loads((tmp_path / "whole" / trial.folder / "config.json").read_text())
        assert config["optim"]["learning_rate"] == trial.settings[RATE]
        if trial.state == "pruned":
            (row,) = rows_of([tmp_path / "whole" / trial.folder])
            assert row["status"] == "pruned"
            kept = tmp_path / "whole" / trial.folder / "checkpoints"
            assert [path.name for path in kept.iterdir() if path.name.isdigit()]
    (pruned, *_) = [trial for trial in whole.trials if trial.state == "pruned"]
    goes_on = tmp_path / "whole" / pruned.folder
    train(json.loads((goes_on / "config.json").read_text()), str(goes_on), label="-")
    assert not (goes_on / "PRUNED").exists(), "a run that goes on is pruned no more"
    with open(tmp_path / "whole" / "trials.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["folder"], row["state"]) for row in rows] == [
        (trial.folder, trial.state) for trial in whole.trials
    ]
    assert rows[0]["grad_norm"] == repr(whole.best.value)
    pieces = tmp_path / "pieces"
    search(pieces, 5)
    # the sixth trial is stopped between its lines of the log
    asked = iter([False, True])
    with pytest.raises(Stopped):
        search(pieces, 12, should_stop=lambda: next(asked))
    assert by_folder(search(pieces, 12)) == by_folder(whole)


@needs_optuna
def test_a_failing_trial_does_not_end_the_study_and_all_failing_do(tmp_path):
    axes = (f"{RATE}=1e-3,1e30",)
    tuned = search(tmp_path, 6, axes=axes)
    assert {(trial.settings[RATE], trial.state) for trial in tuned.trials} == {
        (1e-3, "done"),
        (1e30, "failed"),
    }
    assert search(tmp_path, 6, axes=axes) == tuned, "nothing was left to do"
    with pytest.raises(RunFailed, match="none of 2 trials"):
        search(tmp_path / "bad", 2, axes=(f"{RATE}=1e30",))


LAUNCH = """
    import sys
    from lpml.sweep.axes import parse_axes
    from lpml.sweep.metrics import Metric
    from lpml.sweep.space import Space
    from lpml.sweep.tune import tune
    config, folder, base, trials, axes = sys.argv[1:]
    tune(Space(config, eval(base), ()), parse_axes([axes]), folder,
         goal=Metric("grad_norm", False), trials=int(trials))
"""


def launch(folder, trials, base):
    """A launch in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(LAUNCH), SVRG, folder, base, trials]
    return subprocess.Popen(
        [*map(str, command), *RATES],
        env=environment(PYTHONPATH=str(ROOT)),
        stderr=subprocess.PIPE,
    )


@needs_optuna
def test_a_killed_trial_is_resumed_by_the_next_launch(tmp_path, caplog):
    caplog.set_level("INFO", "lpml")
    base = {"train.steps": 40000, "train.checkpoint_every": 1000}
    process = launch(tmp_path, 2, base)
    try:
        wait_for(lambda: [*tmp_path.glob("*/checkpoints/*000")], process)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    (begun,) = tmp_path.glob("*/checkpoints")
    tuned = search(tmp_path, 2, base=base)
    assert "resumes at step" in caplog.text
    assert [trial.state for trial in tuned.trials] == ["done", "done"]
    assert begun.parent.name in by_folder(tuned)
    assert not [*tmp_path.glob(".launch-*")]


@needs_optuna
@pytest.mark.slow
def test_launches_at_the_same_time_share_the_trials(tmp_path):
    base = {**SHORT, "train.steps": 40000}
    process = launch(tmp_path, 6, base)
    try:
        wait_for(lambda: [*tmp_path.glob("*/metrics.jsonl")], process)
        here = search(tmp_path, 6, base=base)
        mine = {trial.folder for trial in here.trials if trial.state == "running"}
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert len(mine) <= 1, "what the other launch was at"
    tuned = search(tmp_path, 6, base=base)
    assert [trial.state in ("done", "pruned") for trial in tuned.trials] == [True] * 6
    assert len(by_folder(tuned)) == 6, "none was tried twice"


@needs_optuna
def test_each_kind_of_axis_is_sampled_as_it_is_written(tmp_path):
    axes = (
        "train.batch_size=1:5",
        "model.l2=linear(0,0.1,2)",
        f"{RATE}=1e-3,2e-3 & data.noise=1.0,2.0",
        "optim.inner_steps=log(100,400,2)",
    )
    tuned = search(tmp_path, 6, axes=axes)
    seen = {key: {trial.settings[key] for trial in tuned.trials} for key in tuned.trials[0][4]}
    assert seen["train.batch_size"] <= {1, 2, 3, 4}
    assert all(0 <= value <= 0.1 for value in seen["model.l2"])
    assert all(isinstance(value, int) for value in seen["optim.inner_steps"])
    assert seen["optim.inner_steps"] <= set(range(100, 401))
    pairs = {(trial.settings[RATE], trial.settings["data.noise"]) for trial in tuned.trials}
    assert pairs <= {(1e-3, 1.0), (2e-3, 2.0)}
    assert len(tuned.text().splitlines()) == 7


@needs_optuna
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"axes": ("seed=0:5",)}, "seed is no setting to tune"),
        ({"axes": ()}, "something to tune"),
        ({"axes": ("optim.learning_rat=1,2",)}, "did you mean 'learning_rate'"),
        ({"axes": ("train.steps=linear(1,2.5,2)",)}, "train.steps"),
        ({"trials": 0}, "--trials=0"),
    ],
)
def test_what_cannot_be_tuned_is_refused_first(wrong, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        search(tmp_path / "none", **{"trials": 2, **wrong})
    assert not (tmp_path / "none").exists()


@needs_optuna
def test_a_study_of_something_else_is_left_alone(tmp_path):
    search(tmp_path, 1)
    again = functools.partial(search, tmp_path, 2)
    with pytest.raises(FolderConflict, match="study of another space"):
        again(axes=(f"{RATE}=log(1e-4,1e-2,2)",))
    with pytest.raises(FolderConflict, match="study of another metric"):
        again(goal=Metric("loss", False))
    with pytest.raises(FolderConflict, match="sweep of another config"):
        again(base={**SHORT, "train.steps": 800})


def test_without_optuna_the_remedy_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'optuna>=4'"):
        search(tmp_path, 1)
