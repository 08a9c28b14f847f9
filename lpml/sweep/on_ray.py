"""The engine of `--engine=ray`: every point a task of a Ray cluster."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from lpml.build import ConfigError
from lpml.sweep.cluster import cluster
from lpml.sweep.endings import read_mark
from lpml.sweep.jobs import Job, Outcome
from lpml.sweep.monitor import Monitor
from lpml.sweep.ray_task import Report, train_point, variables

LOG = logging.getLogger("lpml")

_POLL_S = 0.5
_SAVE_S = 120.0
_SHARED_S = 10.0  # a network file system shows other nodes' files late


def run_on_ray(
    jobs: Sequence[Job],
    *,
    should_stop: Callable[[], bool],
    address: str | None = None,
    cpus: float = 1,
    gpus: float = 0,
    retries: int = 3,
) -> list[Outcome]:
    """Runs every job as a task; see `Engine`.

    The run folders must lie where all nodes see them. A task whose worker or node dies is
    given to another one, where it resumes from its last checkpoint.

    Args:
      jobs: the points to be run.
      should_stop: True has the points under way save their state, and raises `Stopped`.
      address: see `lpml.sweep.cluster.cluster`; None starts a cluster on this machine.
      cpus: CPU cores that a point counts for, above 0; it may use more.
      gpus: GPUs of a point, 0 or more; below 1 several points share one. With 0 points
        train on the CPU.
      retries: how often a point is tried again after its worker or node died.

    Raises:
      ConfigError: ray is missing, or an argument that cannot be used.
      RunFailed: no cluster answers at the address.
      Stopped: `should_stop` said so; what was under way is saved.
    """
    for name, value, fits in (
        ("CPUs", cpus, cpus > 0),
        ("GPUs", gpus, gpus >= 0),
        ("retries", retries, retries >= 0),
    ):
        if not fits:
            raise ConfigError(f"{value} {name} for a point are too few")
    jobs = [job._replace(folder=os.path.abspath(job.folder)) for job in jobs]
    for job in jobs:
        os.makedirs(job.folder, exist_ok=True)
    environment = variables(gpus)
    with cluster(address, environment) as ray:
        _check_room(ray, cpus, gpus, may_grow=address is not None)
        task = ray.remote(
            num_cpus=cpus,
            num_gpus=gpus,
            max_retries=retries,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": environment},
        )(train_point)
        return _Flight(ray, task, jobs).run(should_stop)


def _check_room(ray, cpus, gpus, *, may_grow):
    """Refuses what no node can ever run, because Ray would wait for one without end."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        return
    lack = f"no node has the {cpus:g} CPUs and {gpus:g} GPUs that a point asks for"
    if not may_grow:
        raise ConfigError(f"{lack}; ask for less")
    LOG.warning("%s; the points wait until one joins the cluster", lack)


class _Flight:
    """The tasks of one call."""

    def __init__(self, ray: Any, task: Any, jobs: Sequence[Job]):
        self._ray = ray
        self._before = {job.name: _begun(job) for job in jobs}
        self._monitor = Monitor(jobs, running=self._running)
        cwd = os.getcwd()
        self._tasks = {task.options(name=job.name).remote(job, cwd): job for job in jobs}
        self._stop_by: float | None = None

    def run(self, should_stop):
        outcomes, unfinished = [], False
        try:
            while self._tasks and not self._too_late():
                if self._stop_by is None and should_stop():
                    self._ask_to_stop()
                ready, _ = self._ray.wait([*self._tasks], timeout=_POLL_S)
                for reference in ready:
                    outcome = self._outcome(reference, self._tasks.pop(reference))
                    unfinished = unfinished or outcome is None
                    if outcome is not None:
                        self._monitor.ended(outcome)
                        outcomes.append(outcome)
                self._monitor.update()
        finally:
            self._monitor.done()
        if unfinished or self._tasks:
            raise self._monitor.stopped()
        return outcomes

    def _running(self):
        return [job for job in self._tasks.values() if _begun(job) != self._before[job.name]]

    def _ask_to_stop(self):
        self._stop_by = time.monotonic() + _SAVE_S
        for reference in self._tasks:
            self._ray.cancel(reference, force=False)

    def _too_late(self):
        return self._stop_by is not None and time.monotonic() > self._stop_by

    def _outcome(self, reference, job):
        """What became of a task that ended; None if it stopped on request. DONE decides."""
        report = self._report(reference)
        if report.failure is None and not report.stopped:
            metrics = _await_mark(job.folder)
            if metrics is not None:
                return Outcome(job.name, metrics, None)
            report = Report(
                f"it is done, but {job.folder} has no DONE on this machine: give a --workdir "
                "that all nodes share"
            )
        if report.failure is None and self._stop_by is None:
            report = Report("its node asked it to stop; the same command tries it again")
        return None if report.failure is None else Outcome(job.name, None, report.failure)

    def _report(self, reference):
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.TaskCancelledError:
            return Report(None, stopped=True)
        except errors.RayTaskError as error:
            return Report(_first_line(getattr(error, "cause", None) or error))
        except errors.RayError as error:
            return Report(f"its worker or node died too often ({_first_line(error)})")


def _begun(job):
    """Changes when a run begins in the job's folder, on whichever node."""
    with contextlib.suppress(OSError):
        return os.stat(os.path.join(job.folder, "environment.json")).st_mtime_ns
    return None


def _await_mark(folder):
    end = time.monotonic() + _SHARED_S
    while (metrics := read_mark(folder)) is None and time.monotonic() < end:
        os.listdir(folder)  # has a network file system look again
        time.sleep(_POLL_S)
    return metrics


def _first_line(error):
    words = (str(error).strip() or "no message").splitlines()
    if any("No module named 'lpml'" in line for line in words):
        return "the nodes do not find lpml: install it there or keep it in a folder they share"
    return f"{type(error).__name__}: {words[0]}"
