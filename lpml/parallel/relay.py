"""Carries jax's coordination between processes, so that a broken line does not kill at once.

When the connection to the coordination service closes, jax's client aborts its process from
C++ within a millisecond, with a stack dump and before Python can say a word. So the client
talks to a relay in its own process, which keeps that side open: the run then ends from
Python, with a sentence. jax's own heartbeat stays behind it as the last resort.
"""

import contextlib
import socket
import threading
from collections.abc import Callable

_CHUNK = 1 << 16


def carry(left: socket.socket, right: socket.socket, *, keep: bool = False) -> None:
    """Carries bytes both ways, on threads of their own, until `left` closes.

    Args:
      left: a connected socket.
      right: another one.
      keep: leave `left` open when `right` closes, and drop what it sends.
    """
    left.settimeout(None)
    right.settimeout(None)
    back = threading.Thread(target=_back, args=(right, left, keep), daemon=True)
    back.start()
    threading.Thread(target=_forth, args=(left, right, keep, back), daemon=True).start()


def relay(target: tuple[str, int]) -> int:
    """Opens a port on this machine whose connections are carried to `target`; gives the port.

    A connection stays open when the target goes away.
    """
    door = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                link = door.accept()[0]
                try:
                    carry(link, socket.create_connection(target, timeout=10), keep=True)
                except OSError:
                    threading.Thread(target=_drop, args=(link,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return door.getsockname()[1]


def free_port() -> int:
    """A port of this machine that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def read_line(link: socket.socket) -> str:
    """The next line without its end, `""` when the other side has closed.

    Raises:
      OSError: the connection broke, or the socket's timeout is over.
    """
    read: Callable[[int], bytes] = link.recv
    line = b""
    while (byte := read(1)) and byte != b"\n" and len(line) < _CHUNK:
        line += byte
    return line.decode(errors="replace")


def hang_up(*links: socket.socket) -> None:
    """Closes sockets, also those that another thread waits at."""
    for link in links:
        with contextlib.suppress(OSError):
            link.shutdown(socket.SHUT_RDWR)
        link.close()


def _forth(left, right, keep, back):
    with contextlib.suppress(OSError):
        while data := left.recv(_CHUNK):
            try:
                right.sendall(data)
            except OSError:
                if not keep:
                    break
    with contextlib.suppress(OSError):
        right.shutdown(socket.SHUT_RDWR)  # wakes the other thread
    back.join()
    hang_up(left, right)


def _back(right, left, keep):
    with contextlib.suppress(OSError):
        while data := right.recv(_CHUNK):
            left.sendall(data)
    if not keep:
        with contextlib.suppress(OSError):
            left.shutdown(socket.SHUT_RDWR)


def _drop(link):
    with contextlib.suppress(OSError):
        while link.recv(_CHUNK):
            pass
    hang_up(link)
