"""The points of a sweep, resolved, checked and given their folders."""

import functools
import json
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax

from lpml import config as configs
from lpml.build import ConfigError
from lpml.runs import Point
from lpml.training.assemble import (
    assemble,
    check_sections,
    is_measurement,
    measurement,
    traceable,
)
from lpml.training.pure import Carry
from lpml.training.recording import flatten
from lpml.training.run import IGNORED_IN_COMPARISON
from lpml.training.run_folder import DamagedFolder, RunFolder
from lpml.training.starting import sibling

LOG = logging.getLogger("lpml")


class Job(NamedTuple):
    """A point that is known to be buildable.

    Attributes:
      name: its folder's name, unique among its siblings.
      config: the resolved config, nested dicts of JSON's types.
      folder: the run's folder.
      hparams: dotted keys of what sets it apart, for TensorBoard's HPARAMS.
    """

    name: str
    config: dict[str, Any]
    folder: str
    hparams: tuple[str, ...]

    @property
    def steps(self) -> int:
        """The step of the last line of its log."""
        if is_measurement(self.config):
            return measurement(self.config).count
        return self.config["train"]["steps"]

    @property
    def after(self) -> str | None:
        """The name of the point that it starts from, if it starts from a run beside it."""
        return sibling(self.config.get("train", {}).get("start_from"))


class Outcome(NamedTuple):
    """What became of a point: its final metrics, or the reason of its failure."""

    name: str
    metrics: dict[str, Any] | None
    failure: str | None


class Engine(Protocol):
    """Runs jobs, each in its folder; gives their outcomes in any order.

    A job that fails does not stop the others; a stop on request raises `Stopped`, with the
    state of what was under way saved.
    """

    def __call__(
        self, jobs: Sequence[Job], *, should_stop: Callable[[], bool]
    ) -> list[Outcome]:
        """Runs the jobs."""
        ...


def resolve(points: Sequence[Point], parent: str, *, titles: Sequence[str] = ()) -> list[Job]:
    """Builds every point once, so that a bad one is refused before anything runs.

    Args:
      points: the points.
      parent: the folder that is to hold theirs.
      titles: what errors call the points; default: their names.

    Raises:
      ConfigError: a point that cannot be built, or two points of one name; names the point.
      DataError: data that is missing or damaged.
    """
    by_name: dict[str, Point] = {}
    for point in points:
        twin = by_name.setdefault(point.name, point)
        if twin is not point:
            raise ConfigError(
                f"two points map to the folder {point.name} ({_words(twin)} and "
                f"{_words(point)}); give them different settings or names"
            )
    load = functools.cache(configs.load)
    jobs = []
    for point, title in zip(points, titles or [point.name for point in points]):
        try:
            base = load(point.config)
            config = configs.as_plain(configs.override(base, point.overrides))
            _check(config)
            _refuse_none(configs.as_plain(base), flatten(point.overrides))
        except ConfigError as error:
            raise ConfigError(f"point {title}: {error}") from error
        folder = os.path.join(parent, point.name)
        jobs.append(Job(point.name, config, folder, tuple(flatten(point.overrides))))
    return jobs


def finished(jobs: Sequence[Job]) -> list[Outcome]:
    """Claims the folders of all jobs; gives the outcomes of those that are done already.

    A folder that is damaged or cannot be written is a failure of its job alone.

    Raises:
      FolderConflict: a folder belongs to another config or to a run under way.
    """
    outcomes = []
    for job in jobs:
        try:
            with RunFolder(job.folder) as folder:
                folder.claim(job.config, ignore=IGNORED_IN_COMPARISON)
                metrics = folder.finished()
        except DamagedFolder as error:
            outcomes.append(Outcome(job.name, None, str(error)))
        except OSError as error:
            reason = f"{error.filename or job.folder}: {error.strerror or error}"
            outcomes.append(Outcome(job.name, None, reason))
        else:
            if metrics is not None:
                outcomes.append(Outcome(job.name, metrics, None))
    return outcomes


def _check(config):
    check_sections(config)
    if is_measurement(config):
        measurement(config)
        return
    with jax.enable_x64(config["precision"] == "float64"):
        assemble(config, shapes=False)
        carry_shapes(config)


def _refuse_none(base, overrides):
    """A None in place of a number would be a second point of some number, called none."""
    own = flatten(base)
    for key, value in overrides.items():
        if value is None and own.get(key) is not None:
            raise ConfigError(
                f"config.{key} = None in place of {own[key]!r} would be a default that no "
                "point is named after: write a value, or leave the setting out"
            )


def carry_shapes(config: dict[str, Any]) -> Carry:
    """The carry of a run as shapes; traced once for all configs that differ in no shape."""
    # the seed and a rate change no shape; half is in the range of rates and decays alike
    floats = {k: 0.5 for k, v in traceable(config).items() if isinstance(v, float)}
    like = {**config, "seed": 0, "optim": {**config["optim"], **floats}}
    return _carry_shapes(json.dumps(like), config["precision"])


@functools.lru_cache(maxsize=4096)
def _carry_shapes(text, precision):
    del precision  # x64 as it says is on already
    return assemble(json.loads(text))[0].shapes()


def _words(point):
    settings = ", ".join(f"{key}={value}" for key, value in point.overrides.items())
    return f"{point.config} with {settings}" if settings else point.config
