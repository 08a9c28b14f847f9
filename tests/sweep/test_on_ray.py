"""Points as tasks of a Ray cluster: a node dies in the middle, and nothing is lost."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest
from launching import ROOT, assert_same_end, environment, newest, wait_for

from lpml.build import ConfigError
from lpml.runs import Point
from lpml.sweep import Job, cluster, run_points, run_serially
from lpml.sweep import ray_task as task
from lpml.sweep.on_ray import run_on_ray
from lpml.training.loop import RunFailed
from lpml.training.run_folder import RunFolder

TINY = str(ROOT / "configs" / "halp_regression.py") + ":tiny"
LONG = {"train.steps": 40000, "train.checkpoint_every": 1000}
LONG_POINTS = [Point(str(seed), TINY, {**LONG, "seed": seed}) for seed in (1, 2, 3)]

# In a process of its own: Ray warns of what it does itself, and pytest makes that errors.
SWEEP = """
    import json, sys
    from lpml.runs import Point
    from lpml.sweep import run_points, run_serially
    from lpml.sweep.on_ray import run_on_ray
    from lpml.training.loop import Stopped
    from lpml.training.signals import stop_on_signals

    folder, points, options = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])

    def engine(jobs, *, should_stop):
        return run_on_ray(jobs, should_stop=should_stop, **options)

    def sweep():
        with stop_on_signals() as should_stop:
            try:
                made = [Point(*point) for point in points]
                done = run_points(made, folder, engine=engine, should_stop=should_stop)
                print("\\n" + json.dumps([outcome.failure for outcome in done]))
            except Stopped as stopped:
                sys.exit(str(stopped))
"""
ALONE = SWEEP + "\n    sweep()\n"
# Two nodes of a CPU each; the one that trains the point of the first checkpoint is killed.
WITH_A_DEATH = (
    SWEEP
    + """
    import os, pathlib, signal, threading, time
    from ray.cluster_utils import Cluster

    def of_process(pid):
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

    def kill():
        while True:
            time.sleep(0.01)
            found = sorted(pathlib.Path(folder).glob("*/checkpoints/*000"))
            if found:
                break
        victim = found[0].parent.parent
        raylet = of_process(int((victim / ".lock").read_text()))
        assert raylet in raylets, (raylet, raylets)
        children = [int(p.name) for p in pathlib.Path("/proc").glob("[0-9]*")
                    if (p / "stat").exists() and of_process(p.name) == raylet]
        for process in (raylet, *children):
            os.kill(process, signal.SIGKILL)
        done = (victim / "DONE").exists()
        os.write(1, json.dumps([victim.name, found[0].name, done]).encode() + b"\\n")

    cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=0))
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
    options["address"] = cluster.address
    threading.Thread(target=kill, daemon=True).start()
    sweep()
    cluster.shutdown()
"""
)


def start(script, folder, points, cwd, **options):
    arguments = [str(folder), json.dumps(points), json.dumps(options)]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        env=environment(PYTHONPATH=str(ROOT), JAX_PLATFORMS="cpu"),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The points in this process."""
    pytest.importorskip("ray")
    folder = tmp_path_factory.mktemp("whole")
    run_points(LONG_POINTS, str(folder), engine=run_serially)
    return folder


@pytest.mark.slow
def test_all_points_end_as_in_one_process_though_a_node_dies(whole, tmp_path):
    folder = tmp_path / "broken"
    process = start(WITH_A_DEATH, folder, LONG_POINTS, tmp_path)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    said = [line for line in out.splitlines() if line.startswith("[")]  # Ray talks too
    (victim, step, done), failures = map(json.loads, said)
    assert failures == [None, None, None]
    assert not done, "killed too late"
    assert int(step) < LONG["train.steps"], victim
    assert "3/3 done" in err
    for point in LONG_POINTS:
        assert_same_end(folder / point.name, whole / point.name)


@pytest.mark.slow
def test_a_stop_saves_what_is_under_way_and_any_engine_goes_on(whole, tmp_path):
    folder = tmp_path / "broken"
    points = [*LONG_POINTS, Point("bad", TINY + ",svrg", {"optim.learning_rate": 1e30})]
    process = start(ALONE, folder, points, tmp_path)
    try:
        wait_for(lambda: [*folder.glob("[0-9]/checkpoints/*000")], process)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "of 4 points done; the same command goes on there" in said.splitlines()[-1]
    saved = [int(newest(path.parent).name) for path in folder.glob("*/checkpoints")]
    assert any(step % 1000 for step in saved), "saved where it stood, not as planned"
    *done, failed = run_points(points, str(folder), engine=run_serially)
    assert [outcome.failure for outcome in done] == [None, None, None]
    assert "not finite" in failed.failure
    for point in LONG_POINTS:
        assert_same_end(folder / point.name, whole / point.name)


