"""The host's part between two steps: snapshots out, roots in, each at a step that is fixed."""

import dataclasses
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lpml.optim.refresher.device import Layout, Parts, fetched, layout_of, per_matrix, placed
from lpml.optim.refresher.results import Result, Streaks, gathered, lost, parts_of
from lpml.optim.refresher.transformation import (
    HostRefreshedTransformation,
    HostSide,
    Snapshot,
    Stacks,
)
from lpml.optim.refresher.workers import Piece, Workers, in_background

LOG = logging.getLogger("lpml")


class InFlight(NamedTuple):
    """What a checkpoint holds of the host's side: finished roots that are not in use yet."""

    due: Any  # () int32, the step after which they are swapped in; -1: there are none
    step: Any  # () int32, the step of their statistics
    matrices: Stacks  # [K, b, b]
    ok: Stacks  # [K] bool
    asked: Stacks  # [K] bool
    streaks: Stacks  # [K] int32, refreshes in a row that failed

    @property
    def spread_fields(self) -> tuple[str, ...]:
        """What is shared out over the devices of a mesh, along K; see `ShampooState`."""
        return ("matrices", "ok", "asked", "streaks")


@dataclasses.dataclass
class Pending:
    """A refresh under way."""

    step: int
    due: int
    result: "Future[Result]"
    since: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        """Seconds since the snapshot."""
        return time.monotonic() - self.since


