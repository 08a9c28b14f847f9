"""Points that differ only in numbers run as one compiled program under `vmap`."""

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np

from lpml.sweep.endings import IN_WORDS
from lpml.sweep.grouping import apart, chunk_size, group_jobs, load
from lpml.sweep.jobs import Job, Outcome, carry_shapes
from lpml.sweep.monitor import Monitor
from lpml.sweep.serial import run_labelled
from lpml.training.loop import Outputs, RunFailed, fit
from lpml.training.many import ManyPrograms
from lpml.training.pure import Carry
from lpml.training.recording import Recording
from lpml.training.run_folder import RunFolder

LOG = logging.getLogger("lpml")

# Saving P runs costs P times what one costs, so not every checkpoint of the schedule is
# written: saving takes at most this share of the time. The end and a stop always save.
SHARE_OF_SAVING = 0.05
SECONDS_PER_SAVE = 0.03  # of one run, until it is measured
_SKIPPED = f"; checkpoints that would take over {SHARE_OF_SAVING:.0%} of the time are skipped"


def run_vectorised(
    jobs: Sequence[Job], *, should_stop: Callable[[], bool], chunk: int | None = None
) -> list[Outcome]:
    """Runs the jobs in as few compiled programs as they allow; see `Engine`.

    Jobs that differ only in seed, in the numbers an optimizer takes traced, or in the
    contents of their data share a program. What shares one with nobody runs by itself.

    Args:
      jobs: what to run.
      should_stop: asked about twice a second.
      chunk: most jobs in one program; default: what fits in memory.
    """
    groups = group_jobs(jobs)
    if len(groups) > 1:
        LOG.info("%d programs: %s differ", len(groups), ", ".join(apart(groups)))
    for group in groups:
        LOG.info("%s%s", group, "" if group.alone else _SKIPPED)
    running: list[Job] = []
    monitor = Monitor(jobs, running=lambda: running)
    outcomes: list[Outcome] = []
    try:
        for group in groups:
            if group.alone:
                labels = (f"{number}/{len(jobs)}" for number in itertools.count(monitor.count))
                new = run_labelled(group.jobs, labels, should_stop=should_stop)
                for outcome in new:
                    monitor.ended(outcome, announce=False)
            else:
                with jax.enable_x64(group.precision == "float64"):
                    new = _run_group(group, chunk, monitor, running, should_stop)
            outcomes += new
    finally:
        monitor.done()
    return outcomes


def _run_group(group, chunk, monitor, running, should_stop):
    most = chunk or chunk_size(group)
    outcomes, waiting = [], list(group.jobs)
    while waiting:
        part, waiting = waiting[:most], waiting[most:]
        running[:] = part
        try:
            new = _run_chunk(group, part, monitor, should_stop)
            for outcome in new:
                monitor.ended(outcome, announce=False)
            outcomes += new
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or most == 1:
                raise
            most = len(part) // 2 or 1
            waiting = part + waiting
            LOG.info("out of memory: going on with %d points at a time", most)
    return outcomes


def _run_chunk(group, jobs, monitor, should_stop):
    """Runs jobs side by side; those that resume at another step than the rest follow."""
    with contextlib.ExitStack() as stack:
        opened, outcomes = [], []
        for job in jobs:
            try:
                opened.append((job, _open(job, len(jobs), stack)))
            except IN_WORDS as error:
                outcomes.append(Outcome(job.name, None, str(error)))
        for start in sorted({recording.start for _, recording in opened}):
            together, recordings = zip(*(each for each in opened if each[1].start == start))
            outcomes += _fit_side_by_side(group, together, recordings, monitor, should_stop)
        return outcomes


def _open(job, side_by_side, stack):
    """The recording of a job, which the stack closes."""
    folder = stack.enter_context(RunFolder(job.folder))
    recording = Recording(
        folder,
        job.config,
        carry_shapes(job.config),
        steps=job.steps,
        hparams=job.hparams,
        side_by_side=side_by_side,
    )
    stack.callback(recording.close)
    return recording


def _fit_side_by_side(group, jobs, recordings, monitor, should_stop):
    for recording in recordings:
        recording.stopwatch.restart(sharing=len(recordings))
    programs, schedule = load(jobs)
    many = ManyPrograms(
        programs,
        group.settings(jobs),
        group.make_tx(programs[0]),
        likes=[carry_shapes(job.config) for job in jobs],
    )
    start = recordings[0].start
    outputs = ManyOutputs(many, [recording.outputs for recording in recordings], monitor)
    if start:
        carry = many.stacked([recording.carry for recording in recordings])
    else:
        carry = many.init([job.config["seed"] for job in jobs])
    with contextlib.suppress(AllFailed):
        fit(many, carry, schedule, outputs=outputs, start=start, should_stop=should_stop)
    outcomes = []
    for i, (job, recording) in enumerate(zip(jobs, recordings)):
        failure = outputs.failures.get(i)
        try:
            metrics = None if failure else recording.finish()
        except RunFailed as error:
            metrics, failure = None, str(error)
        if failure:
            recording.fail(failure)
        outcomes.append(Outcome(job.name, metrics, failure))
    return outcomes


class AllFailed(Exception):
    """No training of a chunk can go on."""


class ManyOutputs:
    """The outputs of runs side by side: what one of them cannot write fails that one alone.

    Args:
      many: the program.
      outputs: one per run.
      monitor: the line that shows how far the sweep is.

    Attributes:
      failures: reasons by number of the run.
    """

    def __init__(self, many: ManyPrograms, outputs: Sequence[Outputs], monitor: Monitor):
        self._many, self._outputs, self._monitor = many, outputs, monitor
        self._saving = _SavingTime(SECONDS_PER_SAVE * len(outputs))
        self.failures: dict[int, str] = {}

    def check(self, carry: Carry) -> None:
        """Waits for the device and notes which runs have a bad loss."""
        bad_steps = np.asarray(carry.bad_step)
        for i in self._alive():
            if bad_steps[i] >= 0:
                self._note(i, lambda o, bad=bad_steps[i]: o.fail("loss", int(bad)))
        if not self._alive():
            raise AllFailed

    def reached(self, step: int) -> None:
        """Shows how far the runs are."""
        del step  # the monitor reads it from the logs
        self._monitor.update()

    def write(
        self, step: int, metrics: Sequence[dict[str, float]], *, rate: float | None
    ) -> None:
        """A line in the log of every run that goes on."""
        for i in self._alive():
            self._note(i, lambda o, line=metrics[i]: o.write(step, line, rate=rate))
        self.reached(step)
        if not self._alive():
            raise AllFailed

    def save(self, step: int, carry: Carry, *, required: bool) -> None:
        """A checkpoint of every run that goes on, unless the last ones are too fresh."""
        if not required and not self._saving.due():
            return
        with self._saving:
            alive = self._alive()
            for i, single in zip(alive, self._many.split(carry, alive)):
                self._outputs[i].save(step, single, required=required)

    def _alive(self):
        return [i for i in range(len(self._outputs)) if i not in self.failures]

    def _note(self, i, write):
        try:
            write(self._outputs[i])
        except RunFailed as failure:
            self.failures[i] = str(failure)


class _SavingTime:
    """How long saving takes, and whether it is worth its time again; a context of a save."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._last > self._seconds / SHARE_OF_SAVING

    def __enter__(self):
        self._last = time.monotonic()

    def __exit__(self, *_):
        now = time.monotonic()
        self._seconds, self._last = now - self._last, now
