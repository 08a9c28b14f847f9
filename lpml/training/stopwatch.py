"""How long a run has computed, over all of its sessions; runs side by side share the time."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from lpml.training.run_folder import write_json

NAME = "time.json"


class Stopwatch:
    """Seconds of a run, written whenever its work is kept: with checkpoints and at the end.

    What a kill makes a run do again is therefore counted once. Of P runs that one program
    computes side by side each is charged a P-th, so that their sum is the time that passed.

    Args:
      folder: the run's.
      resumed: whether the run goes on, with the seconds written there, or begins anew.
      sharing: P, 1 for a run by itself.
      clock: returns seconds, never running backwards.
    """

    def __init__(
        self,
        folder: Path,
        *,
        resumed: bool,
        sharing: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._file = folder / NAME
        # a run begun before there was such a file cannot say what its first part took
        self._before = read_seconds(folder) if resumed else 0.0
        self._clock, self._sharing, self._begun = clock, sharing, clock()

    def restart(self, sharing: int) -> None:
        """Counts from here on: what came before was waiting for other runs."""
        self._sharing, self._begun = sharing, self._clock()

    def write(self) -> None:
        """Writes the seconds so far, compilation and evaluation included."""
        if self._before is not None:
            seconds = self._before + (self._clock() - self._begun) / self._sharing
            write_json(self._file, {"seconds": round(seconds, 3)})


def read_seconds(folder: str | os.PathLike[str]) -> float | None:
    """Seconds that the run of a folder has computed; None where that is not recorded."""
    try:
        record = json.loads((Path(folder) / NAME).read_text(encoding="utf-8"))
        return float(record["seconds"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
