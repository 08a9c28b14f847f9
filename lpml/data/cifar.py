"""CIFAR-10: 32x32 colour photographs in 10 classes, from any of its published forms."""

import io
import math
import os
import tarfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lpml.data.batch_pickle import parse_batch_pickle
from lpml.data.dataset import DataError, Dataset, check_limit, float_dtype, unit_interval
from lpml.data.files import check_md5, data_folder, decompress, first_file, read_file

_RECORD = 1 + 3072
_BATCH_SIZE = 10000
_MAX_BATCH_BYTES = 2**26  # twice a published batch: bounds what a made-up archive unpacks to
_WANTED = (
    "cifar-10-binary.tar.gz or cifar-10-python.tar.gz or the unpacked folder "
    "cifar-10-batches-bin (its files may be .xz or .gz) or cifar-10-batches-py into a folder"
)

Batch = tuple[np.ndarray, np.ndarray]


def parse_batch_binary(content: bytes, path: Path) -> Batch:
    """Pixels uint8 (n, 3072) and labels uint8 (n,) in 0..9 of one binary batch.

    Args:
      content: n records of one label byte and 3072 pixel bytes, n at least 1.
      path: the file that the messages name.

    Raises:
      DataError: not whole records, or a label above 9.
    """
    if not content or len(content) % _RECORD:
        raise DataError(
            f"{path} has {len(content)} bytes of content and not a multiple of {_RECORD}: "
            "fetch it again."
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    if records[:, 0].max() > 9:
        raise DataError(f"{path} has a label above 9: fetch it again.")
    return records[:, 1:], records[:, 0]


class _Version(NamedTuple):
    """One published form: its archive, its unpacked files with their md5s, test last."""

    archive: str
    archive_md5: str
    endings: tuple[str, ...]
    parse: Callable[[bytes, Path], Batch]
    md5s: dict[str, str]


_BINARY = _Version(
    "cifar-10-binary.tar.gz",
    "c32a1d4ab5d03f1284b67883e8d87530",
    ("", ".xz", ".gz"),
    parse_batch_binary,
    {
        "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
        "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
        "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
        "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
        "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
        "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
    },
)
_PYTHON = _Version(
    "cifar-10-python.tar.gz",
    "c58f30108f718f92721af3b95e74349a",
    ("",),
    parse_batch_pickle,
    {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
)


def cifar10(
    *,
    dir: str | None = None,
    dtype: str = "float32",
    limit: int | None = None,
    verify: bool = True,
) -> Dataset:
    """CIFAR-10: 50000 images for training and 10000 for the test.

    Args:
      dir: folder that holds, directly or in cifar-10-batches-bin/ or cifar-10-batches-py/,
        the binary version's batches (plain, .xz or .gz), those of the python version, or
        either archive, taken in this order; None for that of the variable LPML_DATA.
      dtype: 'float32' or 'float64', of x.
      limit: use the first `limit` training samples only, at least 1, and read no more
        batches than these need; None for all.
      verify: check the md5 of the files; False for files which a user made (batches of
        any number of records, all five of which are then read).

    Returns:
      x (N, 32, 32, 3) in [0, 1], red, green, blue; y (N,) int32 in 0..9; classes 10.

    Raises:
      DataError: a file is missing, damaged or not the published one, or a pickle that
        names anything but what a numpy array needs (nothing in it is run).
      ValueError: an argument out of its range.
    """
    floating = float_dtype(dtype)
    check_limit(limit)
    root = data_folder(dir, _WANTED)
    needed = min(5, math.ceil(limit / _BATCH_SIZE)) if limit and verify else 5
    *train, test = _read_batches(root, needed, verify)
    pixels = np.concatenate([batch[0] for batch in train])[:limit]
    labels = np.concatenate([batch[1] for batch in train])[:limit]
    return Dataset(_part(pixels, labels, floating), _part(*test, floating), 10)


def _part(pixels: np.ndarray, labels: np.ndarray, dtype: np.dtype) -> dict[str, np.ndarray]:
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return {"x": unit_interval(images, dtype), "y": labels.astype(np.int32)}


def _read_batches(root: Path, needed: int, verify: bool) -> list[Batch]:
    """The first `needed` training batches, then the test batch, from the first form found."""
    folders = [root, root / "cifar-10-batches-bin", root / "cifar-10-batches-py"]
    missing = []
    for version in (_BINARY, _PYTHON):
        names = [*list(version.md5s)[:needed], list(version.md5s)[-1]]
        found = {n: first_file(folders, [n + end for end in version.endings]) for n in names}
        paths = [path for path in found.values() if path is not None]
        if len(paths) == len(names):
            md5s = [version.md5s[n] if verify else None for n in names]
            with ThreadPoolExecutor(min(len(names), os.cpu_count() or 1)) as pool:
                return list(pool.map(_read_batch, [version.parse] * len(names), paths, md5s))
        missing += [n for n in names if found[n] is None] if paths else []
    for version in (_BINARY, _PYTHON):
        archive = first_file(folders, [version.archive])
        if archive is not None:
            names = [*list(version.md5s)[:needed], list(version.md5s)[-1]]
            return _read_archive(archive, version, names, verify)
    what = ", ".join(missing) or "CIFAR-10"
    raise DataError(
        f"{what} is not under {root}: put {_WANTED} and name that folder in the variable "
        "LPML_DATA or, for one config, with --config.data.dir."
    )


def _read_batch(parse: Callable[[bytes, Path], Batch], path: Path, md5: str | None) -> Batch:
    content = decompress(read_file(path), path)
    if md5 is not None:
        check_md5(content, md5, path)
    return parse(content, path)


def _read_archive(
    path: Path, version: _Version, names: Sequence[str], verify: bool
) -> list[Batch]:
    data = read_file(path)
    if verify:
        check_md5(data, version.archive_md5, path)
    contents = {}
    # Not tarfile's own gzip mode: that one stops at the last member and so does not notice
    # an archive that is cut short behind it.
    unpacked = io.BytesIO(decompress(data, path))
    try:
        with tarfile.open(fileobj=unpacked, mode="r:") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                stream = archive.extractfile(member) if member.isreg() else None
                if name in names and stream is not None:
                    contents[name] = stream.read(_MAX_BATCH_BYTES)
    except (tarfile.TarError, OSError, ValueError, MemoryError) as error:
        raise DataError(
            f"{path} is truncated or is not a tar.gz archive: fetch it again."
        ) from error
    missing = [name for name in names if name not in contents]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}: fetch it again.")
    return [version.parse(contents[name], path / name) for name in names]
