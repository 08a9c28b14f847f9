"""What a run does that trains nothing: it measures."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

Lines = Iterator[Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Numbers that are a function of the seed alone: an error, a distance, a rate.

    Args:
      lines: `lines(seed)` yields one line of the log after another, each with all `metrics`;
        the last one is the result, so earlier ones should be it over fewer trials, or along
        an axis that the curve of the log is read by.
      count: how many lines there are, >= 1.
      metrics: names; sweeps compare by the first unless they are told otherwise.
    """

    lines: Callable[[int], Lines]
    count: int
    metrics: tuple[str, ...]

    def __post_init__(self):
        if self.count < 1:
            raise ValueError(f"a measurement needs at least one line, not {self.count}")
