"""Checkpoints of a run: written whole or not at all, checked before they are believed."""

from __future__ import annotations

import contextlib
import errno
import logging as python_logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from absl import logging

from lpml.training import manifest
from lpml.training.manifest import CheckpointMismatch

__all__ = ["CheckpointMismatch", "Checkpoints"]

_WRITING = ".writing"
_TRASH = ".trash"
_SPARE_BYTES = 1 << 20  # orbax's own files beside the arrays


class Checkpoints:
    """A folder with one orbax checkpoint per step, named by the step.

    Each checkpoint carries a manifest of its leaves and of its files' digests, so that a
    restore either gives back what was saved or passes the checkpoint over. Only this class
    may write into the folder, from one process.

    Args:
        directory: made at the first save.
        keep: how many of the newest checkpoints stay, 1 or more; two or more are needed to
            survive a disk that loses the newest one.
    """

    def __init__(self, directory: str | os.PathLike[str], *, keep: int = 2):
        if keep < 1:
            raise ValueError(f"keep must be 1 or more, not {keep}")
        self._directory = Path(directory).absolute()
        self._keep = keep
        self._unreadable: set[int] = set()

    def save(self, step: int, tree: Any) -> None:
        """Writes a checkpoint and returns once it is in place; takes 25 ms and up.

        It appears under its name in one rename, and only then are others removed: those
        beyond `keep`, and those above `step`, which a run resumed from an older one has
        left behind. A checkpoint of the same step is replaced. The caller may donate or
        overwrite the arrays afterwards.

        Args:
            step: 0 or more.
            tree: arrays of any dtype, typed keys included, at least one with an element.
                Arrays spread over several processes must be replicated.

        Raises:
            TypeError: a leaf is no array, or has 64 bits while jax's x64 is off.
            ValueError: the step is negative, or the tree holds nothing to save.
            OSError: the folder cannot be written, or its disk is full; names the folder.
        """
        if step < 0:
            raise ValueError(f"step must be 0 or more, not {step}")
        arrays, leaves = manifest.pack(tree)
        if not arrays:
            raise ValueError("the tree holds no array with an element")
        try:
            self._write(step, arrays, leaves)
        except OSError as error:
            shutil.rmtree(self._directory / _WRITING, ignore_errors=True)
            reason = f"cannot save step {step}: {error.strerror or error}"
            raise OSError(error.errno, reason, str(self._directory)) from error
        self._sweep(step)

    def restore(self, like: Any, *, only: tuple[str, ...] = ("",)) -> tuple[int, Any] | None:
        """Returns the step and tree of the newest readable checkpoint, or None without one.

        A checkpoint that is incomplete or damaged is passed over with one warning line.

        Args:
            like: the tree to fill, of arrays or ShapeDtypeStructs; see manifest.unpack for
                where the new arrays are placed.
            only: beginnings of the key paths that `like` is held against; it may then leave
                out the rest of what was saved.

        Raises:
            CheckpointMismatch: the newest readable checkpoint has other leaves, shapes or
                dtypes; names the first one. Also for 64-bit leaves while jax's x64 is off.
        """
        for step in reversed(self.steps()):
            path = self._directory / str(step)
            try:
                held = manifest.read(path, step)
                saved = {name: held[name] for name in held if name.startswith(only)}
                manifest.compare(saved, like)
                with _orbax() as ocp:
                    arrays = ocp.load(path)
            except CheckpointMismatch as error:
                raise CheckpointMismatch(f"checkpoint {path} {error}") from None
            except Exception as error:  # orbax raises what its many layers happen to raise
                reason = str(error).strip().splitlines() or [type(error).__name__]
                logging.warning("skipping unreadable checkpoint %s: %.200s", path, reason[0])
                self._unreadable.add(step)
                continue
            return step, manifest.unpack(saved, arrays, like)
        return None

    def steps(self) -> list[int]:
        """Returns the steps in the folder in rising order, readable or not."""
        if not self._directory.is_dir():
            return []
        names = [entry.name for entry in self._directory.iterdir() if entry.is_dir()]
        return sorted(int(name) for name in names if name.isdecimal() and name.isascii())

    def _write(self, step: int, arrays: dict[str, Any], leaves: dict[str, Any]) -> None:
        place = self._directory / _WRITING
        shutil.rmtree(place, ignore_errors=True)
        # Asked before orbax is: its threads outlive a failed save by minutes, and complain.
        place.mkdir(parents=True)
        needed = sum(array.nbytes for array in arrays.values()) + _SPARE_BYTES
        if shutil.disk_usage(place).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with _orbax() as ocp:
            try:
                ocp.save(place / "new", arrays)
            except OSError:
                raise
            except Exception as error:
                raise OSError(errno.EIO, f"{type(error).__name__}: {error}") from error
        manifest.write(place / "new", step, leaves)
        target = self._directory / str(step)
        if target.exists():
            self._discard(step)
        os.rename(place / "new", target)
        place.rmdir()
        self._unreadable.discard(step)

    def _sweep(self, step: int) -> None:
        readable = [s for s in self.steps() if s <= step and s not in self._unreadable]
        for old in set(self.steps()) - set(readable[-self._keep :]):
            self._discard(old)
        self._unreadable.clear()
        for left_over in self._directory.glob(f"{_TRASH}*"):
            shutil.rmtree(left_over, ignore_errors=True)

    def _discard(self, step: int) -> None:
        # Renamed first: a kill amid the deletion must not leave half a checkpoint.
        trash = self._directory / f"{_TRASH}-{step}"
        shutil.rmtree(trash, ignore_errors=True)
        os.rename(self._directory / str(step), trash)


@contextlib.contextmanager
def _orbax() -> Iterator[Any]:
    """Imports orbax; drops what it and its threads log meanwhile, and nothing else."""

    def foreign(record: python_logging.LogRecord) -> bool:
        return "orbax" not in Path(record.pathname).parts

    loggers = [python_logging.getLogger(), logging.get_absl_logger()]
    for logger in loggers:
        logger.addFilter(foreign)
    try:
        # Late, because it costs 0.8 s after jax and many commands never save.
        from orbax.checkpoint import v1 as ocp

        with _alone():
            yield ocp
    finally:
        for logger in loggers:
            logger.removeFilter(foreign)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Of several processes one saves and loads, but orbax would wait in it for the others.

    Its options for a part of the processes leave out one check, which asks all of them; so
    orbax is told that there is one.
    """
    if jax.process_count() == 1:
        yield
        return
    real = jax.process_count
    jax.process_count = lambda *_: 1
    try:
        yield
    finally:
        jax.process_count = real
