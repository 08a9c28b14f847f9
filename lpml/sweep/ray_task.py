"""What runs on a node of a Ray cluster: one point, with the driver's settings of JAX."""

import contextlib
import os
import time
from pathlib import Path
from typing import NamedTuple

import jax

from lpml.sweep.devices import SHARED_FRACTION
from lpml.sweep.endings import IN_WORDS
from lpml.sweep.jobs import Job
from lpml.training.loop import Stopped
from lpml.training.run import enable_compile_cache, train
from lpml.training.run_folder import DamagedFolder, FolderInUse, RunFolder
from lpml.training.signals import stop_on_signals

_POLL_S = 0.5
_TWIN_S = 60.0  # a node that is given up may live a little longer, with its locks
_ROOT = str(Path(__file__).parents[2])
_PASSED_ON = ("JAX_", "XLA_", "LPML_", "TF_CPP_")


class Report(NamedTuple):
    """What a task says; the metrics themselves are in the run's folder."""

    failure: str | None
    stopped: bool = False


def train_point(job: Job, cwd: str) -> Report:
    """The task: one run in its folder, resumed if a twin that died had begun it."""
    with stop_on_signals() as should_stop:  # Ray asks to stop as a Ctrl-C does
        with contextlib.suppress(OSError):
            os.chdir(cwd)  # settings may name data by relative paths
        if not os.path.isdir(job.folder):
            node = os.uname().nodename
            return Report(
                f"the node {node} does not see {job.folder}: give a --workdir that all nodes "
                "share"
            )
        enable_compile_cache()
        _await_twin(job.folder, should_stop)
        try:
            train(job.config, job.folder, hparams=job.hparams, should_stop=should_stop)
        except Stopped:
            return Report(None, stopped=True)
        except IN_WORDS as error:
            return Report(" ".join(str(error).split()))
    return Report(None)


def _await_twin(folder, should_stop):
    """Waits for the lock of a task that Ray gave up but that has not died yet."""
    end = time.monotonic() + _TWIN_S
    while time.monotonic() < end and not should_stop():
        try:
            RunFolder(folder).close()
            return
        except DamagedFolder:
            return  # the training says it
        except FolderInUse:
            time.sleep(_POLL_S)


def variables(gpus: float) -> dict[str, str]:
    """The environment of a task: this process's settings of JAX, and where lpml lies."""
    found = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    cache = getattr(jax.config, "jax_compilation_cache_dir", None)
    if cache:
        found["JAX_COMPILATION_CACHE_DIR"] = os.path.abspath(cache)
    # a path that a node does not have is passed over there, and an installed lpml is found
    paths = [_ROOT, os.environ.get("PYTHONPATH")]
    found["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    # Ray would set the CPUs asked for, and a sum's last bits may depend on the threads
    cores = str(len(os.sched_getaffinity(0)))
    found["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", cores)
    if gpus:
        fraction = SHARED_FRACTION * min(gpus, 1)
        found.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{fraction:.4g}")
    else:
        found.setdefault("JAX_PLATFORMS", "cpu")
    return found
