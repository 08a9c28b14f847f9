"""A sweep from its description to its summary."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lpml import config as configs
from lpml.build import ConfigError
from lpml.runs import read_run
from lpml.sweep import parent
from lpml.sweep.jobs import Engine, Job, Outcome, resolve
from lpml.sweep.metrics import Metric, choose_metric
from lpml.sweep.points import run_jobs
from lpml.sweep.space import Space
from lpml.sweep.summary import Summary, summarise
from lpml.training.run import IGNORED_IN_COMPARISON

LOG = logging.getLogger("lpml")


class Shard(NamedTuple):
    """The part of a sweep that one launch takes: of `parts`, the `part`-th, from 1 on."""

    part: int = 1
    parts: int = 1

    def of(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs of this part."""
        return list(jobs[self.part - 1 :: self.parts])


WHOLE = Shard()


class Plan(NamedTuple):
    """A sweep that is known to be runnable.

    Attributes:
      space: its points.
      folder: the parent of their folders.
      base: the resolved config before the points change it.
      jobs: the points, in the order of the space.
      metric: what settings are compared by.
    """

    space: Space
    folder: str
    base: dict
    jobs: list[Job]
    metric: Metric


def plan(space: Space, folder: str, *, metric: str | None = None) -> Plan:
    """Checks all that can be checked before anything runs; makes nothing.

    Args:
      space: the points.
      folder: the parent of their folders.
      metric: what to compare by; default: see `choose_metric`.

    Raises:
      ConfigError: a point that cannot be built or is there twice, an unknown metric.
      FolderConflict: the folder holds something else.
    """
    base = configs.as_plain(configs.override(configs.load(space.config), space.base))
    parent.check(folder, base)
    jobs = resolve(space.points(), folder, titles=space.titles())
    _check_twins(jobs, space.titles())
    return Plan(space, folder, base, jobs, choose_metric(jobs, metric))


def run_sweep(
    sweep: Plan,
    *,
    engine: Engine,
    shard: Shard = WHOLE,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[list[Outcome], Summary]:
    """Runs the shard's points that are not finished, and sums up all points of the sweep.

    Returns:
      The outcomes of the shard's points, and the summary, which is on disk too.

    Raises:
      FolderConflict: the folder, or one of a point, holds something else or is in use.
      Stopped: `should_stop` said so; states are saved.
    """
    parent.claim(sweep.folder, sweep.space.config, sweep.base)
    outcomes = run_jobs(shard.of(sweep.jobs), engine=engine, should_stop=should_stop)
    # under the lock, so that of shards that end together the last one sees all points
    with parent.locked(sweep.folder):
        parent.note(sweep.folder, outcomes)
        jobs, settings = _with_earlier(sweep)
        summary = summarise(
            jobs,
            settings,
            sweep.metric,
            failures=parent.failures(sweep.folder),
        )
        summary.publish(sweep.folder, sweep.space.config)
    return outcomes, summary


def _with_earlier(sweep):
    """The points of this launch, and the finished ones of earlier launches with other axes."""
    names = [job.name for job in sweep.jobs]
    known = parent.remember(sweep.folder, dict(zip(names, sweep.space.settings)))
    jobs = list(sweep.jobs)
    for name in [name for name in known if name not in names]:
        folder = os.path.join(sweep.folder, name)
        if not os.path.exists(os.path.join(folder, "DONE")):
            continue
        try:
            jobs.append(Job(name, read_run(folder).config, folder, tuple(known[name])))
        except ValueError as error:
            LOG.warning("the summary leaves out %s of an earlier launch: %s", name, error)
    return jobs, [known[job.name] for job in jobs]


def read_shard(text: str) -> Shard:
    """The shard that `--shard=i/n` names.

    Raises:
      ConfigError: no such text, or i is not 1 to n.
    """
    read = re.fullmatch(r"(\d+)/(\d+)", text)
    if not read or not 1 <= int(read[1]) <= int(read[2]):
        raise ConfigError(
            f"--shard={text} is not understood; it counts from 1: --shard=1/4 to "
            "--shard=4/4 are four parts"
        )
    return Shard(int(read[1]), int(read[2]))


def _check_twins(jobs, titles):
    """Two points of one config would be one run under two names."""
    seen: dict[str, str] = {}
    for job, title in zip(jobs, titles):
        config = {**job.config, "data": dict(job.config.get("data", {}))}
        for key in IGNORED_IN_COMPARISON:
            config["data"].pop(key.rpartition(".")[2], None)
        twin = seen.setdefault(json.dumps(config, sort_keys=True), title)
        if twin != title:
            raise ConfigError(
                f"the points {twin} and {title} are the same run; leave one of them out"
            )
