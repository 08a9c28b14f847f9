"""How the processes of one run find each other, and notice that one of them is gone.

Every process holds one connection to process 0, on which both sides say each other a line
every few seconds: who falls silent, or whose connection closes without a goodbye, is lost.
The same door of process 0 leads to jax's coordination service (`relay`).
"""

import contextlib
import dataclasses
import json
import socket
import threading
import time
from collections.abc import Callable

from lpml.parallel.relay import carry, hang_up, read_line

PING_S = 2.0
SILENCE_S = 20.0  # a process that says nothing for so long is lost
_RETRY_S = 0.2
_PING, _GOODBYE, _FAILED = ".", "goodbye", "failed "


class ProcessFailure(RuntimeError):
    """The processes of a run did not come together, or one was lost; one sentence."""


@dataclasses.dataclass(frozen=True)
class Meeting:
    """Who meets where.

    Args:
      host: name or address of the machine of process 0.
      port: free on that machine, the same for all.
      processes: how many, 2 or more.
      process: this one, 0 to processes - 1.
      wait_s: seconds to wait for the others.
    """

    host: str
    port: int
    processes: int
    process: int
    wait_s: float = 60.0

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"


class Peers:
    """The connections to the others, once all have come.

    Args:
      on_loss: called when another is gone, with the beginning of a sentence on it and
        whether it gave up by itself, and said why.
    """

    def __init__(self, on_loss: Callable[[str, bool], None]):
        self._on_loss = on_loss
        self._links: dict[int, socket.socket] = {}
        self._leaving = threading.Event()

    def add(self, process: int, link: socket.socket) -> None:
        """Watches a connection from now on."""
        link.settimeout(SILENCE_S)
        self._links[process] = link
        for task in (self._listen, self._ping):
            threading.Thread(target=task, args=(process, link), daemon=True).start()

    def say(self, text: str) -> None:
        """Tells the others, as far as they are still there."""
        for link in self._links.values():
            with contextlib.suppress(OSError):
                link.sendall(f"{text}\n".encode())

    def goodbye(self) -> None:
        """Ends the watch: nobody who leaves from now on is lost."""
        self._leaving.set()
        self.say(_GOODBYE)

    def fail(self, sentence: str) -> None:
        """Tells the others why this process ends."""
        self._leaving.set()
        self.say(_FAILED + " ".join(sentence.split()))

    def _ping(self, process, link):
        del process
        with contextlib.suppress(OSError):
            while not self._leaving.wait(PING_S):
                link.sendall(f"{_PING}\n".encode())

    def _listen(self, process, link):
        reason, gave_up = f"process {process} was lost", False
        try:
            while (line := read_line(link)) and line != _GOODBYE:
                if line.startswith(_FAILED):
                    reason = f"process {process} gave up ({line.removeprefix(_FAILED)})"
                    gave_up = True
                    break
            if line == _GOODBYE:
                return
        except OSError:
            pass  # silent for too long, or cut off
        finally:
            hang_up(link)
        if not self._leaving.is_set():
            self._on_loss(reason, gave_up)


def open_door(meeting: Meeting, config: str, service: int, peers: Peers) -> socket.socket:
    """Process 0: waits until all have come; the door then stays open for jax's connections.

    Args:
      meeting: who is to come where.
      config: what all must have been given alike.
      service: port on this machine where jax's coordination service will listen.
      peers: gets a connection to each of the others.

    Raises:
      ProcessFailure: the port is taken, somebody did not come, or came with another config.
    """
    door = _listen_at(meeting)
    guests: dict[int, socket.socket] = {}
    try:
        _admit_all(door, meeting, config, guests)
    except ProcessFailure:
        hang_up(door, *guests.values())
        raise
    for process, link in guests.items():
        link.sendall(b"welcome\n")
        peers.add(process, link)
    door.settimeout(None)
    threading.Thread(target=_serve, args=(door, service), daemon=True).start()
    return door


def _admit_all(door, meeting, config, guests):
    deadline = time.monotonic() + meeting.wait_s
    while len(guests) < meeting.processes - 1:
        door.settimeout(max(deadline - time.monotonic(), 0.01))
        try:
            link = door.accept()[0]
            process = _admit(link, meeting, config, guests)
            if process is not None:
                guests[process] = link
        except TimeoutError:
            absent = sorted(set(range(1, meeting.processes)) - set(guests))
            names = ", ".join(map(str, absent))
            raise ProcessFailure(
                f"process {names} of {meeting.processes} did not come to {meeting.address} "
                f"within {meeting.wait_s:g} s; start it with the same command and its own "
                "--process_id, or raise --wait_s"
            ) from None


def knock(meeting: Meeting, config: str, peers: Peers) -> None:
    """Every other process: waits for process 0, and with it until all have come.

    Raises:
      ProcessFailure: nobody answers in time, or process 0 refuses.
    """
    deadline = time.monotonic() + meeting.wait_s
    absent = ProcessFailure(
        f"no coordinator answers at {meeting.address} within {meeting.wait_s:g} s; start "
        "process 0 with the same --coordinator, or raise --wait_s"
    )
    link = None
    while link is None:
        try:
            link = socket.create_connection(
                (meeting.host, meeting.port), timeout=max(deadline - time.monotonic(), 0.01)
            )
        except OSError:
            if time.monotonic() + _RETRY_S > deadline:
                raise absent from None
            time.sleep(_RETRY_S)
    hello = {"process": meeting.process, "processes": meeting.processes, "config": config}
    try:
        link.sendall((json.dumps(hello) + "\n").encode())
        # process 0 may have begun to wait later than this process
        link.settimeout(max(deadline - time.monotonic(), 0.01) + meeting.wait_s)
        answer = read_line(link)
    except OSError:
        hang_up(link)
        raise absent from None
    if answer != "welcome":
        hang_up(link)
        raise ProcessFailure(
            answer or f"process 0 at {meeting.address} went away; its message says why"
        )
    peers.add(0, link)


def _listen_at(meeting: Meeting) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            meeting.host, meeting.port, type=socket.SOCK_STREAM
        )[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise ProcessFailure(
            f"process 0 cannot listen at --coordinator={meeting.address} "
            f"({error.strerror or error}); give an address of its own machine and a free port"
        ) from None


def _admit(link, meeting, config, guests):
    """The process behind a connection; None for a stranger."""
    link.settimeout(5)
    try:
        hello = json.loads(read_line(link))
        process = hello["process"]
    except (OSError, ValueError, KeyError, TypeError):
        hang_up(link)
        return None
    refusal = None
    if hello["processes"] != meeting.processes or hello["config"] != config:
        refusal = (
            f"process {process} was given another command than process 0; give all the same, "
            "but for --process_id"
        )
    elif process in guests:
        refusal = f"two processes have --process_id={process}; give each its own"
    if refusal is None:
        return process
    for refused in (link, *guests.values()):
        with contextlib.suppress(OSError):
            refused.sendall(f"{refusal}\n".encode())
    hang_up(link)
    raise ProcessFailure(refusal)


def _serve(door, service):
    """Leads every further connection to jax's service."""
    with contextlib.suppress(OSError):  # the door was closed
        while True:
            link = door.accept()[0]
            try:
                carry(link, socket.create_connection(("127.0.0.1", service)))
            except OSError:  # not there yet, or no more: jax tries again
                hang_up(link)
