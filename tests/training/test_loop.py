"""The loop: chunks, events, interruption and failure do not change what is computed."""

import json
import math
import re

import jax
import numpy as np
import pytest

from lpml.data import batch_indices
from lpml.training import loop, program
from lpml.training.assemble import assemble
from lpml.training.checkpoint import Checkpoints
from lpml.training.loop import RunFailed, Schedule, Stopped
from lpml.training.run import train

STEPS, LOG, SAVE, EPOCH, SAMPLES, BATCH = 40, 10, 15, 16, 24, 3


def config(method="halp", *, objective="full", steps=STEPS, rate=0.02):
    optim = dict(name=method, learning_rate=rate)
    if method != "sgd":
        optim |= dict(inner_steps=EPOCH)
    return dict(
        seed=3,
        precision="float32",
        data=dict(name="synthetic_regression", samples=SAMPLES, features=4, noise=1.0, seed=1),
        model=dict(name="linear_regression", l2=0.01),
        optim=optim,
        train=dict(
            steps=steps,
            batch_size=BATCH,
            log_every=LOG,
            checkpoint_every=SAVE,
            objective=objective,
        ),
    )


# HALP's checkpoints fall amid its epochs; the sums of "batch" lines amid their intervals.
KINDS = {"halp": config(), "batch means": config("sgd", objective="batch")}
every_kind = pytest.mark.parametrize("kind", KINDS)


def lines(folder):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in found:
        line.pop("steps_per_second", None)
    return found


def last_state(settings, folder):
    """Leaves of the carry in the last checkpoint."""
    built, _ = assemble(settings)
    step, carry = Checkpoints(folder / "checkpoints").restore(built.init(settings["seed"]))
    assert step == settings["train"]["steps"]
    key = carry.state.key
    carry = carry.replace(state=carry.state.replace(key=jax.random.key_data(key)))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(carry)]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Lines and last state of runs that nothing interrupted."""
    results = {}
    for kind, settings in KINDS.items():
        folder = tmp_path_factory.mktemp("unbroken")
        train(settings, str(folder))
        results[kind] = lines(folder), last_state(settings, folder)
    return results


def assert_as_unbroken(expected, kind, folder):
    found = lines(folder), last_state(KINDS[kind], folder)
    assert found[0] == expected[kind][0]
    for a, b in zip(found[1], expected[kind][1], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def one_step_a_call(monkeypatch):
    monkeypatch.setattr(loop, "SECONDS_PER_CALL", 0.0)


def after(calls, error=None):
    """`should_stop` that says yes, or raises, at the given call: a step, where calls are."""
    asked = []

    def should_stop():
        asked.append(1)
        if len(asked) == calls and error is not None:
            raise error
        return len(asked) == calls

    return should_stop


@every_kind
def test_lines_are_at_their_steps_and_the_loss_falls(unbroken, kind):
    found = unbroken[kind][0]
    assert [line["step"] for line in found] == [0, 10, 20, 30, 40]
    assert all(line.keys() >= {"loss", "grad_norm"} for line in found[1:])
    assert found[-1]["loss"] < found[1]["loss"]


@every_kind
@pytest.mark.parametrize(("seconds", "rows"), [(0.0, 16384), (1e9, 16384), (1e9, 16)])
def test_the_size_of_calls_changes_nothing(
    unbroken, kind, seconds, rows, monkeypatch, tmp_path
):
    monkeypatch.setattr(loop, "SECONDS_PER_CALL", seconds)
    monkeypatch.setattr(program, "MAX_STEPS_PER_CALL", rows)
    train(KINDS[kind], str(tmp_path))
    assert_as_unbroken(unbroken, kind, tmp_path)


@every_kind
@pytest.mark.parametrize("step", [1, LOG, SAVE, EPOCH, 23])
@pytest.mark.usefixtures("one_step_a_call")
def test_a_run_stopped_at_any_step_resumes_as_if_it_had_not(unbroken, kind, step, tmp_path):
    with pytest.raises(Stopped, match=f"stopped at step {step};"):
        train(KINDS[kind], str(tmp_path), should_stop=after(step))
    assert not (tmp_path / "DONE").exists()
    train(KINDS[kind], str(tmp_path))
    assert_as_unbroken(unbroken, kind, tmp_path)


@every_kind
@pytest.mark.parametrize("step", [1, SAVE, 17, 2 * SAVE + 3])
@pytest.mark.usefixtures("one_step_a_call")
def test_a_run_killed_at_any_step_resumes_from_its_checkpoint(unbroken, kind, step, tmp_path):
    with pytest.raises(MemoryError):
        train(KINDS[kind], str(tmp_path), should_stop=after(step, MemoryError()))
    train(KINDS[kind], str(tmp_path))
    assert_as_unbroken(unbroken, kind, tmp_path)


@pytest.mark.usefixtures("one_step_a_call")
def test_a_run_may_be_stopped_again_and_again(unbroken, tmp_path):
    for _ in range(4):
        with pytest.raises(Stopped):
            train(KINDS["halp"], str(tmp_path), should_stop=after(7))
    train(KINDS["halp"], str(tmp_path))
    assert_as_unbroken(unbroken, "halp", tmp_path)


def test_a_finished_run_is_read_and_not_trained(unbroken, monkeypatch, tmp_path):
    final = train(KINDS["halp"], str(tmp_path))
    monkeypatch.setattr(program.Program, "run", None)
    assert train(KINDS["halp"], str(tmp_path)) == final
    assert {k: v for k, v in final.items() if k != "steps_per_second"} == unbroken["halp"][0][
        -1
    ]


def by_hand(settings):
    """Batch losses and gradient norms of SGD on least squares, in numpy's float64."""
    built, _ = assemble(settings)
    x, y = (np.asarray(built.train[k], np.float64) for k in ("x", "y"))
    w = np.zeros(x.shape[1])
    order = batch_indices(
        settings["seed"], 0, STEPS, size=SAMPLES, batch_size=BATCH, sampling="shuffle"
    )
    losses, norms = [], []
    for index in order:
        errors = x[index] @ w - y[index]
        losses.append(np.mean(errors**2) + 0.005 * w @ w)
        grad = 2 * x[index].T @ errors / BATCH + 0.01 * w
        norms.append(np.linalg.norm(grad))
        w = w - settings["optim"]["learning_rate"] * grad
    return np.reshape(losses, (-1, LOG)).mean(1), np.reshape(norms, (-1, LOG)).mean(1)


