"""Workers on devices of one and of two processes compute what they do on one device."""

import numpy as np
import pytest
from launching import here, lines, newest, run
from test_several_processes import ended, together

SENDING = (
    "--config=configs/halp_mlp.py:tiny",
    "--config.optim={'name': 'sgd', 'learning_rate': 0.1}",
    "--config.train.batch_size=64",
    "--config.train.steps=20",
    "--config.train.log_every=10",
    "--config.workers.count=2",
    "--config.workers.bits=3",
    "--config.workers.clip=3.0",
    "--config.workers.exempt_below=100",
)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """The folder of two workers on one device."""
    folder = tmp_path_factory.mktemp("simulated") / "run"
    with pytest.MonkeyPatch.context() as patch:
        assert here(patch, *SENDING, f"--workdir={folder}") == 0
    return folder


def assert_same_training(folder, wanted):
    """The same losses to float32's rounding of them, while codes do not fall otherwise."""
    for left, right in zip(lines(folder), lines(wanted), strict=True):
        assert left["step"] == right["step"]
        for name in ("loss", "grad_norm", "test_loss", "batch_loss"):
            if name in right:
                assert left[name] == pytest.approx(right[name], rel=1e-3), name
    assert lines(folder)[-1]["wire_bytes"] == lines(wanted)[-1]["wire_bytes"] > 0


def test_on_two_devices_of_one_process(simulated, tmp_path):
    done = run(
        *SENDING,
        "--config.mesh.data=2",
        f"--workdir={tmp_path / 'run'}",
        variables={"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"},
    )
    assert done.returncode == 0, done.stderr
    assert_same_training(tmp_path / "run", simulated)


@pytest.mark.slow
def test_on_two_processes_over_the_loopback(simulated, tmp_path):
    codes, _, errors = ended(together(tmp_path / "run", *SENDING))
    assert codes == [0, 0], errors
    assert_same_training(tmp_path / "run", simulated)
    assert newest(tmp_path / "run").name == "20"


def test_fewer_devices_than_workers_are_refused_in_a_sentence(capsys, monkeypatch, tmp_path):
    code = here(
        monkeypatch, *SENDING, "--config.workers.count=0", f"--workdir={tmp_path / 'run'}"
    )
    assert code == 2
    assert "config.workers" in capsys.readouterr().err
    assert not np.any([path.exists() for path in tmp_path.glob("run")])
