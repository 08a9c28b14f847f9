"""Tuning with Optuna: the axes of a sweep as a space to search, each trial a run folder."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from lpml import config as configs
from lpml.build import ConfigError
from lpml.sweep import parent
from lpml.sweep.axes import Axis
from lpml.sweep.jobs import Job, resolve
from lpml.sweep.metrics import Metric
from lpml.sweep.publishing import replace
from lpml.sweep.space import Space
from lpml.sweep.study import Study, import_optuna
from lpml.training.loop import RunFailed, Stopped
from lpml.training.metrics_log import read
from lpml.training.run import train
from lpml.training.run_folder import (
    DamagedFolder,
    FolderConflict,
    FolderInUse,
    RunFolder,
    write_json,
)

LOG = logging.getLogger("lpml")

TABLE = "trials.csv"
_POLL_S = 0.5
_WORDS = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}


class Trial(NamedTuple):
    """One trial: its number, what became of it, its last value, its folder and settings."""

    number: int
    state: str
    value: float | None
    folder: str
    settings: dict[str, Any]


class Tuned(NamedTuple):
    """What a study found.

    Attributes:
      trials: all of them, the best first, those without an end last.
      goal: what they were compared by.
      folder: the study's.
    """

    trials: list[Trial]
    goal: Metric
    folder: str

    @property
    def best(self) -> Trial | None:
        """The best of those that ran to their end."""
        return next((trial for trial in self.trials if trial.state == "done"), None)

    def text(self) -> str:
        """The table in characters, the best first."""
        keys = list(dict.fromkeys(key for trial in self.trials for key in trial.settings))
        rows = [["trial", "state", self.goal.name, *keys]]
        for trial in self.trials:
            settings = [_short(trial.settings.get(key, "")) for key in keys]
            rows.append([str(trial.number), trial.state, _short(trial.value), *settings])
        widths = [max(map(len, column)) for column in zip(*rows)]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows
        )


def tune(
    space: Space,
    axes: Sequence[tuple[Axis, ...]],
    folder: str,
    *,
    goal: Metric,
    trials: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> Tuned:
    """Searches the axes with TPE until the study in `folder` has `trials` trials.

    A trial that falls behind the median of the others at a line of the log is pruned: its
    state is saved and it stops. One whose loss is not finite fails, and the study goes on.
    Called again, also by several processes at a time, it goes on where it stood.

    Args:
      space: the config and what all trials share; its settings are not read.
      axes: as `parse_axes` gives them.
      folder: of the study and its runs.
      goal: what to optimise; see `lpml.sweep.metrics.choose_metric`.
      trials: how many the study is to have in all, those of earlier launches included.
      should_stop: True saves the trial under way and raises `Stopped`.

    Raises:
      ConfigError: optuna is missing, or an axis or a number that cannot be used.
      FolderConflict: the folder holds something else.
      RunFailed: no trial ran to its end.
      Stopped: `should_stop` said so; the next call resumes that trial.
    """
    import_optuna()
    base = _check(space, axes, folder, trials)
    parent.claim(folder, space.config, base)
    with Study(folder, axes, metric=goal.name, higher=goal.higher, seed=base["seed"]) as study:
        try:
            while (asked := study.ask(trials)) is not None:
                _run(
                    study,
                    *asked,
                    space=space,
                    folder=folder,
                    goal=goal,
                    most=trials,
                    should_stop=should_stop,
                )
        finally:
            tuned = _collect(study, folder, goal)
            _write_csv(tuned)
    if tuned.best is None:
        raise RunFailed(
            f"none of {len(tuned.trials)} trials ran to its end; {folder}/{TABLE} has them: "
            "give axes with smaller values"
        )
    return tuned


def _check(space, axes, folder, trials):
    """Refuses what can be refused before anything runs; gives the config of all trials."""
    if trials < 1:
        raise ConfigError(f"--trials={trials} must be at least 1")
    if not axes:
        raise ConfigError("--tune needs something to tune: add --axis='KEY=log(LOW,HIGH,2)'")
    for group in axes:
        for axis in group:
            if axis.key == "seed":
                raise ConfigError(
                    "the seed is no setting to tune, its best value is luck; leave its axis out"
                )
    # the first and the last values along each axis, the others at their first
    start = {axis.key: axis.values[0] for group in axes for axis in group}
    ends = [start, *({**start, **{a.key: a.values[-1] for a in group}} for group in axes)]
    apart = [each for place, each in enumerate(ends) if each not in ends[:place]]
    tried = Space(space.config, space.base, tuple(apart))
    resolve(tried.points(), folder, titles=tried.titles())
    return configs.as_plain(configs.override(configs.load(space.config), space.base))


def _run(study, trial, settings, *, space, folder, goal, most, should_stop):
    """Trains one trial and tells the study how it ended."""
    (point,) = Space(space.config, space.base, (settings,)).points()
    trial.set_user_attr("folder", point.name)
    trial.set_user_attr("settings", settings)
    (job,) = resolve([point], folder)
    judge = _Judge(trial, goal.name, job)
    label = f"trial {len(study.trials())}/{most} {job.name}"
    try:
        metrics = _train(job, label, judge, should_stop)
        if goal.name not in metrics:
            study.tell(trial, None, state="FAIL")
            raise ConfigError(
                f"{goal.name} is no metric of these runs; there are "
                f"{', '.join(name for name in metrics if name != 'step')}"
            )
        value = metrics[goal.name]
        study.tell(trial, value, state="COMPLETE" if value is not None else "FAIL")
    except (RunFailed, DamagedFolder) as failure:
        LOG.warning("trial %d failed: %s", trial.number, failure)
        study.tell(trial, None, state="FAIL")
    except Stopped:
        if not judge.pruned:
            raise
        study.tell(trial, None, state="PRUNED")
        _mark_pruned(job.folder)


def _mark_pruned(folder):
    """Says so in the run's folder; a run that goes on removes the mark."""
    with contextlib.suppress(FolderInUse), RunFolder(folder) as run:
        write_json(run.pruned_file, {"reason": "it fell behind the median of the study"})


