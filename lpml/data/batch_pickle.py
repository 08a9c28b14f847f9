"""The pickled batches of CIFAR-10's python version, read without running what they name.

A pickle may name any function of the machine and have it called. Here the few names which
a pickled numpy array needs stand for an inert record, everything else is refused, and the
array is built from the records once they have been checked: not even numpy's own
unpickling code sees the file.
"""

import io
import math
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from lpml.data.dataset import DataError

_PIXELS = 3072


def parse_batch_pickle(content: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 (n, 3072) and labels uint8 (n,) in 0..9 of one pickled batch.

    Args:
      content: a pickle, of Python 2 or 3, of a dict with 'data', a uint8 array (n, 3072),
        and 'labels', a list of n ints in 0..9; its keys are str or bytes.
      path: the file that the messages name.

    Raises:
      DataError: not such a pickle, or one that names anything but what numpy arrays need.
    """
    try:
        _check_memo(content)
        batch = _Unpickler(io.BytesIO(content), path).load()
    except DataError:
        raise
    except Exception as error:
        # Damaged pickles raise nearly everything: KeyError, IndexError, MemoryError, ...
        raise DataError(
            f"{path} is truncated or is not a pickle ({type(error).__name__}): fetch it again."
        ) from error
    fields = batch if type(batch) is dict else {}
    data = fields.get(b"data", fields.get("data"))
    labels = fields.get(b"labels", fields.get("labels"))
    pixels = _array(data)
    if pixels is None or not _are_labels(labels, len(pixels)):
        raise DataError(
            f"{path} is not a batch of CIFAR-10 (a dict with data, uint8 of (n, 3072), and n "
            "labels of 0 to 9): fetch it again."
        )
    return pixels, np.array(labels, np.uint8)


def _check_memo(content: bytes) -> None:
    """ValueError where the pickle asks for a memo larger than itself.

    The unpickler allocates, and fills, a table as long as the largest index named: five
    bytes could take 32 GiB.
    """
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument or 0) > len(content):
            raise ValueError(argument)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, path: Path) -> None:
        # Python 2 strings hold the array's bytes, so they must stay bytes.
        super().__init__(file, encoding="bytes")
        self._path = path
        self._allowed = _allowed_globals()

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise DataError(
                f"{self._path} was not read because it names the forbidden global "
                f"{f'{module}.{name}'!r}: fetch the published file, and trust this one with "
                "nothing."
            ) from None


class _Record:
    """Arguments and state which a pickle gave to an object of numpy, not yet trusted."""

    args: tuple[Any, ...] = ()
    state: Any = None


def _allowed_globals() -> dict[tuple[str, str], Any]:
    """The only globals a batch may name, new for each file as a pickle may alter them."""

    class Record(_Record):
        def __init__(self, *args: Any) -> None:
            self.args = args

        def __setstate__(self, state: Any) -> None:
            self.state = state

    def encode(text: str, encoding: str) -> bytes:
        if encoding not in ("latin1", b"latin1"):
            raise ValueError(encoding)
        return text.encode("latin1")

    return {
        ("numpy.core.multiarray", "_reconstruct"): Record,
        ("numpy._core.multiarray", "_reconstruct"): Record,
        ("numpy", "ndarray"): Record,
        ("numpy", "dtype"): Record,
        ("_codecs", "encode"): encode,
    }


def _array(data: Any) -> np.ndarray | None:
    """The uint8 array (n, 3072), n >= 1, that a record stands for; None if for no such."""
    # (version, shape, dtype, is it in Fortran order, bytes): numpy's ndarray.__reduce__
    state = data.state if isinstance(data, _Record) else None
    if type(state) is not tuple or len(state) != 5:
        return None
    _, shape, dtype, fortran, raw = state
    names = dtype.args[:1] if isinstance(dtype, _Record) else ()
    if names not in (("u1",), (b"u1",)) or type(raw) is not bytes or type(shape) is not tuple:
        return None
    if len(shape) != 2 or any(type(n) is not int or n < 1 for n in shape):
        return None
    if shape[1] != _PIXELS or math.prod(shape) != len(raw):
        return None
    return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")


def _are_labels(labels: Any, count: int) -> bool:
    return (
        type(labels) is list
        and len(labels) == count
        and all(type(label) is int and 0 <= label <= 9 for label in labels)
    )
