"""One line that says how far a run is and when it will be done."""

from __future__ import annotations

import collections
import math
import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

_WINDOW_S = 10.0
_REDRAW_S = 0.1
_PLAIN_LINE_S = 60.0


class StatusLine:
    """A line that is rewritten in place on a terminal and plain text elsewhere.

    Args:
        stream: where the line goes; the current sys.stderr if None.

    Attributes:
        terminal: whether the line can be rewritten.
    """

    def __init__(self, stream: TextIO | None = None):
        self._stream = sys.stderr if stream is None else stream
        self.terminal = bool(getattr(self._stream, "isatty", lambda: False)())
        self._shown_width = 0

    def draw(self, line: str) -> None:
        """Shows the line in the place of the last one; cut to the terminal's width."""
        if not self.terminal:
            self.write(line + "\n")
            return
        # A line as wide as the terminal would wrap, and \r could not take it back.
        line = line[: max(shutil.get_terminal_size().columns - 1, 1)]
        self.write("\r" + line.ljust(self._shown_width))
        self._shown_width = len(line)

    def clear(self) -> None:
        """Clears the line on a terminal, so that what follows starts on an empty one."""
        if self.terminal and self._shown_width:
            self.write("\r" + " " * self._shown_width + "\r")
            self._shown_width = 0

    def write(self, text: str) -> None:
        """Writes text as it is."""
        self._stream.write(text)
        self._stream.flush()


class Progress:
    """Shows `label step 12000/100000  12%  8123 steps/s  0:11 left  loss 0.9481`.

    On a terminal the line is rewritten in place, at most ten times a second and no wider
    than the terminal; elsewhere a plain line appears once a minute, so that a run shorter
    than a minute writes nothing into a log.

    Args:
        total_steps: the step at which the run ends, 0 or more.
        start: the step the run starts from, above 0 for a resumed one.
        label: put before the line, e.g. the run's name in a sweep.
        stream: where the line goes; the current sys.stderr if None.
        clock: returns seconds, never running backwards.
    """

    def __init__(
        self,
        total_steps: int,
        *,
        start: int = 0,
        label: str = "",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total = total_steps
        self._label = f"{label} " if label else ""
        self._out = StatusLine(stream)
        self._clock = clock
        now = clock()
        self._drawn_at = -math.inf if self._out.terminal else now
        # The first entry is replaced at the first update: what came before is compiling.
        self._window = collections.deque([(now, start)])
        self._compiled = False

    def update(self, step: int, metric: str | None = None) -> None:
        """Says that `step` steps are done; draws only when it is time to.

        Args:
            step: 0 to total_steps.
            metric: shown at the end of the line, e.g. "loss 0.9481".
        """
        now = self._clock()
        self._remember(now, step)
        pause = _REDRAW_S if self._out.terminal else _PLAIN_LINE_S
        if now - self._drawn_at < pause:
            return
        self._drawn_at = now
        self._out.draw(self._line(step, metric))

    def done(self) -> None:
        """Clears the line on a terminal, so that what follows starts on an empty one."""
        self._out.clear()

    def _remember(self, now: float, step: int) -> None:
        if not self._compiled and step > self._window[0][1]:
            self._window[0] = (now, step)
            self._compiled = True
            return
        # Ten entries a second are enough, however fast the steps are.
        if len(self._window) > 1 and now - self._window[-2][0] < _WINDOW_S / 100:
            self._window[-1] = (now, step)
        else:
            self._window.append((now, step))
        while len(self._window) > 2 and now - self._window[1][0] >= _WINDOW_S:
            self._window.popleft()

    def _steps_per_second(self) -> float:
        """The rate over about the last ten seconds; 0 while it is not known."""
        (then, first), (now, last) = self._window[0], self._window[-1]
        return (last - first) / (now - then) if now > then and last > first else 0.0

    def _line(self, step: int, metric: str | None) -> str:
        percent = 100 * step // self._total if self._total else 100
        parts = [f"{self._label}step {step}/{self._total}", f"{percent}%"]
        rate = self._steps_per_second()
        if rate:
            parts.append(f"{rate:.0f} steps/s" if rate >= 10 else f"{rate:.2g} steps/s")
            parts.append(f"{format_seconds((self._total - step) / rate)} left")
        if metric:
            parts.append(metric)
        return "  ".join(parts)


def format_seconds(seconds: float) -> str:
    """Writes a duration of 0 or more seconds as m:ss or h:mm:ss, rounded to the second."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
