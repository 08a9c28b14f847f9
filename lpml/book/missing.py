"""Running the experiments that are not finished: the cheapest first, within a given time."""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from lpml.book.describing import Description
from lpml.book.keeping import read_kept
from lpml.book.results import (
    VERDICTS,
    folder_name,
    is_finished,
    read_result,
    seconds_so_far,
)
from lpml.data import DataError
from lpml.sweep import Engine, run_experiment
from lpml.training.endings import Stopped
from lpml.training.run_folder import write_json

LOG = logging.getLogger("lpml")

# Among the runs: how long every experiment took when it was last made.
TIMES = ".times.json"


class Progress(NamedTuple):
    """What came of the missing experiments, reasons by their names.

    Attributes:
      failed: those that failed.
      without_data: those whose data are not there.
      waiting: those that are begun, or not, and for which there was no time.
    """

    failed: dict[str, str]
    without_data: dict[str, str]
    waiting: dict[str, str]

    @property
    def reasons(self) -> dict[str, str]:
        """Why an experiment is missing."""
        return {**self.waiting, **self.without_data, **self.failed}


def run_missing(
    descriptions: Sequence[Description],
    runs: Path,
    docs: Path,
    *,
    size: str,
    minutes: float,
    engine: Engine,
    should_stop: Callable[[], bool],
    sentence: Callable[[Exception], str] = str,
) -> Progress:
    """Runs what has no result yet, each experiment in its folder among the runs.

    An experiment is stopped as a run is, with its state saved, so that the next call goes on
    there. One that fails does not stop the others.

    Args:
      descriptions: all experiments.
      runs: folder of their folders.
      docs: folder of the pages, where results of runs that are gone are kept.
      size: `"tiny"`, `"default"` or `"paper"`.
      minutes: when to stop, >= 0; 0 runs nothing.
      engine: runs the points of each.
      should_stop: asked about twice a second.
      sentence: an error in words.
    """
    end = time.monotonic() + 60 * minutes

    def over():
        return should_stop() or time.monotonic() >= end

    missing = [d for d in descriptions if not has_result(d.name, runs, docs, size=size)]
    missing.sort(key=lambda d: (_seconds_left(d, runs, size), d.name))
    progress = Progress({}, {}, {})
    for number, description in enumerate(missing, start=1):
        name, folder = description.name, runs / folder_name(description.name, size)
        if over():
            progress.waiting[name] = "begun, to be gone on with" if folder.is_dir() else ""
            continue
        LOG.info("experiment %d/%d: %s", number, len(missing), folder.name)
        try:
            verdicts = run_experiment(
                description.module, str(folder), size=size, engine=engine, should_stop=over
            )
            _remember(runs, folder)
            seen = Counter(verdict.verdict for verdict in verdicts)
            LOG.info("%s: %s", folder.name, ", ".join(f"{seen[w]} {w}" for w in VERDICTS))
        except Stopped:
            progress.waiting[name] = "begun, to be gone on with"
        except DataError as error:
            progress.without_data[name] = sentence(error)
        except Exception as error:  # whatever it is, it is this experiment's alone
            progress.failed[name] = sentence(error)
        jax.clear_caches()  # the next one needs none of these programs
    return progress


def has_result(name: str, runs: Path, docs: Path, *, size: str) -> bool:
    """Whether an experiment is finished among the runs, or was and is kept beside the pages."""
    folder = folder_name(name, size)
    if is_finished(runs / folder):
        return True
    try:
        return read_kept(folder, docs) is not None
    except ValueError:
        return False  # to be made anew


def _seconds_left(description, runs, size):
    """What the experiment took last time, else what it says itself, less what is done."""
    folder = runs / folder_name(description.name, size)
    expected = _times(runs).get(folder.name, 60.0 * description.minutes)
    return max(expected - seconds_so_far(folder), 0.0)


def _remember(runs, folder):
    result = read_result(folder)
    if result is not None and result.seconds is not None:
        write_json(runs / TIMES, {**_times(runs), folder.name: result.seconds})


def _times(runs: Path) -> dict[str, float]:
    try:
        times = json.loads((runs / TIMES).read_text(encoding="utf-8"))
        return {name: float(seconds) for name, seconds in times.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # only the order depends on it
