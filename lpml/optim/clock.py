"""When something expensive is due: the same for the program and for the host beside it."""

import dataclasses
from typing import Any

from lpml.optim.numbers import check_whole


@dataclasses.dataclass(frozen=True)
class Clock:
    """Steps `start_at`, `start_at` + `every`, ... counted from 1.

    Args:
      every: steps between two refreshes, >= 1.
      start_at: the first of them, >= 1; None is `every`.

    Raises:
      ValueError: a number out of its range.
    """

    every: int
    start_at: int | None = None

    def __post_init__(self):
        for name, value in (("refresh_every", self.every), ("start_at", self.start_at)):
            if value is not None:
                check_whole(name, value, 1)

    @property
    def first(self) -> int:
        """`start_at`, None resolved."""
        return self.every if self.start_at is None else self.start_at

    def due(self, step: Any) -> Any:
        """Whether the step of this number (from 1), an int or traced, is one of them."""
        return (step >= self.first) & ((step - self.first) % self.every == 0)

    def next_due(self, step: int) -> int:
        """The first of them after `step`."""
        if step < self.first:
            return self.first
        return self.first + ((step - self.first) // self.every + 1) * self.every
