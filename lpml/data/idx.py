"""The IDX format, in which MNIST and its kin are published."""

import math
import os
from pathlib import Path

import numpy as np

from lpml.data.dataset import DataError
from lpml.data.files import decompress, read_file

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMENSIONS = 8


def read_idx(path: str | os.PathLike) -> np.ndarray:
    """Reads one IDX file, gzipped or plain (told by its content, not by its name).

    Format: two zero bytes, one for the type, one for the number of dimensions, the sizes
    as big-endian uint32, then the elements, big-endian, the last index fastest.

    Returns:
      The array in native byte order: uint8, int8, int16, int32, float32 or float64, of 1
      to 8 dimensions, none of them empty.

    Raises:
      DataError: no such file, or wrong magic, sizes or length, or damaged gzip.
    """
    path = Path(path)
    return parse_idx(decompress(read_file(path), path), path)


def parse_idx(content: bytes, path: Path) -> np.ndarray:
    """The array in the uncompressed `content` of `path`: see `read_idx`."""
    kind, dimensions = content[2:3], content[3:4]
    if (
        not dimensions
        or content[:2] != b"\0\0"
        or kind[0] not in _TYPES
        or not 1 <= dimensions[0] <= _MAX_DIMENSIONS
    ):
        raise DataError(
            f"{path} is not an IDX file, its first bytes are {content[:4].hex(' ') or 'none'}: "
            "fetch it again."
        )
    start = 4 + 4 * dimensions[0]
    if len(content) < start:
        raise DataError(f"{path} is truncated within its IDX header: fetch it again.")
    shape = tuple(int(n) for n in np.frombuffer(content[4:start], ">u4"))
    dtype = np.dtype(_TYPES[kind[0]])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected or 0 in shape:
        raise DataError(
            f"{path} has {len(content)} bytes but its IDX header of shape {shape} means "
            f"{expected}, or it is empty: fetch it again."
        )
    elements = np.frombuffer(content, dtype, offset=start)
    return elements.reshape(shape).astype(dtype.newbyteorder("="))
