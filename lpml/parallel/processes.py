"""One run on several processes: coming together, deciding alike, leaving together.

With one process every function here is the identity, and nothing is started.
"""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from lpml.parallel.meeting import Meeting, Peers, ProcessFailure, knock, open_door
from lpml.parallel.relay import free_port, relay

# jax aborts a process that hears nothing of the coordination service for so long.
HEARTBEAT_S = 50
# A process that knows of a loss, but hangs in a collective, is ended after this long.
GRACE_S = 10.0
# An error of a collective comes this much earlier than the news of who was lost, at most.
_NEWS_S = 3.0


class _Group:
    """What this process knows of the others."""

    def __init__(self) -> None:
        self.broken = False
        self.step: int | None = None
        self.checkpoints: Callable[[], list[int]] = list
        self._reason, self._gave_up = "", False
        self._known = threading.Event()
        self._ended = threading.Event()

    def lose(self, reason: str, gave_up: bool) -> None:
        """Another process is gone: if the main thread does not end by itself, it is ended."""
        if not self._known.is_set():
            self._reason, self._gave_up = reason, gave_up
        self._known.set()
        if not self._ended.wait(GRACE_S):
            print(self.sentence(), file=sys.stderr, flush=True)
            os._exit(1)

    def lost(self, wait_s: float) -> bool:
        """Whether another process is gone; waits for the news."""
        return self._known.wait(wait_s)

    def end(self) -> None:
        """The main thread is about to end by itself."""
        self._ended.set()

    def sentence(self) -> str:
        """What happened, when, and what to do."""
        if self._gave_up:
            return f"{self._reason}; once that is mended, the same command resumes"
        text = self._reason
        if self.step is not None:
            text += f" at about step {self.step}"
        saved = max(self.checkpoints(), default=None)
        if saved is None:
            return f"{text}; there is no checkpoint yet, and the same command starts again"
        return (
            f"{text}; the last checkpoint is step {saved}, and the same command resumes there"
        )


_GROUP = _Group()


@contextlib.contextmanager
def joined(
    meeting: Meeting | None,
    config: str,
    *,
    orderly: tuple[type[BaseException], ...] = (),
    sentence: Callable[[Exception], str] = str,
) -> Iterator[None]:
    """Joins this process to the others for a block; must come before jax starts its devices.

    Args:
      meeting: None for a run of one process.
      config: what all processes must have been given alike, as text.
      orderly: exceptions that all processes raise together.
      sentence: an exception in words, told to the others.

    Raises:
      ProcessFailure: the processes did not come together, or one was lost.
    """
    if meeting is None:
        yield
        return
    peers = Peers(_GROUP.lose)
    _start(meeting, config, peers)
    try:
        yield
    except orderly:
        _leave(peers)
        raise
    except Exception as error:
        collateral = type(error) is ValueError or isinstance(error, jax.errors.JaxRuntimeError)
        if collateral and _GROUP.lost(_NEWS_S):
            _GROUP.end()
            peers.fail(_GROUP.sentence())
            raise ProcessFailure(_GROUP.sentence()) from error
        _GROUP.end()
        peers.fail(sentence(error))
        raise
    except BaseException:
        _GROUP.end()
        peers.fail("it was interrupted")
        raise
    _leave(peers)


def _start(meeting: Meeting, config: str, peers: Peers) -> None:
    if meeting.process == 0:
        port = free_port()
        open_door(meeting, config, port, peers)
    else:
        knock(meeting, config, peers)
        port = relay((meeting.host, meeting.port))
    _GROUP.broken = True  # until all have left together
    # its handler of SIGTERM would take the place of ours
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        f"127.0.0.1:{port}",
        meeting.processes,
        meeting.process,
        coordinator_bind_address=f"127.0.0.1:{port}",
        cluster_detection_method="deactivate",
        initialization_timeout=max(round(meeting.wait_s), 10),
        heartbeat_timeout_seconds=HEARTBEAT_S,
        shutdown_timeout_seconds=30,
    )


def _leave(peers: Peers) -> None:
    _GROUP.end()
    peers.goodbye()
    jax.distributed.shutdown()  # waits for the others
    _GROUP.broken = False


def leave(code: int) -> None:
    """Ends this process; at once where the others are gone, for whom jax would wait."""
    if _GROUP.broken:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def is_first() -> bool:
    """Whether this process is the one that claims the folder, logs and saves."""
    return jax.process_index() == 0


def agreed_count(count: int, *, at: int) -> int:
    """Process 0's `count`, for all; `at` is the step it is asked at."""
    if jax.process_count() == 1:
        return count
    _GROUP.step = at
    return int(_gathered(count)[0])


def agreed_stop(stop: bool) -> bool:
    """Whether any process says yes."""
    return stop if jax.process_count() == 1 else bool(_gathered(int(stop)).any())


def _gathered(number: int) -> np.ndarray:
    from jax.experimental import multihost_utils

    return np.ravel(multihost_utils.process_allgather(np.asarray([number], np.int32)))


def know_checkpoints(steps: Callable[[], list[int]]) -> None:
    """Says how to ask which steps are saved, for the sentence on a loss."""
    _GROUP.checkpoints = steps


def told(value: Any) -> Any:
    """Process 0's `value`, of JSON's types, for all."""
    if jax.process_count() == 1:
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(_gathered(len(text))[0])
    return json.loads(_broadcast(text, size).tobytes())


def shared(tree: Any) -> Any:
    """Process 0's arrays as numpy arrays for all, bit by bit; typed keys as their words.

    Args:
      tree: the same structure, shapes and dtypes on all; elsewhere its values do not matter.
    """

    def leaf(x):
        host = np.asarray(x)
        raw = np.frombuffer(host.tobytes(), np.uint8)
        return _broadcast(raw, raw.size).view(host.dtype).reshape(host.shape)

    return jax.tree.map(leaf, tree)


def whole(array: jax.Array) -> np.ndarray:
    """In one piece what is shared out over the devices; all processes must call it."""
    if jax.process_count() == 1:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def _broadcast(raw: np.ndarray, size: int) -> np.ndarray:
    from jax.experimental import multihost_utils

    if not size:
        return np.zeros(0, np.uint8)
    mine = raw if is_first() else np.zeros(size, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(mine))
