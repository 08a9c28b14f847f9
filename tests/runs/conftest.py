"""Run folders made by hand."""

import json

import pytest


@pytest.fixture
def make(tmp_path):
    """make(name, config, done=..., lines=...) writes a run folder below `tmp_path / "runs"`."""

    def make(name, config=None, *, done=None, lines=()):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / ".lock").write_text("1\n")
        config = {"seed": 1} if config is None else config
        (folder / "config.json").write_text(json.dumps(config))
        if lines:
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (folder / "metrics.jsonl").write_text(text)
        if done is not None:
            (folder / "DONE").write_text(json.dumps(done))
        return folder

    return make


@pytest.fixture
def sweep(make, tmp_path):
    """Two widths x three seeds of HALP, and SGD, which has no bits; one run is unfinished."""
    for bits in (16, 4):
        for seed in (1, 2, 3):
            config = {
                "seed": seed,
                "optim": {"name": "halp", "bits": bits, "mu": None},
                "data": {"dir": f"data{seed}"},
            }
            last = {"step": 20, "loss": seed / bits, "steps_per_second": 1e4 + seed}
            finished = (bits, seed) != (4, 2)
            make(
                f"bits={bits},seed={seed}",
                config,
                lines=[{**last, "step": 10}, {**last, "loss": 50.0}],
                done=last if finished else None,
            )
    sgd = {"seed": 1, "optim": {"name": "sgd"}, "data": {"dir": None}}
    make("sgd", sgd, done={"step": 20, "loss": 0.125})
    return tmp_path / "runs"
