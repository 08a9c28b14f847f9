"""Running the points of a sweep or an experiment with one of the engines."""

import logging
from collections.abc import Callable, Sequence

from lpml.build import ConfigError
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
    """Runs the jobs that are not finished yet; see `run_points`.

    A job that starts from another one's network follows it, or fails with it.

    Raises:
      ConfigError: jobs that start from each other in a circle.
    """
    stages = _stages(jobs)
    outcomes = {outcome.name: outcome for outcome in finished(jobs)}
    done = [outcome for outcome in outcomes.values() if outcome.failure is None]
    LOG.info("%d points, %d of them finished before", len(jobs), len(done))
    for stage in stages:
        left = []
        for job in stage:
            if job.name in outcomes:
                continue
            before = outcomes.get(job.after)
            if before is not None and before.failure is not None:
                reason = f"it starts from {job.after}, which failed"
                outcomes[job.name] = Outcome(job.name, None, reason)
            else:
                left.append(job)
        if left:
            for outcome in engine(left, should_stop=should_stop):
                outcomes[outcome.name] = outcome
    return [outcomes[job.name] for job in jobs]


def _stages(jobs):
    """The jobs in lists, each after those that it starts from."""
    stages, waiting = [], list(jobs)
    while waiting:
        names = {job.name for job in waiting}
        ready = [job for job in waiting if job.after not in names]
        if not ready:
            raise ConfigError(
                f"the points {', '.join(sorted(names))} start from each other in a circle"
            )
        stages.append(ready)
        waiting = [job for job in waiting if job.after in names]
    return stages
