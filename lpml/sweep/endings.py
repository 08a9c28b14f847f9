"""What a run that another process trained left: its mark, or the cause of its end."""

import json
import os
import signal
from typing import Any

from lpml.build import ConfigError
from lpml.data import DataError
from lpml.training.checkpoint import CheckpointMismatch
from lpml.training.loop import RunFailed
from lpml.training.run_folder import FolderConflict

# Errors of a training that are a sentence already.
IN_WORDS = (RunFailed, ConfigError, DataError, FolderConflict, CheckpointMismatch)

_TAIL_BYTES = 1 << 16


def read_mark(folder: str) -> dict[str, Any] | None:
    """The final metrics of a finished run; None while it is not finished."""
    try:
        with open(os.path.join(folder, "DONE"), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def cause(code: int, log: str) -> str:
    """Why a worker process ended without the mark of its run, in one sentence.

    Args:
      code: its exit code; minus a signal's number for one that a signal ended.
      log: the file that holds what it said.
    """
    words = _last_line(log)
    if code == 1 and words:
        return words
    said_in = f"what it said is in {log}, and " if words else ""
    where = f"; {said_in}the same command tries the point again"
    if code == -signal.SIGKILL:
        return f"its process was killed (SIGKILL), out of memory perhaps{where}"
    if code < 0:
        return f"its process was ended by {_signal_name(-code)}{where}"
    if code == 0:
        return f"its process was asked from outside to stop{where}"
    said = f" ({words})" if words else ""
    return f"its process ended with exit code {code}{said}{where}"


def _signal_name(number):
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_line(log):
    with open(log, "rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - _TAIL_BYTES, 0))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
