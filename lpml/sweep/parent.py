"""The folder of a sweep: the config its points share, and what failed in it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lpml.sweep.jobs import Outcome
from lpml.sweep.publishing import replace
from lpml.training.run import IGNORED_IN_COMPARISON
from lpml.training.run_folder import FolderConflict, differences

SWEEP = "sweep.json"
FAILED = "failed.json"
POINTS = "points.json"
# not the `.lock` of a run, which a run that is refused here takes away again
LOCK = ".sweep.lock"


def claim(folder: str, path: str, base: Mapping[str, Any]) -> None:
    """Makes the folder a sweep's, or sees that it is one of the same config already.

    Args:
      folder: made if need be.
      path: of the config file with its variant.
      base: the resolved config before the points change it.

    Raises:
      FolderConflict: it is a single run, a sweep of another config, or something else.
    """
    check(folder, base)
    os.makedirs(folder, exist_ok=True)
    with locked(folder):
        check(folder, base)  # another shard may have been faster
        if not os.path.exists(os.path.join(folder, SWEEP)):
            _write(folder, SWEEP, {"path": path, "config": base})


def check(folder: str, base: Mapping[str, Any]) -> None:
    """Raises FolderConflict for a folder that `claim` refuses; makes nothing."""
    if not os.path.isdir(folder):
        return
    foreign = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    if "config.json" in foreign:
        raise _conflict(folder, "holds a single run")
    if SWEEP not in foreign:
        if foreign:
            what = f"holds {foreign[0]} but no {SWEEP}, so it is no folder of a sweep"
            raise _conflict(folder, what)
        return
    held = _read(folder, SWEEP).get("config")
    if not isinstance(held, dict):
        raise _conflict(folder, f"holds a {SWEEP} without a config")
    listed = differences(held, base, IGNORED_IN_COMPARISON)
    if listed:
        raise _conflict(folder, f"holds a sweep of another config ({listed})")


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Waits until no other process is in here with the same folder; shards take seconds."""
    with open(os.path.join(folder, LOCK), "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def failures(folder: str) -> dict[str, str]:
    """Reasons by point of what failed when it was last tried, in any shard."""
    if not os.path.exists(os.path.join(folder, FAILED)):
        return {}
    return {str(name): str(reason) for name, reason in _read(folder, FAILED).items()}


def note(folder: str, outcomes: Sequence[Outcome]) -> None:
    """Adds outcomes to what `failures` reads; call it while `locked`."""
    known = failures(folder)
    for outcome in outcomes:
        known.pop(outcome.name, None)
        if outcome.failure is not None:
            known[outcome.name] = outcome.failure
    if known or os.path.exists(os.path.join(folder, FAILED)):
        _write(folder, FAILED, known)


def remember(
    folder: str, settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """Adds points, by name, to those of earlier launches; call it while `locked`.

    Returns:
      What sets the points of all launches apart, those of this one first.
    """
    known: dict[str, Mapping[str, Any]] = dict(settings)
    if os.path.exists(os.path.join(folder, POINTS)):
        known |= {k: v for k, v in _read(folder, POINTS).items() if k not in known}
    _write(folder, POINTS, known)
    return known


def _read(folder, name):
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            content = json.load(file)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise _conflict(folder, f"holds a {name} that is no JSON object")
    return content


def _write(folder, name, content):
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    replace(os.path.join(folder, name), text.encode())


def _conflict(folder, what):
    return FolderConflict(
        f"{os.path.abspath(folder)} {what}: give another --workdir or remove it"
    )
