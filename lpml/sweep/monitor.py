"""The line that says how far a sweep is."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from lpml.sweep.jobs import Job, Outcome
from lpml.training.loop import Stopped
from lpml.training.progress import StatusLine, format_seconds

_REDRAW_S = 1.0
_PLAIN_LINE_S = 60.0
_TAIL_BYTES = 1 << 16


class SweepStopped(Stopped):
    """A sweep that was asked to stop; what was under way saved its state."""

    def __init__(self, finished: int, total: int):
        Exception.__init__(
            self,
            f"stopped with {finished} of {total} points done; the same command goes on there",
        )
        self.step = finished


class Monitor:
    """Shows `points 12/60 done  2 running  1 failed  25%  1:20 left`.

    On a terminal the line is rewritten in place, once a second; elsewhere it appears once a
    minute. A point that failed gets a line of its own, and elsewhere than on a terminal one
    that is done does too. How far a point is comes from the last line of its log, so a
    process of its own, or another machine, need not tell.

    Args:
      jobs: the points to be run.
      running: gives those under way.
      stream: where the lines go; the current sys.stderr if None.
      clock: returns seconds, never running backwards.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        running: Callable[[], Iterable[Job]],
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._jobs = {job.name: job for job in jobs}
        self._running = running
        self._out = StatusLine(stream)
        self._clock = clock
        self._begun = clock()
        self._drawn_at = -math.inf if self._out.terminal else self._begun
        self._start = {job.name: last_step(job.folder) for job in jobs}
        self._done = self._failed = 0
        self._trained = 0  # steps of the points that ended, without those of earlier launches
        self._left = dict(self._jobs)

    def ended(self, outcome: Outcome, *, announce: bool = True) -> None:
        """Counts a point that is done or failed; `announce`: a line for one that is done."""
        job = self._left.pop(outcome.name)
        self._trained += self._steps_of(job)
        if outcome.failure is None:
            self._done += 1
            if announce and not self._out.terminal:
                self._out.write(f"done    {outcome.name}  ({self._counts()})\n")
        else:
            self._failed += 1
            self._out.clear()
            self._out.write(f"failed  {outcome.name}: {outcome.failure}\n")

    @property
    def count(self) -> int:
        """Number of the next point: one more than have ended."""
        return 1 + self._done + self._failed

    def update(self) -> None:
        """Draws the line if it is time to."""
        now = self._clock()
        pause = _REDRAW_S if self._out.terminal else _PLAIN_LINE_S
        if now - self._drawn_at >= pause:
            self._drawn_at = now
            self._out.draw(self._line(now))

    def stopped(self) -> SweepStopped:
        """What to raise when the sweep was asked to stop."""
        return SweepStopped(self._done, len(self._jobs))

    def done(self) -> None:
        """Clears the line on a terminal."""
        self._out.clear()

    def _counts(self):
        return f"{self._done}/{len(self._jobs)} done"

    def _line(self, now):
        running = [job for job in self._running() if job.name in self._left]
        parts = [f"points {self._counts()}", f"{len(running)} running"]
        if self._failed:
            parts.append(f"{self._failed} failed")
        trained = self._trained + sum(map(self._steps_of, running))
        earlier = sum(self._start[name] for name in self._left)
        under_way = sum(map(self._steps_of, running))
        left = sum(job.steps for job in self._left.values())
        left = max(left - earlier - under_way, 0)
        if trained:
            parts.append(f"{100 * trained // (trained + left)}%")
            parts.append(f"{format_seconds((now - self._begun) * left / trained)} left")
        return "  ".join(parts)

    def _steps_of(self, job):
        """Steps of a point in this launch; a resumed one may stand before its last line."""
        return max(last_step(job.folder) - self._start[job.name], 0)


def last_step(folder: str) -> int:
    """The step of the last whole line of a run's log; 0 where there is none."""
    try:
        with open(os.path.join(folder, "metrics.jsonl"), "rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - _TAIL_BYTES, 0))
            whole = file.read().split(b"\n")[:-1]
        return int(json.loads(whole[-1])["step"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0  # no log yet, or one that the run itself will complain of
