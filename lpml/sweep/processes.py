"""The engine of `--jobs=N`: every point in a process of its own, N at a time."""

import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from lpml.build import ConfigError
from lpml.sweep.devices import settings, visible_devices
from lpml.sweep.endings import cause, read_mark
from lpml.sweep.jobs import Job, Outcome
from lpml.sweep.monitor import Monitor

LOG_NAME = ".worker.log"
_POLL_S = 0.05
_ROOT = str(Path(__file__).parents[2])


def run_in_processes(
    jobs: Sequence[Job],
    *,
    should_stop: Callable[[], bool],
    workers: int,
    devices: Sequence[str] | None = None,
    memory_fraction: float | None = None,
) -> list[Outcome]:
    """Runs every job in a fresh process; see `Engine`.

    A process that crashes or is killed costs its own point alone, and the next launch
    resumes that point from its last checkpoint. What a process says is kept in
    `.worker.log` in its run folder.

    Args:
      jobs: the points to be run.
      should_stop: True has the points under way save their state, and raises `Stopped`.
      workers: processes at a time, >= 1.
      devices: what CUDA_VISIBLE_DEVICES may name, shared out round robin; None means all of
        this machine, and where there are none the workers share the CPU as they like: a
        thread count of their own would change their results in the last bits.
      memory_fraction: of a device's memory for each worker; None shares 0.9 of it evenly.

    Raises:
      ConfigError: a number that cannot be used.
      Stopped: `should_stop` said so; what was under way is saved.
    """
    if workers < 1:
        raise ConfigError(f"the number of worker processes, {workers}, must be at least 1")
    if memory_fraction is not None and not 0 < memory_fraction < 1:
        raise ConfigError(f"the memory fraction {memory_fraction} must lie between 0 and 1")
    workers = min(workers, len(jobs))
    found = visible_devices() if devices is None else devices
    variables = [
        settings(slot, workers=workers, devices=found, memory_fraction=memory_fraction)
        for slot in range(workers)
    ]
    return _Pool(jobs, variables).run(should_stop)


class _Worker(NamedTuple):
    job: Job
    process: subprocess.Popen[bytes]


class _Pool:
    """The workers of one call, each in a slot with variables of its own."""

    def __init__(self, jobs: Sequence[Job], variables: Sequence[Mapping[str, str]]):
        self._waiting = collections.deque(jobs)
        self._variables = variables
        self._slots: dict[int, _Worker] = {}
        self._stopping = False
        self._monitor = Monitor(
            jobs, running=lambda: [worker.job for worker in self._slots.values()]
        )

    def run(self, should_stop):
        outcomes = []
        try:
            while self._slots or (self._waiting and not self._stopping):
                if not self._stopping and should_stop():
                    self._ask_to_stop()
                if not self._stopping:
                    self._fill()
                outcomes += self._collect()
                self._monitor.update()
                time.sleep(_POLL_S)
        finally:
            self._kill()
            self._monitor.done()
        if self._waiting:
            raise self._monitor.stopped()
        return outcomes

    def _fill(self):
        for slot, variables in enumerate(self._variables):
            if slot not in self._slots and self._waiting:
                job = self._waiting.popleft()
                self._slots[slot] = _Worker(job, _start(job, variables))

    def _collect(self):
        ended = [slot for slot, w in self._slots.items() if w.process.poll() is not None]
        outcomes = []
        for slot in ended:
            worker = self._slots.pop(slot)
            _close(worker.process.stdin)
            outcome = _outcome(worker, stopping=self._stopping)
            if outcome is None:
                self._waiting.append(worker.job)
            else:
                self._monitor.ended(outcome)
                outcomes.append(outcome)
        return outcomes

    def _ask_to_stop(self):
        self._stopping = True
        for worker in self._slots.values():
            worker.process.terminate()

    def _kill(self):
        """Ends what an exception in this process, a second Ctrl-C say, has left."""
        for worker in self._slots.values():
            worker.process.kill()
            worker.process.wait()
            _close(worker.process.stdin)


def _start(job, variables):
    os.makedirs(job.folder, exist_ok=True)
    environment = {**os.environ, **variables}
    environment["PYTHONPATH"] = os.pathsep.join(
        [_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    cache = jax.config.jax_compilation_cache_dir
    if cache:
        environment["JAX_COMPILATION_CACHE_DIR"] = cache
    with open(os.path.join(job.folder, LOG_NAME), "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "lpml.sweep.worker"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
            # a Ctrl-C in the terminal is for the parent, which hands it on as a request
            start_new_session=True,
        )
    # the pipe stays open: its end tells the worker that this process is dead
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
    return process


def _close(pipe):
    with contextlib.suppress(BrokenPipeError):
        pipe.close()


def _outcome(worker, *, stopping):
    """What became of a worker that ended; None if it stopped on request. DONE decides."""
    job, code = worker.job, worker.process.returncode
    metrics = read_mark(job.folder)
    if metrics is not None:
        return Outcome(job.name, metrics, None)
    if stopping and code in (0, -signal.SIGTERM):
        return None
    return Outcome(job.name, None, cause(code, os.path.join(job.folder, LOG_NAME)))