@pytest.fixture
def deaf():
    """The port of a server that accepts connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def on_ray(**options):
    return functools.partial(run_on_ray, should_stop=lambda: False, **options)([])


def test_an_address_that_nothing_answers_at_is_said_in_one_sentence():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can take it
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(RunFailed, match=f"no Ray cluster answers at {address}"):
            on_ray(address=address)


def test_a_server_that_is_not_ray_is_waited_for_in_vain_but_not_for_ever(deaf, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr(cluster, "JOIN_S", 0.5)
    with pytest.raises(RunFailed, match="says nothing that Ray understands"):
        on_ray(address=f"ray://127.0.0.1:{deaf}")


SAID = (
    "Traceback (most recent call last):\n"
    "ConnectionError: Could not find any running Ray instance. Please specify the one to "
    "connect to by setting `--address` flag or `RAY_ADDRESS` environment variable.\n"
)


@pytest.mark.parametrize(
    ("address", "said", "words"),
    [
        ("auto", SAID, "no Ray cluster runs on this machine; start one with"),
        ("auto", "RuntimeError: Version mismatch: 1, 2. Mend it.", "(Version mismatch: 1, 2)"),
        ("ray://127.0.0.1:{port}", "", "cannot be joined (exit code 1); if it runs"),
    ],
)
def test_a_cluster_that_cannot_be_joined_leaves_nothing_behind(
    address, said, words, deaf, monkeypatch, refused
):
    pytest.importorskip("ray")
    ended = subprocess.CompletedProcess([], 1, stdout="", stderr=said)
    monkeypatch.setattr(cluster.subprocess, "run", lambda *_, **__: ended)
    flags = (f"--config={TINY}", "--axis=seed=0:2", f"--address={address.format(port=deaf)}")
    told = refused(*flags, code=1)
    assert words in told
    assert "Please" not in told


def test_a_cluster_is_tried_once_and_not_again_for_the_points(monkeypatch):
    pytest.importorskip("ray")
    tried = []
    monkeypatch.setattr(cluster, "_await_answer", lambda address: None)
    monkeypatch.setattr(cluster, "_try_to_join", tried.append)
    cluster.await_cluster.cache_clear()
    for _ in range(2):
        cluster.await_cluster("host:1")
    cluster.await_cluster.cache_clear()
    assert tried == ["host:1"]


@pytest.mark.parametrize("address", ["somewhere", ":6379", "host:port", "host:0", "ray://host"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ConfigError, match="must be host:port, ray://host:port or auto"):
        on_ray(address=address)


@pytest.mark.parametrize("wrong", [{"cpus": 0}, {"gpus": -1}, {"retries": -1}])
def test_resources_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError, match="too few"):
        on_ray(**wrong)


def test_without_ray_the_remedy_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'ray>=2.50'"):
        on_ray()
    monkeypatch.delitem(sys.modules, "ray")
    (tmp_path / "ray").mkdir()  # as Ray's own folder among temporary files
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ConfigError, match=r"pip install 'ray>=2.50'"):
        on_ray()


def test_a_task_waits_for_the_lock_of_a_twin_that_is_dying(tmp_path, monkeypatch):
    held = RunFolder(tmp_path)
    asked = []

    def train(config, folder, **further):
        RunFolder(folder).close()  # refused while the twin lives
        return {}

    def sleep(seconds):
        asked.append(seconds)
        if len(asked) == 3:
            held.close()

    monkeypatch.setattr(task, "train", train)
    monkeypatch.setattr(task, "enable_compile_cache", lambda: None)
    monkeypatch.setattr(task.time, "sleep", sleep)
    job = Job("a", {}, str(tmp_path), ())
    assert task.train_point(job, os.getcwd()) == (None, False)
    assert len(asked) == 3


def test_a_node_that_does_not_see_the_folder_says_so(tmp_path):
    report = task.train_point(Job("a", {}, str(tmp_path / "elsewhere"), ()), os.getcwd())
    assert "does not see" in report.failure
    assert not (tmp_path / "elsewhere").exists(), "it would be trained on a disk of its own"
