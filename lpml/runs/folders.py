"""Where the runs are."""

from __future__ import annotations

import os

from lpml.build import ConfigError
from lpml.runs.cells import natural

# What a run puts beside its config.json; one of them tells it from a stranger's config.json.
MARKS = frozenset((".lock", "metrics.jsonl", "environment.json", "checkpoints", "DONE"))


def find(root: str | os.PathLike[str]) -> list[str]:
    """Run folders in `root`, itself included, in natural order (`bits=4` before `bits=16`).

    A run folder holds config.json and something else that a run writes. Folders inside of a
    run, hidden folders and folders that may not be read are passed over. Links are followed;
    a folder reached twice is found once.

    Args:
      root: a folder; the paths found begin with it.

    Raises:
      ConfigError: there is no such folder.
    """
    root = os.fspath(root)
    if not os.path.isdir(root):
        what = "is a file and no folder" if os.path.exists(root) else "does not exist"
        raise ConfigError(f"{root or 'the folder of no name'} {what}; give a folder of runs")
    found: list[str] = []
    _collect(root, found, set())
    return sorted(found, key=lambda path: [natural(part) for part in path.split(os.sep)])


def _collect(folder: str, found: list[str], seen: set[tuple[int, int]]) -> None:
    try:
        status = os.stat(folder)
        content = sorted(os.listdir(folder))
    except OSError:
        return
    place = (status.st_dev, status.st_ino)
    if place in seen:
        return
    seen.add(place)
    if "config.json" in content and MARKS.intersection(content):
        found.append(folder)
        return
    for name in content:
        path = os.path.join(folder, name)
        if not name.startswith(".") and os.path.isdir(path):
            _collect(path, found, seen)
