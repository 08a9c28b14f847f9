"""A process that solves for matrices: started, asked, and found dead by its parent.

It is started as a program of its own and not by `multiprocessing`, which would run the caller's
script a second time wherever that does not guard its main part.
"""

import os
import signal
import subprocess
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

# numpy and LAPACK on the CPU is all it needs: the accelerator belongs to the training
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


class ChildDied(Exception):
    """The process ended, or did not answer in time."""


class Child:
    """One process, which answers one question at a time.

    Args:
      timeout: seconds that an answer may take.

    Attributes:
      dead: whether it can be asked no more.
    """

    def __init__(self, timeout: float):
        self._timeout, self.dead = timeout, False
        self._line, theirs = Pipe()
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import main; main({theirs.fileno()})"],
            pass_fds=[theirs.fileno()],
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
        )
        theirs.close()

    def __call__(self, solve: Any, *arguments: Any) -> Any:
        """`solve(*arguments)` in the process.

        Raises:
          ChildDied: it does not answer; ask another one.
          Exception: whatever `solve` raised there.
        """
        try:
            self._line.send((solve, arguments))
            if not self._line.poll(self._timeout):
                raise ChildDied(f"no answer in {self._timeout:g} seconds")
            done, result = self._line.recv()
        except (EOFError, OSError) as error:
            self.dead = True
            raise ChildDied(f"the worker process {self._process.pid} ended") from error
        except ChildDied:
            self.dead = True
            raise
        if not done:
            raise result
        return result

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        self.dead = True
        self._process.kill()
        self._process.wait()
        self._line.close()


def serve(line: Connection) -> None:
    """Answers until the parent is gone."""
    while True:
        try:
            solve, arguments = line.recv()
        except EOFError:
            return
        try:
            answer = (True, solve(*arguments))
        except Exception as error:
            answer = (False, RuntimeError(f"{type(error).__name__}: {error}"))
        try:
            line.send(answer)
        except OSError:
            return


def main(descriptor: int) -> None:
    """The process itself."""
    # an interrupt from the keyboard is the parent's to answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(10)
    serve(Connection(descriptor))
