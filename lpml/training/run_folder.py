"""The folder of one run: who may use it, under which config, and whether it is done."""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

_SHOWN = 3


class FolderConflict(ValueError):
    """The folder belongs to another run, to another process, or to no run at all."""


class DamagedFolder(FolderConflict):
    """The folder is no folder, or what makes it a run's cannot be read."""


class FolderInUse(FolderConflict):
    """Another process has the folder open."""


class RunFolder:
    """Owns the names in a run's folder and a lock on it for as long as it is open.

    The lock is the operating system's: it ends with the process however that ends, so a
    killed run never leaves a folder locked.

    Args:
        path: made if absent, with its parents.

    Raises:
        FolderInUse: another process has it open; names the process.
        DamagedFolder: it is a file.
        OSError: the folder cannot be made or written.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path).absolute()
        self.config_file = self.path / "config.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.environment_file = self.path / "environment.json"
        self.checkpoints = self.path / "checkpoints"
        self.done_file = self.path / "DONE"
        self.failed_file = self.path / "FAILED"
        self.pruned_file = self.path / "PRUNED"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise DamagedFolder(self._remedy("is a file and no folder")) from error
        self._lock = _lock(self.path)

    def claim(self, config: Mapping[str, Any], *, ignore: tuple[str, ...] = ()) -> None:
        """Takes the folder for a run of `config`, writing config.json or comparing with it.

        Args:
            config: the resolved config, of JSON values and nested mappings.
            ignore: dotted names whose values may differ, e.g. "data.dir"; a name stands for
                everything below it.

        Raises:
            FolderConflict: config.json differs, or the folder holds files (hidden ones apart)
                but no config.json.
            DamagedFolder: config.json is no JSON object.
            TypeError: the config holds what JSON cannot.
            OSError: config.json cannot be written.
        """
        # Compared as JSON on both sides: there a tuple and a list are the same.
        wanted = json.loads(json.dumps(config))
        if not self.config_file.exists():
            self._refuse_foreign_files()
            write_json(self.config_file, wanted)
            return
        listed = differences(self._read_object(self.config_file), wanted, ignore)
        if listed:
            raise self._conflict(f"holds a run of another config ({listed})")

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Marks the run as done, writing its final metrics (JSON values) in one rename.

        NaN and infinities become null. Raises OSError if the mark cannot be written.
        """
        write_json(self.done_file, {name: _finite(value) for name, value in summary.items()})

    def finished(self) -> dict[str, Any] | None:
        """Returns what finish() was given, or None while the run is not done.

        Raises:
            DamagedFolder: the mark is no JSON object.
        """
        return self._read_object(self.done_file) if self.done_file.exists() else None

    def close(self) -> None:
        """Gives up the lock; a second call does nothing."""
        self._lock.close()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse_foreign_files(self) -> None:
        foreign = sorted(p.name for p in self.path.iterdir() if not p.name.startswith("."))
        if foreign:
            (self.path / ".lock").unlink(missing_ok=True)  # leave a stranger's folder as it was
            raise self._conflict(
                f"holds {foreign[0]} but no config.json, so it is no run folder"
            )

    def _read_object(self, file: Path) -> dict[str, Any]:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise DamagedFolder(self._remedy(f"holds a {file.name} that is no JSON object"))
        return content

    def _conflict(self, what: str) -> FolderConflict:
        return FolderConflict(self._remedy(what))

    def _remedy(self, what: str) -> str:
        return f"{self.path} {what}: give another --workdir or remove it"


def write_json(path: Path, content: Any) -> None:
    """Writes indented JSON in one rename: readers see the old file or the whole new one.

    Raises:
        TypeError: the content holds what JSON cannot.
        OSError: the file cannot be written; the old one is then unchanged.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def _lock(folder: Path) -> TextIO:
    """Opens and locks the folder's .lock, which names the process that holds it."""
    file = (folder / ".lock").open("a+", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise FolderInUse(
            f"{folder} is in use by process {holder}: wait for it or give another --workdir"
        ) from None
    except OSError:
        file.close()
        raise
    return file


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict of dotted keys; an empty dict is a value."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def differences(
    held: Mapping[str, Any], wanted: Mapping[str, Any], ignore: tuple[str, ...]
) -> str:
    """In words, the first few settings in which two configs differ; empty: they do not.

    A setting that is not there is None, the default: so what was run before an option came is
    still of its config.

    Args:
      held: a config as it was written.
      wanted: the config of now.
      ignore: dotted names that may differ; a name stands for everything below it.
    """
    old, new = flatten(held), flatten(wanted)
    found = [
        f"{name} is {_shown(old, name)} there and {_shown(new, name)} here"
        for name in dict.fromkeys([*new, *old])
        # as text, because in Python 1 == True == 1.0 and NaN differs from itself
        if _text(old.get(name)) != _text(new.get(name)) and not _covered(name, ignore)
    ]
    more = len(found) - _SHOWN
    return "; ".join(found[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _covered(name: str, ignore: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in ignore)


def _shown(flat: dict[str, Any], name: str) -> str:
    return _text(flat[name]) if name in flat else "absent"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