def test_batch_means_are_the_means_since_the_last_line(unbroken):
    found = unbroken["batch means"][0]
    losses, norms = by_hand(KINDS["batch means"])
    np.testing.assert_allclose([line["loss"] for line in found[1:]], losses, rtol=1e-4)
    np.testing.assert_allclose([line["grad_norm"] for line in found[1:]], norms, rtol=1e-4)


DIVERGING = config("sgd", rate=8.0, steps=60, objective="batch")


def test_a_diverging_run_fails_with_step_metric_and_last_good_checkpoint(tmp_path):
    with pytest.raises(RunFailed) as caught:
        train(DIVERGING, str(tmp_path))
    told = re.fullmatch(
        r"(\w+) is not finite at step (\d+); the last good checkpoint is step (\d+)"
        "; a lower learning rate is the usual remedy",
        str(caught.value),
    )
    assert told, str(caught.value)
    name, step, good = told[1], int(told[2]), int(told[3])
    assert name in ("loss", "grad_norm")
    assert good <= step
    assert good % SAVE == 0
    assert (tmp_path / "checkpoints" / str(good)).is_dir()
    assert not (tmp_path / "DONE").exists()
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        assert json.loads(line)["step"] <= step
    # the good checkpoint holds finite parameters
    built, _ = assemble(DIVERGING)
    _, carry = Checkpoints(tmp_path / "checkpoints").restore(built.init(3))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(carry.state.params))


def test_a_run_that_fails_at_once_says_that_there_is_no_checkpoint(tmp_path):
    settings = config("sgd", rate=1e38)
    with pytest.raises(RunFailed, match=r"not finite at step \d; there is no good checkpoint"):
        train(settings, str(tmp_path))


def test_a_checkpoint_of_the_failing_step_is_not_called_good(tmp_path):
    settings = {**DIVERGING, "train": {**DIVERGING["train"], "checkpoint_every": 1}}
    with pytest.raises(RunFailed) as caught:
        train(settings, str(tmp_path))
    step, good = map(int, re.findall(r"step (\d+)", str(caught.value)))
    # the parameters of step `step` are those whose loss is not finite
    assert good < step


def test_a_failed_run_fails_again_in_the_same_way(tmp_path):
    messages = []
    for _ in range(2):
        with pytest.raises(RunFailed) as caught:
            train(DIVERGING, str(tmp_path))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 10), (9, 10), (10, 15), (15, 16), (16, 20), (32, 35), (33, 35)]
)
def test_the_next_event_is_the_nearest_one(step, expected):
    assert Schedule(35, LOG, 15, EPOCH).next_event(step) == expected


def test_without_refreshes_there_are_no_events_for_them():
    assert Schedule(100, 60, 70, None).next_event(0) == 60
    assert Schedule(50, 60, 70, None).next_event(0) == 50


@pytest.mark.parametrize("name", ["steps", "log_every", "checkpoint_every"])
def test_intervals_that_cannot_be_are_refused_by_name(name):
    wrong = -1 if name == "steps" else 0
    intervals = dict(steps=1, log_every=1, checkpoint_every=1) | {name: wrong}
    with pytest.raises(ValueError, match=f"{name} = {wrong}"):
        Schedule(**intervals)


def test_rates_of_an_instant_are_finite():
    pace = loop._Pace(most=100)
    pace.learn(1, 0.0)
    assert math.isfinite(pace.since_last())
    assert pace.steps == 8
    for _ in range(5):
        pace.learn(pace.steps, 1e-9)
    assert pace.steps == 100
    pace.learn(100, 1e6)
    assert pace.steps == 1


def test_a_line_s_rate_is_of_its_own_steps_without_the_first_call():
    pace = loop._Pace(most=100)
    pace.learn(1, 60.0)  # compiles
    pace.learn(6, 2.0)
    pace.learn(2, 2.0)
    assert pace.since_last() == 2.0
    pace.learn(5, 1.0)
    assert pace.since_last() == 5.0
    alone = loop._Pace(most=100)
    alone.learn(1, 4.0)
    assert alone.since_last() == 0.25
