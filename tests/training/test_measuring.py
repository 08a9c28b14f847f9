"""Runs that measure: lines of the log, stops, failures, and what does not go with them."""

import json

import pytest

from lpml import measurements
from lpml.build import ConfigError
from lpml.measurements import Measurement
from lpml.sweep.jobs import Job
from lpml.sweep.metrics import choose_metric
from lpml.training import assemble
from lpml.training.loop import RunFailed, Stopped
from lpml.training.run import train
from tests.launching import here


def squares(*, last: int = 3, wrong_at: int = 0) -> Measurement:
    """Squares of seed + step; not finite at `wrong_at`."""

    def lines(seed):
        for step in range(1, last + 1):
            yield {"square": float("nan") if step == wrong_at else float(seed + step) ** 2}

    return Measurement(lines, last, ("square",))


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(measurements, "squares", squares, raising=False)
    monkeypatch.setattr(measurements, "__all__", [*measurements.__all__, "squares"])
    assemble.families.cache_clear()
    yield
    assemble.families.cache_clear()


def config(**settings):
    return dict(seed=2, precision="float32", measurement=dict(name="squares", **settings))


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_every_line_is_logged_and_the_last_is_the_result(tmp_path):
    seen = []
    final = train(
        config(), str(tmp_path / "run"), on_log=lambda step, m: seen.append((step, m))
    )
    assert final == {"step": 3, "square": 25.0}
    assert rows(tmp_path / "run") == [{"step": s, "square": (2.0 + s) ** 2} for s in (1, 2, 3)]
    assert seen == [(s, {"square": (2.0 + s) ** 2}) for s in (1, 2, 3)]
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_one_that_was_stopped_begins_anew(tmp_path):
    answers = iter([False, True])
    with pytest.raises(Stopped):
        train(config(), str(tmp_path / "run"), should_stop=lambda: next(answers))
    assert not (tmp_path / "run" / "DONE").exists()
    assert train(config(), str(tmp_path / "run"))["square"] == 25.0
    assert [row["step"] for row in rows(tmp_path / "run")] == [1, 2, 3]


def test_what_is_not_finite_fails_with_its_name(tmp_path):
    with pytest.raises(RunFailed, match="square is not finite at step 2"):
        train(config(wrong_at=2), str(tmp_path / "run"))
    assert (tmp_path / "run" / "FAILED").exists()


def test_a_section_of_trainings_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"config\.optim is not .* that measures"):
        train({**config(), "optim": {"name": "sgd"}}, str(tmp_path / "run"))


def test_sweeps_compare_by_the_first_metric():
    job = Job("a", config(), "a", ())
    assert choose_metric([job]).name == "square"
    with pytest.raises(ConfigError, match="there are square"):
        choose_metric([job], "loss")


def test_several_processes_are_refused(monkeypatch, capsys):
    together = ("--coordinator=localhost:1", "--num_processes=2", "--process_id=0")
    assert here(monkeypatch, "--config=configs/posit_gemm.py:tiny", *together) == 2
    assert "a measurement runs in one process" in capsys.readouterr().err
