"""One run on several devices: the work is split, and what it computes is that of one device."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from launching import environment, here, lines, newest, run, start, wait_for

from lpml.build import ConfigError
from lpml.config import as_plain, load, override
from lpml.parallel import placement
from lpml.training.assemble import assemble

# 50 samples a batch: the config's own 25 do not split in two
MLP = ("--config=configs/halp_mlp.py:tiny", "--config.train.batch_size=50")
TWO = {"JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu"}
KINDS = ("halp", "lenet")
MORE = [
    pytest.param(kind, marks=pytest.mark.slow) for kind in ("svrg", "lenet halp", "lm_halp")
]
every_kind = pytest.mark.parametrize("kind", [*KINDS, *MORE])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """`trained(kind, size)`: leaves, lines and facts of a kind on `size` devices."""
    folder = tmp_path_factory.mktemp("trained")
    script = Path(__file__).parent / "trained.py"

    def results(kind, size):
        if not (folder / f"{kind}-{size}.json").exists():
            kinds = ",".join(KINDS) if kind in KINDS else kind
            command = [sys.executable, str(script), str(folder), "1,4", kinds]
            variables = environment(JAX_PLATFORMS="cpu")
            subprocess.run(command, env=variables, check=True, timeout=300)
        said = json.loads((folder / f"{kind}-{size}.json").read_text())
        with np.load(folder / f"{kind}-{size}.npz") as leaves:
            return dict(leaves), said["lines"], said["facts"]

    return results


@every_kind
def test_the_state_is_that_of_one_device_to_rounding(trained, kind):
    one, four = (trained(kind, size)[0] for size in (1, 4))
    assert one.keys() == four.keys()
    # A gradient summed in another order moves by some 1e-7 of itself. A code whose rounding
    # the noise decides within that distance becomes its neighbour: few do, and each moves
    # its weight by one spacing.
    spacing = max((float(one[n]) for n in one if ".scale" in n), default=0.0)
    for name, leaf in one.items():
        distance = np.abs(leaf.astype(float) - four[name].astype(float))
        if leaf.dtype.kind in "iu":
            assert np.mean(distance != 0) <= 1e-2, name
            assert np.max(distance, initial=0) <= 1, name
            continue
        size = max(np.max(np.abs(leaf), initial=0), 1e-3)
        assert np.max(distance, initial=0) <= 1e-5 * size + spacing, name
        assert np.mean(distance > 1e-5 * size) <= 1e-2 or leaf.ndim == 0, name


@every_kind
def test_the_lines_of_the_log_are_those_of_one_device_to_rounding(trained, kind):
    one, four = (trained(kind, size)[1] for size in (1, 4))
    for left, right in zip(one, four, strict=True):
        assert left.keys() == right.keys()
        for name, value in left.items():
            assert right[name] == pytest.approx(value, rel=1e-4, abs=1e-7), name


@every_kind
def test_each_device_takes_its_part_of_a_batch_and_one_sum_joins_them(trained, kind):
    alone, split = (trained(kind, size)[2] for size in (1, 4))
    assert (alone["devices"], split["devices"]) == (1, 4)
    assert alone["whole_batch"]
    assert not split["whole_batch"]
    assert split["part_of_a_batch"]
    assert alone["all_reduces"] == 0
    assert split["all_reduces"] >= 1
    assert split["carry_is_whole"]


def test_one_device_needs_no_mesh():
    place = placement(1)
    rows = np.arange(6).reshape(2, 3)
    assert place.devices == 1
    assert place.indices(rows) is rows
    assert place.split(rows) is rows
    assert place.whole(rows) is rows


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, ("config.mesh.data = 0", "at least 1")),
        (-1, ("config.mesh.data = -1", "at least 1")),
        (4096, ("config.mesh.data = 4096", "devices present", "give at most")),
        (True, ("config.mesh.data = True", "a whole number")),
    ],
)
def test_a_mesh_that_cannot_be_is_refused(value, words):
    config = as_plain(load("configs/halp_mlp.py:tiny")) | dict(mesh=dict(data=value))
    with pytest.raises(ConfigError) as refusal:
        assemble(config)
    for word in words:
        assert word in str(refusal.value)


def test_a_batch_that_does_not_split_evenly_is_refused(tmp_path):
    arguments = ("--config=configs/halp_mlp.py:tiny", "--config.mesh.data=2")
    done = run(*arguments, f"--workdir={tmp_path / 'run'}", variables=TWO)
    assert done.returncode == 2
    assert done.stderr == (
        "config.train: batch_size = 25 does not split evenly over config.mesh.data = 2 "
        "devices; make it a multiple of 2\n"
    )
    assert not (tmp_path / "run").exists()


def test_every_config_has_a_mesh_and_keeps_silent_about_one_device():
    config = load("configs/halp_mlp.py:tiny")
    assert config.mesh.data == 1
    assert "mesh" not in as_plain(config)
    spread = override(config, {"mesh.data": 8})
    assert as_plain(spread)["mesh"] == {"data": 8}
    with pytest.raises(ConfigError, match=r"mesh\.dta"):
        override(config, {"mesh.dta": 8})


@pytest.mark.slow
def test_a_run_begun_on_two_devices_goes_on_with_one(tmp_path, monkeypatch, caplog):
    whole, folder = tmp_path / "whole", tmp_path / "run"
    long = (
        *MLP,
        "--config.train.log_every=100",
        "--config.train.steps=1000",
        "--config.train.checkpoint_every=100",
    )
    process = start(*long, "--config.mesh.data=2", f"--workdir={folder}", variables=TWO)
    try:
        wait_for((folder / "checkpoints" / "200").exists, process)
    finally:
        process.kill()
        process.communicate()
    assert json.loads((folder / "config.json").read_text())["mesh"] == {"data": 2}
    record = json.loads((folder / "environment.json").read_text())
    assert sum(record["devices"].values()) == 2
    assert here(monkeypatch, *long, f"--workdir={folder}") == 0
    assert "resumes at step" in caplog.text
    assert here(monkeypatch, *long, f"--workdir={whole}") == 0
    assert newest(folder).name == newest(whole).name == "1000"
    # a code that fell otherwise makes another path to the same place
    assert [row["step"] for row in lines(folder)] == [row["step"] for row in lines(whole)]
    for left, right in zip(lines(folder), lines(whole), strict=True):
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-2)
