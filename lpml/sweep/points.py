"""Running the points of a sweep or an experiment with one of the engines."""

import logging
from collections.abc import Callable, Sequence

from lpml.runs import Point
from lpml.sweep.jobs import Engine, Job, Outcome, finished, resolve
from lpml.sweep.vectorised import run_vectorised

LOG = logging.getLogger("lpml")


def run_points(
    points: Sequence[Point],
    folder: str,
    *,
    engine: Engine = run_vectorised,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Outcome]:
    """Runs every point in `folder/<name>`; points finished before are read back.

    A point that fails does not stop the others, and is tried again by the next call. A stop
    on request (`Stopped`) does.

    Returns:
      Outcomes in the order of the points.

    Raises:
      ConfigError: a point that cannot be built, or two of one name, before anything runs.
      FolderConflict: a point's folder belongs to another config.
    """
    return run_jobs(resolve(points, folder), engine=engine, should_stop=should_stop)


def run_jobs(
    jobs: Sequence[Job], *, engine: Engine, should_stop: Callable[[], bool]
) -> list[Outcome]:
    """Runs the jobs that are not finished yet; see `run_points`."""
    outcomes = {outcome.name: outcome for outcome in finished(jobs)}
    LOG.info("%d points, %d of them finished before", len(jobs), len(outcomes))
    left = [job for job in jobs if job.name not in outcomes]
    if left:
        for outcome in engine(left, should_stop=should_stop):
            outcomes[outcome.name] = outcome
    return [outcomes[job.name] for job in jobs]
