"""Points in processes of their own: the same results, and each death costs one point."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import textwrap

import pytest
from launching import ROOT, assert_same_end, environment, newest, wait_for

from lpml.build import ConfigError
from lpml.runs import Point
from lpml.sweep import run_points, run_serially
from lpml.sweep.devices import settings, visible_devices
from lpml.sweep.processes import run_in_processes

TINY = str(ROOT / "configs" / "halp_regression.py") + ":tiny"
SHORT = {"train.steps": 600, "train.log_every": 200, "train.checkpoint_every": 200}
LONG = {"train.steps": 40000, "train.checkpoint_every": 1000}
LONG_POINTS = [Point(str(seed), TINY, {**LONG, "seed": seed}) for seed in (1, 2)]

# Runs before the worker's own code: what a faulty data source or the kernel might do.
SABOTAGE = """
    import os, signal
    from lpml.training import run
    sound = run.train
    def train(config, folder, **further):
        if folder.endswith("exits"):
            print("no more", flush=True)
            os._exit(3)
        if folder.endswith("killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        return sound(config, folder, **further)
    run.train = train
"""


def in_two(jobs, *, should_stop):
    return run_in_processes(jobs, should_stop=should_stop, workers=2)


def test_a_death_costs_one_point_and_the_next_call_ends_as_one_process_does(
    tmp_path, monkeypatch, capfd
):
    points = [
        Point("exits", TINY, {**SHORT, "seed": 2}),
        Point("killed", TINY, {**SHORT, "precision": "float32"}),
        Point("good", TINY, SHORT),
        Point("bad", TINY + ",svrg", {**SHORT, "optim.learning_rate": 1e30}),
    ]
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(SABOTAGE))
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
        outcomes = {o.name: o for o in run_points(points, str(broken), engine=in_two)}
    log = re.escape(str(broken / "exits" / ".worker.log"))
    assert re.fullmatch(rf".* exit code 3 \(no more\).* {log}.*", outcomes["exits"].failure)
    assert outcomes["killed"].failure == (
        "its process was killed (SIGKILL), out of memory perhaps; the same command tries the "
        "point again"
    ), "it said nothing, so no log is named"
    assert re.fullmatch(r"\w+ is not finite at step .*", outcomes["bad"].failure)
    assert outcomes["good"].failure is None
    said = capfd.readouterr().err
    assert f"failed  exits: {outcomes['exits'].failure}\n" in said
    assert re.search(r"done    good  \(1/4 done\)", said)
    again = run_points(points[:3], str(broken), engine=in_two)
    alone = run_points(points[:3], str(whole), engine=run_serially)
    assert [o.metrics["loss"] for o in again] == [o.metrics["loss"] for o in alone]
    for point in points[:3]:
        assert_same_end(broken / point.name, whole / point.name)


SCRIPT = """
    import sys
    from lpml.runs import Point
    from lpml.sweep import run_points, run_serially
    from lpml.sweep.processes import run_in_processes
    from lpml.training.loop import Stopped
    from lpml.training.signals import stop_on_signals

    def in_two(jobs, *, should_stop):
        return run_in_processes(jobs, should_stop=should_stop, workers=2)

    config, folder, overrides = sys.argv[1], sys.argv[2], eval(sys.argv[3])
    points = [Point(str(seed), config, {**overrides, "seed": seed}) for seed in (1, 2, 3)]
    with stop_on_signals() as should_stop:
        try:
            run_points(points, folder, engine=in_two, should_stop=should_stop)
        except Stopped as stopped:
            sys.exit(str(stopped))
"""


def is_free(folder):
    """Whether no process trains in the folder."""
    with open(folder / ".lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two points that nothing disturbed, by seed."""
    folder = tmp_path_factory.mktemp("whole")
    run_points(LONG_POINTS, str(folder), engine=run_serially)
    return folder


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)]
)
def test_when_the_parent_ends_the_workers_save_and_stop(number, whole, tmp_path):
    folder = tmp_path / "broken"
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), TINY, str(folder), str(LONG)],
        env=environment(PYTHONPATH=str(ROOT)),
        stderr=subprocess.PIPE,
        text=True,
    )
    begun = [folder / "1", folder / "2"]
    try:
        wait_for(lambda: all([*path.glob("checkpoints/*000")] for path in begun), parent)
        parent.send_signal(number)
        _, said = parent.communicate(timeout=60)
    finally:
        parent.kill()
    if number == signal.SIGTERM:
        assert said == "stopped with 0 of 3 points done; the same command goes on there\n"
        assert all(is_free(path) for path in begun)
    with subprocess.Popen(["sleep", "60"]) as clock:
        wait_for(lambda: all(is_free(path) for path in begun), clock)
        clock.kill()
    assert not [*folder.glob("*/DONE")]
    # saved where it stood, and not merely at the last planned checkpoint
    assert any(int(newest(path).name) % 1000 for path in begun)
    run_points(LONG_POINTS, str(folder), engine=run_serially)
    for point in LONG_POINTS:
        assert_same_end(folder / point.name, whole / point.name)


@pytest.mark.parametrize(("workers", "fraction"), [(0, None), (1, 0.0), (1, 1.5)])
def test_numbers_that_cannot_be_used_are_refused(workers, fraction):
    with pytest.raises(ConfigError, match=str(fraction or workers)):
        run_in_processes(
            [], should_stop=lambda: False, workers=workers, memory_fraction=fraction
        )


def shares(workers, devices, fraction=None):
    found = [
        settings(slot, workers=workers, devices=devices, memory_fraction=fraction)
        for slot in range(workers)
    ]
    return [(s["CUDA_VISIBLE_DEVICES"], s["XLA_PYTHON_CLIENT_MEM_FRACTION"]) for s in found]


def test_devices_are_dealt_round_robin_and_their_memory_is_shared():
    assert shares(3, ["a", "b"]) == [("a", "0.45"), ("b", "0.9"), ("a", "0.45")]
    assert shares(2, ["a"], fraction=0.2) == [("a", "0.2"), ("a", "0.2")]
    assert settings(0, workers=2, devices=[], memory_fraction=0.5) == {}


def test_devices_come_from_the_environment_or_from_the_driver(monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-5ca1-ab1e)'\n"
        "echo 'GPU 1: NVIDIA H200 (UUID: GPU-0b5e-55ed)'\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_devices() == ["GPU-5ca1-ab1e", "GPU-0b5e-55ed"]
    with open(tool, "a") as file:
        file.write("echo '  MIG 1g.18gb Device 0: (UUID: MIG-c0ff-ee)'\n")
    assert visible_devices() == ["MIG-c0ff-ee"]
    for listed, wanted in (("2,3", ["2", "3"]), ("", []), ("-1", []), ("1,-1,2", ["1"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
        assert visible_devices() == wanted
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert visible_devices() == []
