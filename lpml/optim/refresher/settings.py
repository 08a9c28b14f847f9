"""When work of the host comes back, who does it, and what happens if it does not succeed."""

import dataclasses
import os
import threading

from lpml.optim.numbers import check_whole

EXECUTORS = ("thread", "process")
LATE = ("block", "skip")
ON_FAILURE = ("graft", "keep", "raise")


@dataclasses.dataclass(frozen=True)
class HostWork:
    """How roots are computed beside the training.

    Args:
      delay: steps from the snapshot of the statistics to the use of their roots; 0 waits for
        them at once. At most the interval between two snapshots, and None is just that: then
        the host has the whole interval, and one refresh at a time is under way.
      first_delay: the delay of the very first roots. Until these come, a grafting method moves
        everything; that costs more than waiting once, hence 0.
      executor: "thread" (numpy gives the interpreter free while LAPACK computes), or "process",
        which survives a crash in a solver and costs a copy of the statistics each way.
      host_workers: threads or processes; None is half of the machine's cores, at least one.
      late: "block" waits at the step that is due, so that a trajectory does not depend on how
        fast the host is. "skip" goes on with old roots and takes the new ones as soon as they
        are there, which no second run will repeat.
      timeout: seconds from a swap that is due ("block") or from the snapshot ("skip") until a
        refresh of which nothing came counts as failed, and its workers as dead.
      max_failures: refreshes in a row that a matrix may fail before `on_failure`; >= 0.
      on_failure: "graft" hands the block over to the grafting method until one of its roots
        succeeds again, "keep" stays with the old root, "raise" ends the training.

    Raises:
      ValueError: a number out of its range, or a word that is none of these.
    """

    delay: int | None = None
    first_delay: int = 0
    executor: str = "thread"
    host_workers: int | None = None
    late: str = "block"
    timeout: float = 600.0
    max_failures: int = 3
    on_failure: str = "graft"

    def __post_init__(self):
        least = {"delay": 0, "first_delay": 0, "host_workers": 1, "max_failures": 0}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None or name not in ("delay", "host_workers"):
                check_whole(name, value, bound)
        choices = {"executor": EXECUTORS, "late": LATE, "on_failure": ON_FAILURE}
        for name, words in choices.items():
            value = getattr(self, name)
            if value not in words:
                raise ValueError(f"{name} {value!r} does not exist; choose {', '.join(words)}")
        if not (isinstance(self.timeout, (int, float)) and self.timeout > 0):
            raise ValueError(f"timeout = {self.timeout} must be a positive number of seconds")

    def check_unused(self) -> None:
        """Raises ValueError where a setting says what nobody does: the program renews roots."""
        fields = dataclasses.asdict(HostWork())
        changed = [name for name, value in fields.items() if getattr(self, name) != value]
        if changed:
            raise ValueError(
                f"{', '.join(changed)} is of refresh 'host': set that, or leave it as it was"
            )

    @property
    def patience(self) -> float:
        """`timeout`, no longer than a thread can wait."""
        return min(self.timeout, threading.TIMEOUT_MAX / 2)

    def check(self, every: int) -> None:
        """Raises ValueError where a delay is longer than `every`, the interval of snapshots."""
        for name in ("delay", "first_delay"):
            value = getattr(self, name)
            if value is not None and value > every:
                raise ValueError(
                    f"{name} = {value} must be 0 to refresh_every = {every}: the roots of one "
                    "snapshot are due before the next is taken"
                )

    def delay_of(self, every: int, *, first: bool) -> int:
        """Steps between a snapshot and its swap."""
        if first:
            return self.first_delay
        return every if self.delay is None else self.delay

    @property
    def count(self) -> int:
        """Workers, None resolved."""
        return self.host_workers or max(1, (os.cpu_count() or 1) // 2)
