"""The native backend as a user meets it: at the command line, with and without a compiler."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from compiling import needs_kernels

ROOT = Path(__file__).parent.parent
pytestmark = needs_kernels


def launch(folder, *flags, **variables):
    words = [
        *(sys.executable, "launch.py", "--config=configs/halp_regression.py:tiny"),
        *(f"--workdir={folder}", *flags),
    ]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **variables}
    return subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def norms(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["grad_norm"] for line in lines]


def test_a_stopped_run_resumes_to_the_same_bits(tmp_path):
    flags = [
        *("--config.optim.backend=native", "--config.optim.mu=auto"),
        *("--config.optim.inner_steps=20000", "--config.train.log_every=400000"),
        *("--config.train.steps=12000000", "--config.train.checkpoint_every=4000000"),
    ]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert launch(whole, *flags).returncode == 0
    command = [sys.executable, "launch.py", "--config=configs/halp_regression.py:tiny"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(
        [*command, f"--workdir={cut}", *flags], cwd=ROOT, env=environment
    ) as stopped:
        log = cut / "metrics.jsonl"
        while stopped.poll() is None and not (log.exists() and len(norms(cut)) >= 3):
            time.sleep(0.01)
        stopped.send_signal(signal.SIGTERM)
    assert len(norms(cut)) < len(norms(whole))
    assert launch(cut, *flags).returncode == 0
    assert norms(cut) == norms(whole)
    assert norms(whole)[-1] < 1e-13 * norms(whole)[0]


def test_without_a_compiler_auto_trains_in_jax_and_says_so_in_a_line(tmp_path):
    bare = {"PATH": str(tmp_path), "LPML_CACHE": str(tmp_path / "cache")}
    done = launch(tmp_path / "auto", "--config.optim.backend=auto", **bare)
    assert done.returncode == 0
    said = [line for line in done.stderr.splitlines() if "takes its path in JAX" in line]
    assert len(said) == 1
    assert "no C++ compiler" in said[0]
    refused = launch(tmp_path / "native", "--config.optim.backend=native", **bare)
    assert refused.returncode == 2
    assert len(refused.stderr.strip().splitlines()) == 1
    assert "no C++ compiler" in refused.stderr


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.optim.bits=6", "8 or 16 bits, not 6"),
        ("--config.optim.threads=0", "threads = 0"),
        ("--config.train.batch_size=4", "not batch_size = 4"),
        ("--config.train.objective=batch", "objective = 'full'"),
    ],
)
def test_what_the_kernels_cannot_do_ends_with_code_2_and_a_sentence(flag, message, tmp_path):
    done = launch(tmp_path / "run", "--config.optim.backend=native", flag)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert message in done.stderr
