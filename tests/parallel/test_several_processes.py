"""One run by two processes: what it computes, and how it ends when one of them is lost."""

import json
import os
import signal
import socket

import pytest
from launching import here, lines, run, start, wait_for

TINY = ("--config=configs/halp_mlp.py:tiny", "--config.train.batch_size=50")
TINY += ("--config.train.log_every=20", "--config.train.checkpoint_every=20")
SHORT = (*TINY, "--config.train.steps=60")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def together(folder, *arguments, devices=1, mesh=None, others=None, **flags):
    """Two launches of one run; `others`: the arguments of process 1 if they differ."""
    port = free_port()
    variables = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    pair = []
    for number, given in enumerate((arguments, others or arguments)):
        pair.append(
            start(
                *given,
                f"--config.mesh.data={mesh or 2 * devices}",
                f"--workdir={folder}",
                f"--coordinator=127.0.0.1:{port}",
                "--num_processes=2",
                f"--process_id={number}",
                *(f"--{name}={value}" for name, value in flags.items()),
                variables=variables,
            )
        )
    return pair


def ended(pair, timeout=60):
    """Exit codes, outputs and messages of both, gloo's own greeting apart."""
    try:
        said = [process.communicate(timeout=timeout) for process in pair]
    finally:
        for process in pair:
            process.kill()
    texts = [
        ["".join(x for x in text.splitlines(True) if "[Gloo]" not in x) for text in pipes]
        for pipes in said
    ]
    return [process.returncode for process in pair], *zip(*texts)


