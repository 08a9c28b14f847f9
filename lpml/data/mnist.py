"""MNIST and Fashion-MNIST: 28x28 grey images in 10 classes, from their IDX files."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lpml.data.dataset import (
    DataError,
    Dataset,
    check_limit,
    finish,
    float_dtype,
    unit_interval,
)
from lpml.data.files import check_md5, data_folder, decompress, first_file, is_gzip, read_file
from lpml.data.idx import parse_idx


class _Md5(NamedTuple):
    """Of a file as published (gz) and of its content (plain)."""

    gz: str
    plain: str


_MNIST = {
    "train-images-idx3-ubyte": _Md5(
        "f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"
    ),
    "train-labels-idx1-ubyte": _Md5(
        "d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"
    ),
    "t10k-images-idx3-ubyte": _Md5(
        "9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"
    ),
    "t10k-labels-idx1-ubyte": _Md5(
        "ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"
    ),
}
_FASHION_MNIST = {
    "train-images-idx3-ubyte": _Md5(
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "f4a8712d7a061bf5bd6d2ca38dc4d50a"
    ),
    "train-labels-idx1-ubyte": _Md5(
        "25c81989df183df01b3e8a0aad5dffbe", "9018921c3c673c538a1fc5bad174d6f9"
    ),
    "t10k-images-idx3-ubyte": _Md5(
        "bef4ecab320f06d8554ea6380940ec79", "8181f5470baa50b63fa0f6fddb340f0a"
    ),
    "t10k-labels-idx1-ubyte": _Md5(
        "bb300cfdad3c16e7a12a480ee83cd310", "15d484375f8d13e6eb1aabb0c3f46965"
    ),
}


def mnist(
    *,
    dir: str | None = None,
    dtype: str = "float32",
    flat: bool = False,
    limit: int | None = None,
    input_bits: int | None = None,
    verify: bool = True,
) -> Dataset:
    """MNIST: handwritten digits, 60000 for training and 10000 for the test.

    Args:
      dir: folder that holds mnist/ or MNIST/raw/ or the four files themselves, each with
        or without .gz; None for that of the variable LPML_DATA.
      dtype: 'float32' or 'float64', of x.
      flat: x is (N, 784) if true, else (N, 28, 28, 1).
      limit: use the first `limit` training samples only, at least 1; None for all.
      input_bits: width of the fixed-point grid for x (`quantize_inputs`), None for none.
      verify: check the md5 of the files; False for files which a user made.

    Returns:
      x in [0, 1], multiples of 1/255 before the grid; y int32 in 0..9; classes 10.

    Raises:
      DataError: a file is missing, damaged or not the published one.
      ValueError: an argument out of its range.
    """
    paths = _find(_MNIST, dir, ("mnist", "MNIST/raw", "."))
    return finish(_load(_MNIST, paths, dtype, flat, limit, verify), input_bits)


def fashion_mnist(
    *,
    dir: str | None = None,
    dtype: str = "float32",
    flat: bool = False,
    limit: int | None = None,
    input_bits: int | None = None,
    verify: bool = True,
) -> Dataset:
    """Fashion-MNIST: articles of clothing in the shape of MNIST.

    `dir` holds fashion-mnist/ or FashionMNIST/raw/ or the four files themselves; all else,
    the other arguments, the arrays returned and the errors, is as for `mnist`.
    """
    paths = _find(_FASHION_MNIST, dir, ("fashion-mnist", "FashionMNIST/raw", "."))
    return finish(_load(_FASHION_MNIST, paths, dtype, flat, limit, verify), input_bits)


def _find(
    md5s: Mapping[str, _Md5], dir: str | None, subfolders: tuple[str, ...]
) -> dict[str, Path]:
    wanted = f"{', '.join(md5s)} (each with or without .gz) into {subfolders[0]}/ of a folder"
    root = data_folder(dir, wanted)
    folders = [root / subfolder for subfolder in subfolders]
    paths = {}
    for name in md5s:
        spellings = (name, name.replace("-idx", ".idx"))
        found = first_file(folders, [s + end for s in spellings for end in ("", ".gz")])
        if found is None:
            raise DataError(
                f"{name} is not under {root}: put {wanted} and name that folder in the "
                "variable LPML_DATA or, for one config, with --config.data.dir."
            )
        paths[name] = found
    return paths


def _load(
    md5s: Mapping[str, _Md5],
    paths: dict[str, Path],
    dtype: str,
    flat: bool,
    limit: int | None,
    verify: bool,
) -> Dataset:
    floating = float_dtype(dtype)
    check_limit(limit)
    arrays = [_read(paths[name], md5s[name] if verify else None) for name in md5s]
    names = list(md5s)
    parts = []
    for first, most in ((0, limit), (2, None)):
        pixels, labels = arrays[first : first + 2]
        _check(pixels, labels, paths[names[first]], paths[names[first + 1]])
        x = unit_interval(pixels[:most], floating)
        x = x.reshape((-1, 784) if flat else (-1, 28, 28, 1))
        parts.append({"x": x, "y": labels[:most].astype(np.int32)})
    return Dataset(parts[0], parts[1], 10)


def _read(path: Path, md5: _Md5 | None) -> np.ndarray:
    data = read_file(path)
    if md5 is not None:
        check_md5(data, md5.gz if is_gzip(data) else md5.plain, path)
    return parse_idx(decompress(data, path), path)


def _check(pixels: np.ndarray, labels: np.ndarray, images: Path, classes: Path) -> None:
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (28, 28):
        raise DataError(
            f"{images} holds {pixels.dtype} of shape {pixels.shape} and not uint8 (N, 28, 28): "
            "fetch it again."
        )
    if labels.dtype != np.uint8 or labels.shape != pixels.shape[:1] or labels.max() > 9:
        raise DataError(
            f"{classes} does not hold one label of 0 to 9 for each of the {len(pixels)} images "
            f"of {images.name}: fetch both again."
        )
