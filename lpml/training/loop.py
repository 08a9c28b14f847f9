"""The training loop: steps between events, and the events."""

import dataclasses
import math
import time
from collections.abc import Callable

from lpml.training.checkpoint import Checkpoints
from lpml.training.events import EventWriter
from lpml.training.metrics_log import MetricsLog
from lpml.training.program import Carry, Program
from lpml.training.progress import Progress

# One call of the compiled loop aims at this long, so that a signal is answered soon.
SECONDS_PER_CALL = 0.5


class RunFailed(RuntimeError):
    """A training that cannot go on; the message is one sentence with the step and the cause."""


class Stopped(Exception):
    """A training that saved its state because it was asked to stop."""

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}; the same command resumes there")
        self.step = step


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When things happen, in steps.

    Args:
      steps: length of the training, >= 1.
      log_every: steps between two lines of the log (and evaluations).
      checkpoint_every: steps between two checkpoints.
      refresh_every: steps between two passes of the algorithm over the data, or None.
    """

    steps: int
    log_every: int
    checkpoint_every: int
    refresh_every: int | None = None

    def __post_init__(self):
        for name in ("steps", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 1")

    def next_event(self, step: int) -> int:
        """The first step after `step` at which something happens."""
        intervals = (self.log_every, self.checkpoint_every, self.refresh_every)
        due = [(step // every + 1) * every for every in intervals if every]
        return min(*due, self.steps)


@dataclasses.dataclass
class Outputs:
    """Where a run writes."""

    checkpoints: Checkpoints
    log: MetricsLog
    events: EventWriter
    progress: Progress


def fit(
    program: Program,
    carry: Carry,
    schedule: Schedule,
    *,
    outputs: Outputs,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Trains from `carry` to the end of the schedule.

    Args:
      program: the compiled functions.
      carry: where to start: fresh or restored; it is donated.
      schedule: when to log, save and refresh.
      outputs: where to write.
      should_stop: asked between calls; True saves a checkpoint and raises `Stopped`.

    Raises:
      RunFailed: the loss, or a metric at a line of the log, is not finite.
      Stopped: see `should_stop`.
    """
    pace = _Pace(program.batches.rows)
    step = int(carry.state.step)
    metrics: dict[str, float] = {}
    if step == 0:
        carry, metrics = _log(program, carry, 0, outputs=outputs, rate=None)
    while step < schedule.steps:
        if schedule.refresh_every and step % schedule.refresh_every == 0:
            carry = program.refresh(carry)
        event = schedule.next_event(step)
        while step < event:
            count = min(pace.steps, event - step)
            started = time.perf_counter()
            carry = program.run(carry, step, count)
            bad = int(carry.bad_step)  # waits for the device
            pace.learn(count, time.perf_counter() - started)
            if bad >= 0:
                raise _not_finite("loss", bad, outputs.checkpoints)
            step += count
            outputs.progress.update(step, _main_metric(metrics))
            if step < event and should_stop():
                outputs.checkpoints.save(step, carry)
                raise Stopped(step)
        last = step == schedule.steps
        if step % schedule.log_every == 0 or last:
            carry, metrics = _log(program, carry, step, outputs=outputs, rate=pace.rate)
        stop = not last and should_stop()  # after the log: a resumed run does not repeat it
        if step % schedule.checkpoint_every == 0 or last or stop:
            outputs.checkpoints.save(step, carry)
        if stop:
            raise Stopped(step)


def _log(program, carry, step, *, outputs, rate):
    carry, metrics = program.measure(carry)
    wrong = [name for name, value in metrics.items() if not math.isfinite(value)]
    if rate is not None:
        metrics["steps_per_second"] = rate
    outputs.log.append(step, metrics)
    outputs.events.scalars(step, metrics)
    outputs.progress.update(step, _main_metric(metrics))
    if wrong:
        raise _not_finite(wrong[0], step, outputs.checkpoints)
    return carry, metrics


def _main_metric(metrics):
    name = "grad_norm" if "grad_norm" in metrics else "loss"
    return f"{name} {metrics[name]:.4g}" if name in metrics else None


def _not_finite(name, step, checkpoints):
    # a checkpoint of this very step holds what is not finite
    good = max((saved for saved in checkpoints.steps() if saved < step), default=None)
    which = "there is no good checkpoint"
    if good is not None:
        which = f"the last good checkpoint is step {good}"
    return RunFailed(f"{name} is not finite at step {step}; {which}")


class _Pace:
    """How many steps make a call of about SECONDS_PER_CALL, learnt while running."""

    def __init__(self, most: int):
        self._most = most
        self.steps = 1  # the first call compiles; a single step tells whether steps are slow
        self.rate: float | None = None

    def learn(self, count: int, seconds: float) -> None:
        self.rate = count / max(seconds, 1e-9)
        # at most eight times more than before: a first call's time is mostly compilation
        wanted = min(self.rate * SECONDS_PER_CALL, self.steps * 8)
        self.steps = int(min(max(wanted, 1), self._most))
