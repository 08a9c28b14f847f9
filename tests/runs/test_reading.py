"""Rows of run folders in every state."""

import math

import pytest
from ml_collections import ConfigDict

from lpml.runs import rows
from lpml.training.run import train


def row(folder):
    (only,) = rows([str(folder)])
    return only


def test_a_finished_run_is_its_config_and_its_final_metrics(make, tmp_path):
    config = {"seed": 1, "optim": {"name": "halp", "bits": 8, "sizes": [1, 2]}}
    make("a/one", config, done={"step": 9, "loss": 0.5, "rate": None}, lines=[{"step": 9}])
    (only,) = rows(tmp_path / "runs")
    assert math.isnan(only.pop("final.rate"))
    assert only == {
        "run": "a/one",
        "status": "done",
        "seed": 1,
        "optim.name": "halp",
        "optim.bits": 8,
        "optim.sizes": [1, 2],
        "final.step": 9,
        "final.loss": 0.5,
    }
    assert list(only)[:2] == ["run", "status"]


def test_an_unfinished_run_has_the_metrics_of_its_last_step(make):
    lines = [{"step": 1, "loss": 4.0}, {"step": 2, "loss": 2.0}, {"step": 2, "test_loss": 3.0}]
    found = row(make("one", lines=lines))
    assert found["status"] == "unfinished"
    assert (found["final.step"], found["final.loss"]) == (2, 2.0)
    assert found["final.test_loss"] == 3.0


def test_a_run_that_has_logged_nothing_is_a_row(make):
    folder = make("one")
    assert row(folder) == {"run": str(folder), "status": "unfinished", "seed": 1}


def test_a_run_given_as_root_keeps_its_name(make):
    (only,) = rows(make("one"))
    assert only["run"] == "one"


@pytest.mark.parametrize("torn", [b"", b"{", b"[1]", b"\xff\x00", b"[" * 100_000])
@pytest.mark.parametrize("name", ["config.json", "DONE"])
def test_a_torn_file_is_a_damaged_row_that_says_so(make, tmp_path, name, torn):
    make("good", done={"loss": 1.0})
    bad = make("bad", done={"loss": 2.0})
    (bad / name).write_bytes(torn)
    damaged, good = rows(tmp_path / "runs")
    assert good["status"] == "done"
    assert damaged["status"] == "damaged"
    assert damaged["problem"].startswith(f"{name} is no JSON object, so ")
    assert damaged["run"] == "bad"
    assert ("seed" in damaged) == (name == "DONE"), "what can be read is shown"
    assert ("final.loss" in damaged) == (name == "config.json")


def test_a_file_that_cannot_be_opened_is_a_damaged_row(make):
    folder = make("one")
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    (folder / "metrics.jsonl").mkdir()
    assert row(folder)["problem"] == (
        "config.json cannot be read: Is a directory; "
        "metrics.jsonl cannot be read: Is a directory"
    )


def test_a_garbled_log_is_a_damaged_row_that_names_the_line(make):
    folder = make("one", lines=[{"step": 1}])
    log = folder / "metrics.jsonl"
    log.write_text('{"step": 1}\ngarbage\n{"step": 2}\n')
    found = row(folder)
    assert found["status"] == "damaged"
    assert found["problem"].startswith("metrics.jsonl, line 2: ")


def test_a_pruned_run_is_none_that_waits_to_go_on(make, tmp_path):
    for name in ("one", "done"):
        (make(name, done={"loss": 1.0} if name == "done" else None) / "PRUNED").write_text("{}")
    found = {row["run"]: row["status"] for row in rows(tmp_path / "runs")}
    assert found == {"one": "pruned", "done": "done"}


def test_a_config_cannot_take_the_name_or_state_of_a_run(make):
    folder = make("one", {"status": "done", "run": "other"})
    found = row(folder)
    assert (found["run"], found["status"]) == (str(folder), "unfinished")


def test_a_genuine_run_reads_back(tmp_path):
    config = ConfigDict(
        dict(
            seed=3,
            precision="float32",
            data=dict(name="synthetic_regression", samples=12, features=3, seed=0),
            model=dict(name="linear_regression"),
            optim=dict(name="sgd", learning_rate=0.05),
            train=dict(steps=12, batch_size=2, log_every=4, checkpoint_every=12),
        )
    ).to_dict()
    metrics = train(config, str(tmp_path / "run"))
    (tmp_path / "copy").mkdir()
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / "copy" / name).write_bytes((tmp_path / "run" / name).read_bytes())
    copy, run = rows(tmp_path)
    assert (copy.pop("run"), copy.pop("status")) == ("copy", "unfinished")
    assert (run.pop("run"), run.pop("status")) == ("run", "done")
    assert copy == run, "the last line of the log is what DONE says"
    assert run["train.steps"] == 12
    assert {k: run[f"final.{k}"] for k in metrics} == metrics
