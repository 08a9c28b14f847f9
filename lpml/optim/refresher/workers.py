"""Threads and processes that solve for matrices, and are replaced when they die."""

import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from lpml.optim.refresher.child import Child, ChildDied
from lpml.optim.refresher.transformation import Solved

Solve = Callable[[str, np.ndarray], Solved]
NICER = 10  # how much the training's threads go before a worker's where cores are short


class Piece(NamedTuple):
    """Some matrices of a stack: rows `start` to `start` + K."""

    name: str
    start: int
    matrices: np.ndarray  # [K, b, b]

    @property
    def cost(self) -> int:
        """Proportional to the time of its solution."""
        return len(self.matrices) * self.matrices.shape[1] ** 3


class Answer(NamedTuple):
    """A piece solved, or the reason why not."""

    piece: Piece
    solved: Solved
    reason: str | None


class Workers:
    """A pool of threads; with `processes`, every thread has a process of its own that solves.

    While threads solve themselves, BLAS has one thread each: several would wait for each other
    on the cores that the training keeps busy. That holds for the whole process until `close`.

    Args:
      count: threads.
      solve: see `HostSide`.
      processes: whether they solve in processes.
      timeout: seconds after which a process that does not answer is taken for dead.

    Attributes:
      replaced: processes that died and were started again.
    """

    def __init__(self, count: int, solve: Solve, *, processes: bool, timeout: float):
        self.count, self.replaced = count, 0
        self._solve, self._processes, self._timeout = solve, processes, timeout
        self._tasks: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
        self._tasks = queue.SimpleQueue()
        self._own = threading.local()
        self._children: list[Child] = []
        self._lock = threading.Lock()
        self._limits = None if processes else threadpool_limits(1, user_api="blas")
        # daemons: a solver that hangs must not keep the program from ending
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def answers(self, pieces: list[Piece]) -> list[Answer]:
        """All pieces solved; waits for them."""
        cut = [part for piece in pieces for part in self._cut(piece)]
        cut.sort(key=lambda piece: piece.cost, reverse=True)
        futures = []
        for piece in cut:
            future: Future[Answer] = Future()
            self._tasks.put((future, lambda piece=piece: self._answer(piece)))  # type: ignore[misc]
            futures.append(future)
        return [future.result() for future in futures]

    def close(self) -> None:
        """Lets go of threads and processes; what is being solved is not waited for."""
        for _ in self._threads:
            self._tasks.put(None)
        with self._lock:
            for child in self._children:
                child.close()
            self._children.clear()
        if self._limits is not None:
            self._limits.restore_original_limits()

    def _cut(self, piece):
        """A piece in as many parts as there are workers."""
        parts = np.array_split(np.arange(len(piece.matrices)), self.count)
        for rows in parts:
            if len(rows):
                first, last = int(rows[0]), int(rows[-1]) + 1
                yield Piece(piece.name, piece.start + first, piece.matrices[first:last])

    def _work(self):
        _be_nice()
        if self._processes:
            self._child()  # it starts, which takes seconds, before it is needed
        while (task := self._tasks.get()) is not None:
            _settle(*task)

    def _answer(self, piece: Piece) -> Answer:
        try:
            solved = self._solved(piece)
            _check(piece, solved)
            finite = np.isfinite(solved.matrix).all((1, 2))
            return Answer(piece, solved._replace(ok=solved.ok & finite), None)
        except BaseException as error:  # a solver may raise anything, SystemExit too
            return Answer(piece, not_solved(piece.matrices), f"{type(error).__name__}: {error}")

    def _solved(self, piece):
        if not self._processes:
            return self._solve(piece.name, piece.matrices)
        try:
            return self._child()(self._solve, piece.name, piece.matrices)
        except ChildDied:
            # once more, in a new process: a machine short of memory kills one of many
            self._bury()
            return self._child()(self._solve, piece.name, piece.matrices)

    def _child(self):
        if getattr(self._own, "child", None) is None or self._own.child.dead:
            self._own.child = Child(self._timeout)
            with self._lock:
                self._children.append(self._own.child)
        return self._own.child

    def _bury(self):
        with self._lock:
            self.replaced += 1
            self._children.remove(self._own.child)
        self._own.child.close()
        self._own.child = None


def in_background(call: Callable[[], Any]) -> Future[Any]:
    """The call's result, computed in a thread that does not keep the program from ending."""
    future: Future[Any] = Future()
    thread = threading.Thread(target=_settle, args=(future, call), daemon=True)
    thread.start()
    return future


def _settle(future, call):
    try:
        future.set_result(call())
    except BaseException as error:  # whoever waits must not wait for ever
        future.set_exception(error)


def not_solved(matrices: np.ndarray) -> Solved:
    """No root for any of these matrices [K, b, b], though one was wanted."""
    count = len(matrices)
    return Solved(np.zeros_like(matrices), np.zeros(count, bool), np.ones(count, bool))


def _check(piece, solved):
    wanted = piece.matrices.shape
    shapes = [np.shape(part) for part in solved]
    if shapes != [wanted, wanted[:1], wanted[:1]]:
        raise ValueError(f"a solver of {list(wanted)} gave {[list(s) for s in shapes]}")


def _be_nice():
    """Linux has a priority per thread; elsewhere the training shares its cores evenly."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICER)
    except (AttributeError, OSError):
        return
