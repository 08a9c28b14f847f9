"""Convex problems in LIBSVM's sparse text format: label index:value index:value ..."""

import io
import math
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lpml.data.dataset import DataError, Dataset, float_dtype
from lpml.data.files import data_folder, decompress, first_file, read_file

# Dense arrays are the point here (a few hundred columns); a wider set would fill the memory.
_MAX_DENSE_BYTES = 2**33


def libsvm(
    *,
    file: str,
    dir: str | None = None,
    features: int | None = None,
    dtype: str = "float64",
    test_file: str | None = None,
    binary: bool = True,
) -> Dataset:
    """A classification problem from a LIBSVM text file, plain, gzipped or xz.

    The distinct training labels, in ascending order, become 0..classes-1. Indices count
    from 1, or from 0 if an index 0 occurs.

    Args:
      file: a name under dir/libsvm or dir, or an absolute path.
      dir: None for the folder of the variable LPML_DATA.
      features: number of columns; None for the largest index in the files.
      dtype: 'float32' or 'float64', of x.
      test_file: as `file`, for the test set; None for no test set.
      binary: refuse a file with more than two distinct labels.

    Returns:
      x (N, features) dense; y (N,) int32 in 0..classes-1.

    Raises:
      DataError: a file is missing or malformed (the message gives the line where it can),
        holds numbers that are not finite, fewer than two labels, more than two if
        `binary`, a test label unknown in training, or an index above `features`.
      ValueError: an argument out of its range.
    """
    floating = float_dtype(dtype)
    if features is not None and features < 1:
        raise ValueError(f"features is {features} but must be None or at least 1.")
    paths = [_find(name, dir) for name in (file, test_file) if name is not None]
    parts = _parse(paths, features, floating)
    labels = np.unique(parts[0][1])
    if len(labels) < 2 or (binary and len(labels) > 2):
        remedy = "set binary=False or give another file" if len(labels) > 2 else "give another"
        raise DataError(
            f"{paths[0]} has {len(labels)} distinct labels where two are wanted: {remedy}."
        )
    datasets = []
    for path, (x, y) in zip(paths, parts):
        codes = np.searchsorted(labels, y).clip(max=len(labels) - 1)
        if not np.array_equal(labels[codes], y):
            raise DataError(f"{path} has labels that {paths[0]} lacks: give its own test file.")
        datasets.append({"x": x, "y": codes.astype(np.int32)})
    return Dataset(datasets[0], datasets[1] if test_file is not None else None, len(labels))


def _find(name: str, dir: str | None) -> Path:
    if os.path.isabs(name):
        return Path(name)
    wanted = f"{name} into libsvm/ of a folder"
    root = data_folder(dir, wanted)
    path = first_file([root / "libsvm", root], [name])
    if path is None:
        raise DataError(
            f"{name} is not under {root}: put {wanted} and name that folder in the variable "
            "LPML_DATA or, for one config, with --config.data.dir."
        )
    return path


def _parse(
    paths: list[Path], features: int | None, dtype: np.dtype
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Dense x (N, features) of `dtype` and float64 labels (N,) of each file."""
    from sklearn.datasets import load_svmlight_files

    contents = [decompress(read_file(path), path) for path in paths]
    for path, content in zip(paths, contents):
        if not any(line.partition(b"#")[0].strip() for line in content.splitlines()):
            raise DataError(f"{path} has no rows: fetch it again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # Together: whether indices count from 0 must be decided once for all files.
            flat = load_svmlight_files([io.BytesIO(c) for c in contents], dtype=np.float64)
    except Exception as error:
        # The Cython parser lets whatever a malformed number raises through.
        raise _fault(paths, contents, error) from error
    pairs: list[tuple[Any, np.ndarray]] = list(zip(flat[::2], flat[1::2]))
    if not all(np.isfinite(x.data).all() and np.isfinite(y).all() for x, y in pairs):
        raise _fault(paths, contents, None)
    return [(_dense(x, path, features, dtype), y) for path, (x, y) in zip(paths, pairs)]


def _dense(x: Any, path: Path, features: int | None, dtype: np.dtype) -> np.ndarray:
    rows, used = x.shape
    columns = used if features is None else features
    if used > columns:
        raise DataError(
            f"{path} or its companion uses {used} features: set features to at least that."
        )
    if rows * columns * dtype.itemsize > _MAX_DENSE_BYTES:
        raise DataError(
            f"{path} would need {rows * columns * dtype.itemsize} bytes as a dense array: give "
            "a file with fewer rows or features."
        )
    dense = np.zeros((rows, columns), dtype)
    dense[:, :used] = x.astype(dtype).toarray()
    return dense


def _fault(paths: list[Path], contents: list[bytes], error: Exception | None) -> DataError:
    """The error to raise for files of which at least one is not sound."""
    for path, content in zip(paths, contents):
        for number, line in enumerate(content.splitlines(), 1):
            if not _is_sound(line.partition(b"#")[0].split()):
                return DataError(
                    f"{path} is malformed or has a number that is not finite in line {number}: "
                    "mend that line or fetch the file again."
                )
    reason = type(error).__name__ if error else "a number is not finite"
    names = " or ".join(str(path) for path in paths)
    return DataError(f"{names} cannot be parsed ({reason}): fetch it again.")


def _is_sound(tokens: list[bytes]) -> bool:
    """Whether a line is a finite label and finite values at ascending indices."""
    last = -1
    try:
        if tokens and not math.isfinite(float(tokens[0])):
            return False
        for token in tokens[1:]:
            index, colon, value = token.partition(b":")
            if not colon or not last < int(index) < 2**31 or not math.isfinite(float(value)):
                return False
            last = int(index)
    except ValueError:
        return False
    return True
