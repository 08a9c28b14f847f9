"""A Ray cluster for a sweep: one of its own on this machine, or one that runs already."""

import contextlib
import functools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from types import ModuleType

from lpml.build import ConfigError
from lpml.training.loop import RunFailed

CONNECT_S = 10.0
JOIN_S = 60.0
# Points hand over nothing but their settings and metrics.
_OBJECT_STORE_BYTES = 100 * 2**20
_QUIET = {"log_to_driver": False, "logging_level": "ERROR"}
_REMEDY = "start one with `ray start --head`, or leave the address out for one on this machine"
_JOIN = f"import sys, ray; ray.init(address=sys.argv[1], **{_QUIET!r})"


def import_ray() -> ModuleType:
    """Ray, which lpml does without; raises ConfigError with the remedy if it is missing."""
    try:
        import ray

        ray.init  # noqa: B018  a folder called ray, Ray's own among temporary files, has none
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            "the engine ray needs the package ray: pip install 'ray>=2.50'"
        ) from error
    return ray


@contextlib.contextmanager
def cluster(address: str | None, variables: Mapping[str, str]) -> Iterator[ModuleType]:
    """Yields ray, connected; on leaving it is disconnected, and a cluster of our own ends.

    Args:
      address: `host:port` of a cluster this machine is a node of, `ray://host:port` of one
        it is not, `auto` for the one that runs on this machine, or None to start one here.
        A connection that the caller made before is used as it is.
      variables: environment of the processes that Ray starts for us.

    Raises:
      ConfigError: ray is missing, or the address is none.
      RunFailed: no cluster answers at the address; known after at most CONNECT_S + JOIN_S.
    """
    if address is not None:
        await_cluster(address)
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    # also for the process that unpacks tasks at the other end of a ray:// connection
    environment = {"env_vars": dict(variables)}
    with _own_signal_handlers():
        if address is not None:
            ray.init(address=address, runtime_env=environment, **_QUIET)
        else:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                runtime_env=environment,
                **_QUIET,
            )
    try:
        yield ray
    finally:
        ray.shutdown()


@functools.cache  # once: before anything is made for the points, else when they are to run
def await_cluster(address: str) -> None:
    """Sees that a Ray cluster can be joined at the address.

    Raises:
      ConfigError: ray is missing, or the address is none.
      RunFailed: no cluster answers; known after at most CONNECT_S + JOIN_S seconds.
    """
    _await_answer(address)  # before ray is imported: a wrong address is known at once
    if not import_ray().is_initialized():
        _try_to_join(address)


def _await_answer(address):
    """Connects to the address once."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ConfigError(
            f"the Ray address {address!r} must be host:port, ray://host:port or auto"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunFailed(f"no Ray cluster answers at {address} ({reason}); {_REMEDY}") from error


def _try_to_join(address):
    """Joins in a process of its own: where the answer is not Ray's, Ray ends the process."""
    try:
        tried = subprocess.run(
            [sys.executable, "-c", _JOIN, address],
            capture_output=True,
            text=True,
            timeout=JOIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        reason = f"it says nothing that Ray understands within {JOIN_S:.0f} s"
        raise RunFailed(f"no Ray cluster answers at {address} ({reason}); {_REMEDY}") from error
    if tried.returncode:
        reason = _reason(tried)
        if address == "auto" and "Could not find" in reason:
            raise RunFailed(f"no Ray cluster runs on this machine; {_REMEDY}")
        raise RunFailed(
            f"the Ray cluster at {address} cannot be joined ({reason}); if it runs, it may "
            f"want a token (RAY_AUTH_MODE=token), else {_REMEDY}"
        )


def _reason(ended):
    """The first sentence of the last line that a process said, without the error's class."""
    lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
    if not lines:
        return f"exit code {ended.returncode}"
    return re.sub(r"^[\w.]+(Error|Exception): ", "", lines[-1]).partition(". ")[0]


@contextlib.contextmanager
def _own_signal_handlers():
    """Keeps this process's handlers: Ray puts its own in their place, which save nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
