"""The training loop: steps between events, and the events."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

from lpml.parallel.processes import agreed_count, agreed_stop
from lpml.training.checkpoint import Checkpoints
from lpml.training.endings import RunFailed, Stopped
from lpml.training.events import EventWriter
from lpml.training.metrics_log import MetricsLog
from lpml.training.progress import Progress
from lpml.training.pure import Carry

# One call of the compiled loop aims at this long, so that a signal is answered soon.
SECONDS_PER_CALL = 0.5


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When things happen, in steps.

    Args:
      steps: length of the training, >= 0.
      log_every: steps between two lines of the log (and evaluations).
      checkpoint_every: steps between two checkpoints.
      refresh_every: steps between two passes of the algorithm over the data, or None.
    """

    steps: int
    log_every: int
    checkpoint_every: int
    refresh_every: int | None = None

    def __post_init__(self):
        for name, least in (("steps", 0), ("log_every", 1), ("checkpoint_every", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least {least}")

    def next_event(self, step: int) -> int:
        """The first step after `step` at which something happens."""
        intervals = (self.log_every, self.checkpoint_every, self.refresh_every)
        due = [(step // every + 1) * every for every in intervals if every]
        return min(*due, self.steps)


class Beside(Protocol):
    """What is done on the host between two steps, at steps that it names itself."""

    def next_step(self, step: int) -> int | None:
        """The first step after `step` at which it wants to act; None: never."""

    def act(self, carry: Carry, step: int) -> Carry:
        """Acts after `step` steps; the carry is donated. Called at other steps too."""

    def saved(self, carry: Carry) -> Carry:
        """What a checkpoint holds, of which `resumed` goes on; the carry stays usable."""

    def resumed(self, carry: Carry) -> Carry:
        """The carry to train with, of a fresh or restored one."""

    def close(self) -> None:
        """The training is over, whichever way."""


class Trainable(Protocol):
    """A program as the loop sees it: one training, or many side by side."""

    @property
    def beside(self) -> Beside:
        """What happens between the steps."""

    @property
    def rows(self) -> int:
        """Most steps of one call of `run`."""

    def refresh(self, carry: Carry) -> Carry:
        """The pass over the data that is due before this step."""

    def run(self, carry: Carry, start: int, count: int) -> Carry:
        """`count` steps from step `start`."""

    def measure(self, carry: Carry) -> tuple[Carry, Any]:
        """The numbers of a line of the log."""

    def gathered(self, carry: Carry) -> Carry:
        """The carry as it is saved."""


class Recorder(Protocol):
    """Where the loop writes; see `Outputs`, which is that of one run."""

    def check(self, carry: Carry) -> None:
        """Waits for the device; raises where it is of no use to go on."""

    def reached(self, step: int) -> None:
        """Shows how far the training is."""

    def write(self, step: int, metrics: Any, *, rate: float | None) -> None:
        """A line of the log."""

    def save(self, step: int, carry: Carry, *, required: bool) -> None:
        """A checkpoint."""


class Outputs:
    """Where one run writes, and who says that it cannot go on.

    Attributes:
      progress: the line that shows how far the run is; None shows nothing.
      on_log: told each line of the log, with its step, once it is written and is finite.
      on_save: told of each checkpoint, once it is written.
    """

    def __init__(self, checkpoints: Checkpoints, log: MetricsLog, events: EventWriter):
        self._checkpoints, self._log, self._events = checkpoints, log, events
        self._metric: str | None = None
        self.progress: Progress | None = None
        self.on_log: Callable[[int, Mapping[str, float]], None] | None = None
        self.on_save: Callable[[], None] | None = None

    def check(self, carry: Carry) -> None:
        """Waits for the device; raises RunFailed where a loss was not finite."""
        bad = int(carry.bad_step)
        if bad >= 0:
            self.fail("loss", bad)

    def reached(self, step: int) -> None:
        """Shows how far the run is."""
        if self.progress is not None:
            self.progress.update(step, self._metric)

    def write(self, step: int, metrics: dict[str, float], *, rate: float | None) -> None:
        """A line of the log; raises RunFailed, once written, if a metric is not finite."""
        wrong = [name for name, value in metrics.items() if not math.isfinite(value)]
        if rate is not None:
            metrics = {**metrics, "steps_per_second": rate}
        self._log.append(step, metrics)
        self._events.scalars(step, metrics)
        self._metric = _main_metric(metrics)
        self.reached(step)
        if wrong:
            self.fail(wrong[0], step)
        if self.on_log is not None:
            self.on_log(step, metrics)

    def save(self, step: int, carry: Carry, *, required: bool) -> None:
        """A checkpoint; `required` ones are those before the end or a stop."""
        del required  # those that are not are cheap enough for one run
        self._checkpoints.save(step, carry)
        if self.on_save is not None:
            self.on_save()

    def fail(self, name: str, step: int) -> NoReturn:
        """Raises RunFailed: `name` is not finite at `step`."""
        # a checkpoint of this very step holds what is not finite
        good = max((saved for saved in self._checkpoints.steps() if saved < step), default=None)
        which = "there is no good checkpoint"
        if good is not None:
            which = f"the last good checkpoint is step {good}"
        raise RunFailed(
            f"{name} is not finite at step {step}; {which}; a lower learning rate is the usual "
            "remedy"
        )


def fit(
    program: Trainable,
    carry: Carry,
    schedule: Schedule,
    *,
    outputs: Recorder,
    start: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Trains from `carry` to the end of the schedule.

    Args:
      program: the compiled functions, of one run or of many side by side.
      carry: where to start: fresh or restored; it is donated.
      schedule: when to log, save and refresh.
      outputs: where to write.
      start: the step that `carry` is at.
      should_stop: asked between calls; True saves a checkpoint and raises `Stopped`.

    Raises:
      RunFailed: the loss, or a metric at a line of the log, is not finite.
      Stopped: see `should_stop`.
    """
    try:
        _fit(program, carry, schedule, outputs, start, should_stop)
    finally:
        program.beside.close()


def _fit(program, carry, schedule, outputs, start, should_stop):
    pace, beside = _Pace(program.rows), program.beside
    step = start
    carry = beside.resumed(carry)
    if step == 0:
        carry = _log(program, carry, 0, outputs=outputs, rate=None)
    while step < schedule.steps:
        if schedule.refresh_every and step % schedule.refresh_every == 0:
            carry = program.refresh(carry)
        # what is due after a step is done before the next one, hence after its checkpoint
        carry = beside.act(carry, step)
        event = min(schedule.next_event(step), beside.next_step(step) or schedule.steps)
        while step < event:
            count = agreed_count(min(pace.steps, event - step), at=step)
            started = time.perf_counter()
            carry = program.run(carry, step, count)
            outputs.check(carry)
            pace.learn(count, time.perf_counter() - started)
            step += count
            outputs.reached(step)
            if step < event and agreed_stop(should_stop()):
                outputs.save(step, program.gathered(beside.saved(carry)), required=True)
                raise Stopped(step)
        last = step == schedule.steps
        if step % schedule.log_every == 0 or last:
            carry = _log(program, carry, step, outputs=outputs, rate=pace.since_last())
        # after the log: a resumed run does not repeat it
        stop = not last and agreed_stop(should_stop())
        if step % schedule.checkpoint_every == 0 or last or stop:
            whole = program.gathered(beside.saved(carry))
            outputs.save(step, whole, required=last or stop)
        if stop:
            raise Stopped(step)


def _log(program, carry, step, *, outputs, rate):
    carry, metrics = program.measure(carry)
    outputs.write(step, metrics, rate=rate)
    return carry


def _main_metric(metrics):
    name = "grad_norm" if "grad_norm" in metrics else "loss"
    return f"{name} {metrics[name]:.4g}" if name in metrics else None


class _Pace:
    """How many steps make a call of about SECONDS_PER_CALL, learnt while running."""

    def __init__(self, most: int):
        self._most = most
        self.steps = 1  # the first call compiles; a single step tells whether steps are slow
        self._first: float | None = None  # its rate
        self._count, self._seconds = 0, 0.0

    def since_last(self) -> float | None:
        """Steps a second since the last line; the first call counts only where it is all."""
        rate = self._count / self._seconds if self._count else self._first
        self._count, self._seconds = 0, 0.0
        return rate

    def learn(self, count: int, seconds: float) -> None:
        rate = count / max(seconds, 1e-9)
        if self._first is None:
            self._first = rate
        else:
            self._count += count
            self._seconds += max(seconds, 1e-9)
        # at most eight times more than before: a first call's time is mostly compilation
        wanted = min(rate * SECONDS_PER_CALL, self.steps * 8)
        self.steps = int(min(max(wanted, 1), self._most))
