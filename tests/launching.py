"""Launching runs in tests, as a user does and in this process, and comparing what they left."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

import launch

ROOT = Path(__file__).parent.parent
TINY = "--config=configs/halp_regression.py:tiny"


def environment(**further):
    """The variables of a launch: this process's device and compile cache."""
    cache = jax.config.jax_compilation_cache_dir
    return {
        **{name: value for name, value in os.environ.items() if name != "LPML_DATA"},
        "JAX_PLATFORMS": jax.default_backend(),
        "JAX_COMPILATION_CACHE_DIR": cache,
        **further,
    }


def start(*arguments, cwd=ROOT, variables=(), **options):
    """A launch as a process of its own, with further environment variables."""
    command = [sys.executable, "launch.py", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    env = environment(**dict(variables))
    return subprocess.Popen(command, cwd=cwd, env=env, text=True, **pipes)


def run(*arguments, timeout=120, **options):
    """A launch as a process of its own, to its end; the stderr is that of a pipe."""
    process = start(*arguments, **options)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def here(monkeypatch, *arguments):
    """A launch in this process, which is faster; gives the exit code."""
    for name in ("JAX_PLATFORMS", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.setenv(name, environment()[name])
    monkeypatch.delenv("LPML_DATA", raising=False)
    monkeypatch.chdir(ROOT)
    return launch.main(["launch.py", *map(str, arguments)])


def wait_for(condition, process, timeout=60):
    """Waits until `condition()` holds; fails if the process ends before."""
    end = time.monotonic() + timeout
    while not condition():
        if process.poll() is not None:
            raise AssertionError(f"ended too early: {process.communicate()}")
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)


def lines(folder):
    """The lines of metrics.jsonl without what depends on the machine's speed."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "steps_per_second"} for row in rows]


def newest(folder):
    """Folder of the newest checkpoint."""
    found = [path for path in (folder / "checkpoints").glob("*") if path.name.isdigit()]
    return max(found, key=lambda path: int(path.name))


def assert_same_end(folder, wanted):
    """Both runs are finished, with the same log and, bit by bit, the same last checkpoint."""
    from orbax.checkpoint import v1 as ocp

    assert lines(folder) == lines(wanted)
    assert newest(folder).name == newest(wanted).name
    left, right = (ocp.load(newest(path)) for path in (folder, wanted))
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].dtype == right[name].dtype
        assert np.asarray(left[name]).tobytes() == np.asarray(right[name]).tobytes(), name
    done = [json.loads((path / "DONE").read_text()) for path in (folder, wanted)]
    for mark in done:
        mark.pop("steps_per_second", None)
    assert done[0] == done[1]
