"""The file of a tuning study, which several launches share and any of them may leave behind."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from lpml.build import ConfigError
from lpml.sweep.axes import Axis
from lpml.training.run_folder import FolderConflict

JOURNAL = "study.journal"
_RESUMES = "resumes"
_LAUNCH = "launch"


def import_optuna() -> ModuleType:
    """Optuna, which lpml does without; raises ConfigError with the remedy if missing."""
    try:
        import optuna

        optuna.create_study  # noqa: B018  a folder called optuna has none
    except (ImportError, AttributeError) as error:
        raise ConfigError("--tune needs the package optuna: pip install 'optuna>=4'") from error
    return optuna


_NAMES = {"metric": "metric", "axes": "space, its --axis flags differ"}


class Study:
    """Trials over the axes of a sweep; use it as a context, which says that a launch lives.

    A trial that a launch left behind, killed or stopped, is asked again with the same
    settings by the next launch, and so resumes its run. What trial k tries depends on the
    seed, k and the results so far alone: a study in pieces is the study in one piece.

    Args:
      folder: holds the study's file; it exists.
      axes: what to tune; the axes of one tuple go together.
      metric: name of the value to be optimised.
      higher: whether more of it is better.
      seed: of the sampler.

    Raises:
      ConfigError: optuna is missing.
      FolderConflict: the folder's study has other axes or another metric.
    """

    def __init__(
        self,
        folder: str,
        axes: Sequence[tuple[Axis, ...]],
        *,
        metric: str,
        higher: bool,
        seed: int,
    ):
        self._optuna = import_optuna()
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        self._folder, self._axes, self._seed = folder, axes, seed
        backend = self._optuna.storages.journal.JournalFileBackend(
            os.path.join(folder, JOURNAL), lock_obj=_Lock(os.path.join(folder, ".journal.lock"))
        )
        self._study = self._optuna.create_study(
            storage=self._optuna.storages.JournalStorage(backend),
            study_name="lpml",
            direction="maximize" if higher else "minimize",
            pruner=self._optuna.pruners.MedianPruner(),
            load_if_exists=True,
        )
        wanted = {
            "metric": metric,
            "axes": json.dumps([[list(axis) for axis in group] for group in axes]),
        }
        for key, value in wanted.items():
            held = self._study.user_attrs.get(key)
            if held is None:
                self._study.set_user_attr(key, value)
            elif held != value:
                raise FolderConflict(
                    f"{os.path.abspath(folder)} holds a study of another {_NAMES[key]}: give "
                    "the same, another --workdir, or remove it"
                )
        self._launch = uuid.uuid4().hex
        self._alive = _Lock(self._file_of(self._launch))

    def __enter__(self) -> Study:
        self._alive.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._alive.release()
        with contextlib.suppress(OSError):
            os.remove(self._file_of(self._launch))

    def ask(self, most: int) -> tuple[Any, dict[str, Any]] | None:
        """A trial (optuna's) and its settings; None when the study has `most` of them."""
        with _Lock(os.path.join(self._folder, ".study.lock")):
            self._requeue()
            everything = self._study.trials
            waiting = self._optuna.trial.TrialState.WAITING
            count = len(self.trials())
            if count >= most and not any(trial.state == waiting for trial in everything):
                return None
            self._study.sampler = self._optuna.samplers.TPESampler(seed=self._seed_of(count))
            trial = self._study.ask()
            trial.set_user_attr(_LAUNCH, self._launch)
            settings: dict[str, Any] = {}
            for group in self._axes:
                settings |= suggest(trial, group)
            return trial, settings

    def tell(self, trial: Any, value: float | None, *, state: str = "COMPLETE") -> None:
        """The end of a trial: COMPLETE with its value, PRUNED or FAIL without."""
        self._study.tell(trial, value, state=self._optuna.trial.TrialState[state])

    def trials(self) -> list[Any]:
        """Trials (optuna's), without those that a later one resumed."""
        everything = self._study.trials
        resumed = {trial.user_attrs.get(_RESUMES) for trial in everything}
        return [trial for trial in everything if trial.number not in resumed]

    def _requeue(self):
        for trial in self.trials():
            if trial.state != self._optuna.trial.TrialState.RUNNING:
                continue
            launch = trial.user_attrs.get(_LAUNCH)
            # one without: its launch died within the lock that this one has now
            if launch is None or _is_free(self._file_of(launch)):
                self._study.enqueue_trial(trial.params, user_attrs={_RESUMES: trial.number})
                self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)

    def _seed_of(self, number):
        return int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])

    def _file_of(self, launch):
        return os.path.join(self._folder, f".launch-{launch}")


def suggest(trial: Any, group: tuple[Axis, ...]) -> dict[str, Any]:
    """The settings of one group of axes: between the ends where the axis has some.

    A list is a choice among its values; axes that go together are one choice.
    """
    first = group[0]
    if len(group) > 1 or first.kind == "list":
        name = "&".join(axis.key for axis in group)
        # by place: the values may be anything, sub-trees too
        place = trial.suggest_categorical(name, list(range(len(first.values))))
        return {axis.key: axis.values[place] for axis in group}
    low, high = min(first.values), max(first.values)
    if first.kind == "range":
        step = abs(first.values[1] - first.values[0]) if len(first.values) > 1 else 1
        return {first.key: trial.suggest_int(first.key, low, high, step=step)}
    if all(isinstance(value, int) for value in first.values):
        return {first.key: trial.suggest_int(first.key, low, high, log=first.kind == "log")}
    return {first.key: trial.suggest_float(first.key, low, high, log=first.kind == "log")}


class _Lock:
    """A lock of the operating system's on a file: it ends with the process that holds it."""

    def __init__(self, path: str):
        self._path = path
        self._file: Any = None

    def acquire(self) -> bool:
        self._file = open(self._path, "a")  # noqa: SIM115
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        self._file.close()

    def __enter__(self) -> Iterator[None] | None:
        self.acquire()
        return None

    def __exit__(self, *_: object) -> None:
        self.release()


def _is_free(path):
    try:
        with open(path, "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    with contextlib.suppress(OSError):
        os.remove(path)  # made anew just now, or left by a launch that was killed
    return True
