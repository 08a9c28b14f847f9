"""Finding and reading data files: whatever is wrong with one becomes a DataError."""

import gzip
import hashlib
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from lpml.data.dataset import DataError

# Far above every set known here: it stops a small compressed file from filling the memory.
MAX_BYTES = 2**31

_GZIP = b"\x1f\x8b"
_XZ = b"\xfd7zXZ\x00"


def data_folder(dir: str | os.PathLike | None, wanted: str) -> Path:
    """The folder `dir`, or that of the variable LPML_DATA; DataError if neither is set."""
    folder = os.fspath(dir) if dir else os.environ.get("LPML_DATA", "")
    if not folder:
        raise DataError(
            f"no data folder is set: put {wanted} and name that folder in the variable "
            "LPML_DATA or, for one config, with --config.data.dir."
        )
    return Path(os.path.expanduser(folder))


def first_file(folders: Iterable[Path], names: Iterable[str]) -> Path | None:
    """The first regular file folder/name, folders before names; None if there is none."""
    names = tuple(names)
    paths = (folder / name for folder in folders for name in names)
    # os.path, not Path.is_file: that one raises on a folder which may not be entered.
    return next((path for path in paths if os.path.isfile(path)), None)


def read_file(path: Path) -> bytes:
    """The bytes of a regular file of at most MAX_BYTES, as they are; else DataError."""
    if not os.path.isfile(path):
        what = "is not a regular file" if os.path.exists(path) else "does not exist"
        raise DataError(f"{path} {what}: put the published file there.")
    try:
        if os.path.getsize(path) > MAX_BYTES:
            raise DataError(f"{path} has more than {MAX_BYTES} bytes: give a smaller file.")
        return Path(path).read_bytes()
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "not enough memory"
        raise DataError(
            f"{path} cannot be read ({reason}): make it readable or fetch it again."
        ) from error


def is_gzip(data: bytes) -> bool:
    """Whether the bytes begin as a gzip file does."""
    return data.startswith(_GZIP)


def decompress(data: bytes, path: Path) -> bytes:
    """The content of gzip or xz bytes, known by their first bytes; other bytes as they are.

    Raises:
      DataError: truncated or damaged, or more than MAX_BYTES of content; `path` is the
        file which the message names.
    """
    if not is_gzip(data) and not data.startswith(_XZ):
        return data
    unpack: Callable[[IO[bytes]], Any] = gzip.open if is_gzip(data) else lzma.open
    try:
        with unpack(io.BytesIO(data)) as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, MemoryError) as error:
        raise DataError(
            f"{path} is truncated or damaged (it does not decompress): fetch it again."
        ) from error
    if len(content) > MAX_BYTES:
        raise DataError(f"{path} unpacks to more than {MAX_BYTES} bytes: fetch it again.")
    return content


def check_md5(data: bytes, expected: str, path: Path) -> None:
    """DataError unless the md5 of `data`, read from `path`, is `expected`."""
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != expected:
        raise DataError(
            f"{path} is not the published file, its md5 is {found} and not {expected}: "
            "fetch it again, or set verify=False if it is one of your own (in a config "
            '--config.data=\'{"name": ..., "verify": False}\').'
        )