def assert_same_numbers(folder, wanted):
    assert [row["step"] for row in lines(folder)] == [row["step"] for row in lines(wanted)]
    for left, right in zip(lines(folder), lines(wanted), strict=True):
        # a code that fell otherwise makes another path, as close as a spacing is small
        for name in ("loss", "grad_norm", "test_loss"):
            assert left[name] == pytest.approx(right[name], rel=1e-2), (left["step"], name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of a run of one process on one device."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    with pytest.MonkeyPatch.context() as patch:
        assert here(patch, *SHORT, f"--workdir={folder}") == 0
    return folder


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_two_processes_make_the_run_of_one(devices, alone, tmp_path):
    folder = tmp_path / "run"
    # 52 samples a batch would be another run; 4 devices need a batch that splits
    batch = () if devices == 1 else ("--config.train.batch_size=100",)
    codes, outputs, errors = ended(together(folder, *SHORT, *batch, devices=devices))
    assert codes == [0, 0], errors
    assert errors == ("", "")
    assert str(folder) in outputs[0]
    assert outputs[1] == ""
    wanted = alone
    if batch:
        wanted = tmp_path / "alone"
        assert run(*SHORT, *batch, f"--workdir={wanted}").returncode == 0
    assert_same_numbers(folder, wanted)
    assert len(list(folder.glob("events.out.*"))) == 1
    record = json.loads((folder / "environment.json").read_text())
    assert record["processes"] == 2
    assert sum(record["devices"].values()) == 2 * devices


@pytest.mark.parametrize("lost", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_a_lost_process_ends_the_run_and_the_same_command_resumes(lost, alone, tmp_path):
    folder = tmp_path / "run"
    pair = together(folder, *TINY, "--config.train.steps=60000")
    try:
        wait_for((folder / "checkpoints" / "40").exists, pair[0])
        pair[lost].kill()
        codes, _, errors = ended(pair)
    finally:
        for process in pair:
            process.kill()
    assert codes[lost] == -signal.SIGKILL
    assert codes[1 - lost] == 1
    said = errors[1 - lost]
    assert said.count("\n") == 1, said
    assert said.startswith(f"process {lost} was lost at about step ")
    assert said.endswith(", and the same command resumes there\n")
    step = int(said.partition("the last checkpoint is step ")[2].partition(",")[0])
    assert (folder / "checkpoints" / str(step)).is_dir()
    assert step >= 20


def killed(folder, steps):
    """Leaves a run of two processes, of which one was killed after a checkpoint."""
    pair = together(folder, *SHORT[:-1], f"--config.train.steps={steps}")
    try:
        wait_for((folder / "checkpoints" / "20").exists, pair[0])
    finally:
        for process in pair:
            process.kill()
            process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_what_a_killed_pair_began_ends_with_the_same_numbers(processes, tmp_path):
    folder, wanted = tmp_path / "run", tmp_path / "wanted"
    killed(folder, 200)
    assert not (folder / "DONE").exists()
    arguments = (*SHORT[:-1], "--config.train.steps=200")
    if processes == 1:
        done = run(*arguments, f"--workdir={folder}")
        codes, errors = [done.returncode], done.stderr
    else:
        codes, _, errors = ended(together(folder, *arguments))
        errors = "".join(errors)
    assert codes == [0] * processes, errors
    assert errors.count("resumes at step") == 1
    assert run(*arguments, f"--workdir={wanted}").returncode == 0
    assert_same_numbers(folder, wanted)


@pytest.mark.slow
def test_a_signal_to_any_process_stops_all_at_one_step(tmp_path):
    folder = tmp_path / "run"
    pair = together(folder, *TINY, "--config.train.steps=60000")
    wait_for((folder / "checkpoints" / "20").exists, pair[0])
    pair[1].send_signal(signal.SIGTERM)
    codes, _, errors = ended(pair)
    assert codes == [0, 0]
    assert errors[0] == errors[1]
    assert errors[0].startswith("stopped at step ")


@pytest.mark.slow
def test_a_process_that_hangs_is_lost_too(tmp_path):
    folder = tmp_path / "run"
    pair = together(folder, *TINY, "--config.train.steps=60000")
    wait_for((folder / "checkpoints" / "20").exists, pair[0])
    pair[1].send_signal(signal.SIGSTOP)
    try:
        _, said = pair[0].communicate(timeout=60)
    finally:
        pair[1].kill()
        pair[1].communicate()
        pair[0].kill()
    assert pair[0].returncode == 1
    assert said.count("\n") == 1, said
    assert said.startswith("process 1 was lost at about step ")


def test_a_refusal_by_process_0_is_heard_by_the_other(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "stranger").touch()
    codes, _, errors = ended(together(folder, *SHORT))
    assert codes == [2, 1]
    assert "no run folder" in errors[0]
    assert errors[1].startswith("process 0 gave up (")
    assert "no run folder" in errors[1]
    assert [text.count("\n") for text in errors] == [1, 1]


def test_processes_with_different_commands_are_refused(tmp_path):
    other = (*SHORT, "--config.seed=5")
    codes, _, errors = ended(together(tmp_path / "run", *SHORT, others=other))
    assert codes == [1, 1]
    assert errors[0] == errors[1]
    assert errors[0].startswith("process 1 was given another command than process 0; give")
    assert not (tmp_path / "run").exists()


def test_a_mesh_must_hold_the_devices_of_all_processes(tmp_path):
    codes, _, errors = ended(together(tmp_path / "run", *SHORT, mesh=1))
    sentence = "config.mesh.data = 1 must be 2, all devices of the 2 processes together\n"
    assert codes[0] == 2
    assert sentence in errors
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("process", "words"),
    [
        (1, ("no coordinator answers at 127.0.0.1:", "within 0.5 s", "--wait_s")),
        (0, ("process 1 of 2 did not come to 127.0.0.1:", "within 0.5 s", "--process_id")),
    ],
)
def test_who_waits_in_vain_says_so(process, words, monkeypatch, capsys, tmp_path):
    """In this process, because neither reaches jax."""
    flags = (f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2", "--wait_s=0.5")
    folder = tmp_path / "run"
    arguments = (*SHORT, *flags, f"--process_id={process}", f"--workdir={folder}")
    assert here(monkeypatch, *arguments) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    for word in words:
        assert word in said
    assert not folder.exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--coordinator=a:1",), ("--num_processes", "go together")),
        (("--process_id=0",), ("--coordinator=HOST:PORT", "go together")),
        (("--coordinator=a:1", "--num_processes=2", "--process_id=2"), ("=2 must be 0 to 1",)),
        (("--coordinator=a:1", "--num_processes=2", "--process_id=-1"), ("must be 0 to 1",)),
        (("--coordinator=a:1", "--num_processes=1", "--process_id=0"), ("at least 2",)),
        (("--coordinator=a", "--num_processes=2", "--process_id=0"), ("HOST:PORT",)),
        (("--coordinator=a:b", "--num_processes=2", "--process_id=0"), ("HOST:PORT",)),
        (("--coordinator=:1", "--num_processes=2", "--process_id=0"), ("HOST:PORT",)),
        (("--coordinator=a:70000", "--num_processes=2", "--process_id=0"), ("1 to 65535",)),
        (
            ("--coordinator=a:1", "--num_processes=2", "--process_id=0", "--wait_s=0"),
            ("--wait_s=0", "positive"),
        ),
        (
            ("--coordinator=a:1", "--num_processes=2", "--process_id=0", "--dry_run"),
            ("--dry_run", "leave it out"),
        ),
    ],
)
def test_wrong_usage(flags, words, monkeypatch, capsys):
    assert here(monkeypatch, *SHORT, *flags) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    for word in words:
        assert word in said


def test_only_a_single_run_is_made_by_several_processes(monkeypatch, capsys):
    flags = ("--experiment=halp_regression", "--coordinator=a:1", "--num_processes=2")
    assert here(monkeypatch, *flags, "--process_id=0") == 2
    assert "--coordinator means nothing together with --experiment" in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(monkeypatch, capsys, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = (f"--coordinator={address}", "--num_processes=2", "--process_id=0")
        assert here(monkeypatch, *SHORT, *flags, f"--workdir={tmp_path / os.pardir}") == 1
    said = capsys.readouterr().err
    assert said.startswith(f"process 0 cannot listen at --coordinator={address} (Address")
