"""The simplest engine: the points of a sweep in this process, one after another.

Another engine is another function with the signature of `run_points`.
"""

import json
import logging
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax

from lpml import config as configs
from lpml.runs import Point
from lpml.training.assemble import assemble, check_sections
from lpml.training.loop import RunFailed
from lpml.training.run import train

LOG = logging.getLogger("lpml")


class Outcome(NamedTuple):
    """What became of a point: its final metrics, or the reason of its failure."""

    point: Point
    metrics: dict[str, float] | None
    failure: str | None


def run_points(
    points: Sequence[Point], folder: str, *, should_stop: Callable[[], bool] = lambda: False
) -> list[Outcome]:
    """Runs every point in `folder/<name>`; points finished before are read back.

    A point that fails does not stop the others. A stop on request (`Stopped`) does.

    Raises:
      ConfigError: a point that cannot be built, before anything runs.
      ValueError: two points of one name.
    """
    names = [point.name for point in points]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"two points share the folder {twice[0]}; give them different names")
    resolved = [
        configs.as_plain(configs.override(configs.load(point.config), point.overrides))
        for point in points
    ]
    _check(resolved)
    done = sum(os.path.exists(os.path.join(folder, name, "DONE")) for name in names)
    LOG.info("%d runs, %d of them finished before", len(points), done)
    outcomes = []
    for number, (point, config) in enumerate(zip(points, resolved), start=1):
        label = f"{number}/{len(points)} {point.name}"
        keys = tuple(point.overrides)
        try:
            metrics = train(
                config,
                os.path.join(folder, point.name),
                label=label,
                hparams=keys,
                should_stop=should_stop,
            )
            outcomes.append(Outcome(point, metrics, None))
        except RunFailed as failure:
            outcomes.append(Outcome(point, None, str(failure)))
    return outcomes


def _check(resolved):
    """Builds every distinct program once, so that a bad point is refused before any runs."""
    seen = set()
    for config in resolved:
        check_sections(config)
        like = json.dumps({**config, "seed": 0}, sort_keys=True)
        if like not in seen:
            seen.add(like)
            with jax.enable_x64(config["precision"] == "float64"):
                assemble(config)