def _train(job, label, judge, should_stop):
    # another launch may be at the same settings
    while not _is_free(job.folder):
        if should_stop():
            raise Stopped(0)
        time.sleep(_POLL_S)
    return train(
        job.config,
        job.folder,
        label=label,
        hparams=job.hparams,
        should_stop=lambda: judge.pruned or should_stop(),
        on_log=judge,
    )


def _is_free(folder):
    try:
        RunFolder(folder).close()
    except FolderInUse:
        return False
    except FolderConflict:
        pass  # the training says it
    return True


class _Judge:
    """Reports each line of the log to the pruner."""

    def __init__(self, trial: Any, metric: str, job: Job):
        self._trial, self._metric = trial, metric
        self._reported = set[int]()
        self.pruned = False
        log = os.path.join(job.folder, "metrics.jsonl")
        if os.path.exists(log):  # a resumed trial is judged as if it had never stopped
            for line in read(log):
                self._report(line["step"], line)

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        self._report(step, metrics)
        self.pruned = self._trial.should_prune()

    def _report(self, step, metrics):
        value = metrics.get(self._metric)
        # a line after the last checkpoint is written twice, with the same numbers
        if value is None or not math.isfinite(value) or step in self._reported:
            return
        self._reported.add(step)
        self._trial.report(value, step)


def _collect(study, folder, goal):
    found = []
    for trial in study.trials():
        values = trial.intermediate_values
        value = trial.value if trial.value is not None else values.get(max(values, default=0))
        attributes = trial.user_attrs
        found.append(
            Trial(
                trial.number,
                _WORDS.get(trial.state.name, "waiting"),
                value,
                attributes.get("folder", ""),
                attributes.get("settings", {}),
            )
        )
    sign = -1 if goal.higher else 1

    def rank(trial):
        worst = trial.value is None
        return (trial.state != "done", worst, 0 if worst else sign * trial.value, trial.number)

    return Tuned(sorted(found, key=rank), goal, folder)


def _write_csv(tuned):
    keys = list(dict.fromkeys(key for trial in tuned.trials for key in trial.settings))
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["trial", "state", tuned.goal.name, "folder", *keys])
    for trial in tuned.trials:
        cells = [trial.settings.get(key) for key in keys]
        writer.writerow([trial.number, trial.state, trial.value, trial.folder, *cells])
    replace(os.path.join(tuned.folder, TABLE), buffer.getvalue().encode())


def _short(value):
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
