"""What a refresh gives, stack by stack, and how often each matrix has failed in a row."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from lpml.optim.refresher.device import Layout, Parts, fetched, rows_of, rows_within
from lpml.optim.refresher.settings import HostWork
from lpml.optim.refresher.transformation import Stacks
from lpml.optim.refresher.workers import Answer, Piece, not_solved


class RootsFailed(RuntimeError):
    """Roots that cannot be had, where the settings want the training to end for it."""


class Result(NamedTuple):
    """Of one refresh: the fields of `Solved`, by stack and first row."""

    matrices: dict[str, Parts]
    ok: dict[str, Parts]
    asked: dict[str, Parts]


def gathered(pieces: list[Piece], answers: list[Answer]) -> Result:
    """Answers on parts of the pieces, joined again."""
    found = Result({}, {}, {})
    for piece in pieces:
        end = piece.start + len(piece.matrices)
        own = [
            answer
            for answer in answers
            if answer.piece.name == piece.name and piece.start <= answer.piece.start < end
        ]
        own.sort(key=lambda answer: answer.piece.start)
        nothing = not_solved(piece.matrices[:0])
        for into, *rows in zip(found, nothing, *(a.solved for a in own), strict=True):
            into.setdefault(piece.name, {})[piece.start] = np.concatenate(rows)
    return found


def lost(layouts: Mapping[str, Layout]) -> Result:
    """A refresh of which nothing came back: every matrix has failed."""
    found = Result({}, {}, {})
    for name, layout in layouts.items():
        for start, count in rows_of(layout):
            nothing = not_solved(np.zeros((count, *layout.shape[1:]), layout.dtype))
            for into, rows in zip(found, nothing, strict=True):
                into.setdefault(name, {})[start] = rows
    return found


def parts_of(stacks: Stacks) -> dict[str, Parts]:
    """The rows of stacks from a checkpoint that belong to this process."""
    return {
        name: fetched(stack) if isinstance(stack, jax.Array) else {0: np.asarray(stack)}
        for name, stack in stacks.items()
    }


class Streaks:
    """Counts, matrix by matrix, the refreshes that failed one after another.

    Attributes:
      counts: [K] int32 by stack and first row; empty before the first refresh.
    """

    def __init__(self, work: HostWork):
        self._work = work
        self.counts: dict[str, Parts] = {}

    def of(self, result: Result) -> dict[str, Parts]:
        """The counts of the matrices of a result, [K] int32; zeros before the first refresh."""
        zeros = {
            name: {start: np.zeros(len(ok), np.int32) for start, ok in own.items()}
            for name, own in result.ok.items()
        }
        return self.counts or zeros

    def after(self, result: Result, step: int) -> dict[str, Parts]:
        """Which matrices [K] bool are to be used no more; `step` is that of the snapshot.

        Raises:
          RootsFailed: there are such, and `on_failure` is "raise".
        """
        drop: dict[str, Parts] = {}
        for name, own in result.ok.items():
            before, asked = self.counts.get(name, {}), result.asked[name]
            counts = {
                start: _counted(rows_within(before, start, len(ok)), ok, asked[start])
                for start, ok in own.items()
            }
            self.counts[name] = counts
            drop[name] = {start: self._dropped(counts[start], name, step) for start in own}
        return drop

    def _dropped(self, counts, name, step):
        beyond = counts > self._work.max_failures
        if self._work.on_failure == "raise" and beyond.any():
            raise RootsFailed(
                f"{int(beyond.sum())} matrices of stack {name} have no root at step {step}, "
                f"the last of {int(counts.max())} failures in a row; give a larger epsilon, or "
                "on_failure='graft'"
            )
        return beyond & (self._work.on_failure == "graft")


def _counted(before, ok, asked):
    """Failures in a row [K] after one more refresh."""
    before = np.zeros(len(ok), np.int32) if before is None else before
    return np.where(asked & ~ok, before + 1, np.where(ok, 0, before)).astype(np.int32)