class RootRefresher:
    """Renews the roots of an optimizer on the host while the training goes on.

        with RootRefresher(tx) as refresher:
            for step in range(1, steps + 1):
                params, opt_state = train_step(params, opt_state, batch)
                opt_state = refresher.after_step(step, opt_state)

    After step s, where a refresh is due, a copy of the statistics is made on the device and
    leaves it without holding up the steps that follow; workers solve for it in float64; after
    step s + delay the roots are put into the state. Both steps are fixed by the settings, so a
    trajectory does not depend on how fast anybody is. The state keeps shapes, types and places:
    the step is not compiled again.

    Args:
      tx: a `HostRefreshedTransformation`; its state may lie within others, e.g. of a chain.

    Raises:
      ValueError: `tx` renews its roots by itself.
    """

    def __init__(self, tx: optax.GradientTransformation):
        if not isinstance(tx, HostRefreshedTransformation):
            raise ValueError(
                "a RootRefresher needs a transformation that leaves its roots to the host: "
                "shampoo(..., refresh='host') itself, also where it is a part of a chain"
            )
        host: HostSide = tx.host
        self._host = host
        # a copy of its own: the next step is given the state to overwrite
        self._copy = jax.jit(lambda state: jax.tree.map(jnp.copy, host.take(state)))
        self._put: Callable[..., optax.OptState] | None = None
        self._workers: Workers | None = None
        self._pending: Pending | None = None
        self._streaks = Streaks(host.work)
        self._layouts: dict[str, Layout] = {}
        self._swaps = 0
        self._attempts_before: int | None = None
        self._wait, self._late, self._failed, self._replaced = 0.0, 0, 0, 0
        self._closed = False

    def __enter__(self) -> "RootRefresher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def next_step(self, step: int) -> int:
        """The first step after `step` after which there is something to do."""
        due = self._host.clock.next_due(step)
        if self._pending is None:
            return due
        return min(due, max(self._pending.due, step + 1))

    def after_step(self, step: int, opt_state: optax.OptState) -> optax.OptState:
        """The state to go on with after `step` steps; the given one may be donated.

        To be called after every step, or at least after those that `next_step` names.

        Raises:
          RootsFailed: a matrix failed too often, where `on_failure` is "raise".
          ValueError: the state is at another step, or someone else has put roots into it.
        """
        if self._closed:
            raise ValueError("this RootRefresher is closed; make another one")
        if self._pending is not None and self._arrived(self._pending, step):
            opt_state = self._swap(self._pending, opt_state)
        if self._host.clock.due(step) and self._pending is None:
            self._pending = self._begin(step, opt_state)
            if self._pending.due == step:
                opt_state = self._swap(self._pending, opt_state)
        return opt_state

    def in_flight(self, opt_state: optax.OptState) -> InFlight:
        """What a checkpoint must hold besides `opt_state`; waits for a refresh under way."""
        layouts, pending = self._layouts_of(opt_state), self._pending
        step, due, result = -1, -1, lost(layouts)
        if pending is not None:
            step, due, result = pending.step, pending.due, self._awaited(pending)
        return InFlight(
            due=np.int32(due),
            step=np.int32(step),
            matrices=self._laid(result.matrices, layouts),
            ok=self._laid(result.ok, _numbers(layouts, bool)),
            asked=self._laid(result.asked, _numbers(layouts, bool)),
            streaks=self._laid(self._streaks.of(result), _numbers(layouts, np.int32)),
        )

    def shapes(self, opt_state: optax.OptState) -> InFlight:
        """`in_flight` as shapes and dtypes, of a state that may itself be shapes."""
        stacks = jax.eval_shape(self._host.take, opt_state).stacks

        def numbers(dtype):
            return {n: jax.ShapeDtypeStruct(s.shape[:1], dtype) for n, s in stacks.items()}

        scalar = jax.ShapeDtypeStruct((), np.int32)
        ok, asked, streaks = numbers(np.bool_), numbers(np.bool_), numbers(np.int32)
        return InFlight(scalar, scalar, stacks, ok, asked, streaks)

    def load(self, saved: InFlight) -> None:
        """Goes on from a checkpoint; to be called before the first `after_step`."""
        self._streaks.counts = parts_of(saved.streaks)
        if int(saved.due) < 0:
            return
        done: Future[Result] = Future()
        done.set_result(Result(*map(parts_of, (saved.matrices, saved.ok, saved.asked))))
        self._pending = Pending(int(saved.step), int(saved.due), done)

    def report(self) -> dict[str, float]:
        """Counters since the start, and the seconds waited since the last report."""
        wait, self._wait = self._wait, 0.0
        now = self._workers.replaced if self._workers else 0
        return {
            "roots_wait_seconds": wait,
            "roots_late": float(self._late),
            "roots_jobs_failed": float(self._failed),
            "roots_workers_replaced": float(self._replaced + now),
        }

    def close(self) -> None:
        """Ends the workers; a refresh under way is lost. A second call does nothing."""
        self._closed, self._pending = True, None
        self._drop_workers()

    def _begin(self, step, opt_state):
        snapshot = self._copy(opt_state)
        for leaf in jax.tree.leaves(snapshot):
            for shard in leaf.addressable_shards:
                shard.data.copy_to_host_async()
        self._layouts = {name: layout_of(stack) for name, stack in snapshot.stacks.items()}
        if self._workers is None:
            work = self._host.work
            self._workers = Workers(
                work.count,
                self._host.solve,
                processes=work.executor == "process",
                timeout=work.patience,
            )
        workers, swaps = self._workers, self._swaps
        result = in_background(lambda: self._solved(snapshot, step, swaps, workers))
        return Pending(step, step + self._host.delay(step), result)

    def _solved(self, snapshot: Snapshot, step: int, swaps: int, workers: Workers) -> Result:
        """Off the loop: waits for the transfer, lets the workers solve, joins the answers."""
        self._check(snapshot, step, swaps)
        pieces = [
            Piece(name, start, rows)
            for name, stack in snapshot.stacks.items()
            for start, rows in fetched(stack).items()
        ]
        answers = workers.answers(pieces)
        for reason in sorted({answer.reason for answer in answers if answer.reason}):
            LOG.warning("roots of step %d: a solver failed: %s", step, reason)
        self._failed += sum(answer.reason is not None for answer in answers)
        return gathered(pieces, answers)

    def _check(self, snapshot, step, swaps):
        at, attempts = int(snapshot.step), int(snapshot.attempts)
        if at != step:
            raise ValueError(f"after_step({step}, ...) was given the state of step {at}")
        if self._attempts_before is None:
            self._attempts_before = attempts - swaps
        if attempts > self._attempts_before + swaps:
            raise ValueError(
                "someone else puts roots into this state too; a state takes one RootRefresher"
            )

    def _arrived(self, pending, step):
        """Whether these roots are to be swapped in now, be it after a wait."""
        if step < pending.due:
            return False
        in_time, work = pending.result.done(), self._host.work
        if not in_time and step == pending.due:
            self._late += 1
        return in_time or work.late == "block" or pending.age > work.patience

    def _awaited(self, pending):
        """The result of a refresh; where none comes, one in which every matrix has failed."""
        work = self._host.work
        overdue = work.late == "skip" and pending.age > work.patience
        try:
            return pending.result.result(0 if overdue else work.patience)
        except ValueError:  # the caller's mistake
            raise
        except NotInTime:
            reason = f"none came in {work.timeout:g} seconds"
            self._drop_workers()  # who hangs is left behind, and replaced by the next refresh
            self._replaced += 1
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        LOG.warning("roots of step %d are lost: %s", pending.step, reason)
        self._failed += 1
        pending.result = Future()
        pending.result.set_result(lost(self._layouts))
        return pending.result.result()

    def _swap(self, pending, opt_state):
        started = time.perf_counter()
        result = self._awaited(pending)
        self._wait += time.perf_counter() - started
        self._pending = None
        self._swaps += 1
        drop = self._streaks.after(result, pending.step)
        layouts = self._layouts_of(opt_state)
        flags = _numbers(layouts, bool)
        if self._put is None:
            self._put = self._compiled_put(opt_state)
        return self._put(
            opt_state,
            self._laid(result.matrices, layouts),
            self._laid(result.ok, flags),
            self._laid(drop, flags),
            np.int32(pending.step),
        )

    def _layouts_of(self, opt_state):
        if not self._layouts:
            stacks = self._copy(opt_state).stacks
            self._layouts = {name: layout_of(stack) for name, stack in stacks.items()}
        return self._layouts

    def _laid(self, stacks: dict[str, Parts], layouts: dict[str, Layout]) -> Stacks:
        return {name: placed(stacks[name], layout) for name, layout in layouts.items()}

    def _compiled_put(self, opt_state):
        """One program for every swap; what is laid out somewhere stays there."""
        leaves = jax.tree.leaves(opt_state)
        if not any(leaf.committed for leaf in leaves):
            return jax.jit(self._host.put, donate_argnums=0)
        places = jax.tree.map(lambda leaf: leaf.sharding, opt_state)
        return jax.jit(self._host.put, donate_argnums=0, out_shardings=places)

    def _drop_workers(self):
        if self._workers is not None:
            self._replaced += self._workers.replaced
            self._workers.close()
        self._workers = None


def _numbers(layouts, dtype):
    """The layouts of one number per matrix."""
    return {name: per_matrix(layout, dtype) for name, layout in layouts.items()}
