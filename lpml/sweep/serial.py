"""The simplest engine: the points of a sweep in this process, one after another."""

import itertools
from collections.abc import Callable, Iterator, Sequence

from lpml.sweep.endings import IN_WORDS
from lpml.sweep.jobs import Job, Outcome
from lpml.training.run import train


def run_serially(jobs: Sequence[Job], *, should_stop: Callable[[], bool]) -> list[Outcome]:
    """Runs the jobs in their order; see `Engine`."""
    labels = (f"{number}/{len(jobs)}" for number in itertools.count(1))
    return run_labelled(jobs, labels, should_stop=should_stop)


def run_labelled(
    jobs: Sequence[Job], labels: Iterator[str], *, should_stop: Callable[[], bool]
) -> list[Outcome]:
    """Runs the jobs in their order, each with the next label before its progress line."""
    outcomes = []
    for job in jobs:
        label = f"{next(labels)} {job.name}"
        try:
            metrics = train(
                job.config,
                job.folder,
                label=label,
                hparams=job.hparams,
                should_stop=should_stop,
            )
            outcomes.append(Outcome(job.name, metrics, None))
        except IN_WORDS as failure:
            outcomes.append(Outcome(job.name, None, str(failure)))
    return outcomes
