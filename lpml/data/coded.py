"""Inputs that stay integer codes: a folder of plain .npy files, mapped and never held whole."""

import io
import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lpml.data.dataset import DataError, Dataset, float_dtype, quantize_inputs
from lpml.data.files import data_folder

CODES = (np.dtype(np.int8), np.dtype(np.int16))
_CHUNK_BYTES = 2**24
_REMEDY = "write the folder again with lpml.data.write_codes"


def coded(*, dir: str | None = None, folder: str = "", dtype: str = "float64") -> Dataset:
    """A set whose inputs are scale * codes, with the codes left in their file.

    The folder has `x.npy`, int8 or int16 (N, d) in C order, `y.npy` (N,), and `meta.json`,
    {"scale": s_x > 0, "classes": None or K}. `write_codes` makes it.

    x.npy is mapped, so of its N d bytes (int16: 2 N d) only the pages in use are in memory,
    and those may be dropped again. Opening the set reads the file through once, 16 MB at a
    time, to find codes that must not be there (about the time of `cat x.npy`). Models
    (`Supervised.input_scale`) make floats of one batch, or of `full_batch_size` samples,
    at a time: an evaluation in float64 takes N d bytes of the map and 8 d full_batch_size
    beside it.

    Args:
      dir: None for the folder of the variable LPML_DATA.
      folder: under dir, or an absolute path; empty: dir itself. Runs of another `dir` count
        as the same, those of another `folder` do not.
      dtype: 'float32' or 'float64', of y in a regression.

    Returns:
      train x: the mapped codes, which never are -128 (-32768): int8 and int16 have no number
      of the other sign for them, and native kernels exclude them; y (N,) of `dtype`, or int32
      labels 0..classes-1; `input_scale` = s_x; no test set.

    Raises:
      DataError: a file is missing, truncated, of another type, shape or order, or holds what
        it must not; the message names it.
    """
    floating = float_dtype(dtype)
    root = Path(folder)
    if not root.is_absolute():
        root = data_folder(dir, "a folder of x.npy, y.npy and meta.json") / folder
    scale, classes = _meta(root / "meta.json")
    x = _mapped(root / "x.npy")
    if x.dtype not in CODES or x.ndim != 2 or 0 in x.shape or not x.flags.c_contiguous:
        raise _wrong(root / "x.npy", x, "int8 or int16 codes (N, d) in C order")
    y = _mapped(root / "y.npy")
    if y.shape != x.shape[:1] or y.dtype.kind not in ("iuf" if classes is None else "iu"):
        what = "numbers" if classes is None else "whole numbers"
        raise _wrong(root / "y.npy", y, f"{what} of shape ({len(x)},)")
    _check_codes(root / "x.npy", x)
    if not np.isfinite(y).all():
        raise DataError(f"{root / 'y.npy'} holds a number that is not finite: {_REMEDY}.")
    if classes is not None and not (y.min() >= 0 and y.max() < classes):
        raise DataError(
            f"{root / 'y.npy'} holds labels {y.min()} to {y.max()}, not 0 to {classes - 1}: "
            f"{_REMEDY}."
        )
    labels = y.astype(floating if classes is None else np.int32)
    return Dataset({"x": x, "y": labels}, None, classes, scale)


def write_codes(
    chunks: Iterable[tuple[np.ndarray, np.ndarray]],
    folder: str | os.PathLike[str],
    *,
    scale: float,
    classes: int | None = None,
) -> None:
    """Writes the folder that `coded` reads, never with more than one chunk of inputs at a time.

    Args:
      chunks: at least one of (codes (n, d), y (n,)), the codes all int8 or all int16, without
        the lowest number of that type; all of one d. The y are kept until the end.
      folder: made if absent; files in it that are called the same are replaced.
      scale: of the codes, > 0: inputs are scale * codes.
      classes: K, of labels 0..K-1; None for a regression.

    Raises:
      ValueError: chunks that do not go together, or codes that must not be there.
      OSError: a file cannot be written.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    (root / "meta.json").unlink(missing_ok=True)  # without it an unfinished folder is no set
    targets: list[np.ndarray] = []
    first: np.ndarray | None = None
    size = 0
    with open(root / "x.npy", "wb") as file:
        for codes, y in chunks:
            if first is None:
                first = codes[:0]
                file.write(_header(first.dtype, (0, *codes.shape[1:])))
            _check_chunk(codes, y, first)
            file.write(np.ascontiguousarray(codes).data)
            targets.append(np.asarray(y))
            size += len(codes)
        if first is None or not size:
            raise ValueError("there are no chunks to write")
        file.seek(0)
        file.write(_header(first.dtype, (size, *first.shape[1:])))
    np.save(root / "y.npy", np.concatenate(targets))
    meta = {"scale": float(scale), "classes": classes}
    (root / "meta.json").write_text(json.dumps(meta) + "\n", encoding="utf-8")


def codes_of(dataset: Dataset, bits: int = 8) -> tuple[Iterator[tuple[Any, Any]], float]:
    """The training set as chunks of codes for `write_codes`, and their scale.

    Args:
      dataset: x (N, ...) float; where it lies on no grid yet, it is put on one of `bits`.
      bits: 2 to 16; int8 codes up to 8.
    """
    if not 2 <= bits <= 16:
        raise ValueError(f"bits is {bits} but must be 2 to 16.")
    if dataset.input_scale is None:
        dataset = quantize_inputs(dataset, bits)
    scale = dataset.input_scale
    assert scale is not None
    x, y = dataset.train["x"], dataset.train["y"]
    dtype, rows = CODES[bits > 8], 4096

    def chunks():
        for start in range(0, len(x), rows):
            part = (
                x[start : start + rows].astype(np.float64).reshape(-1, math.prod(x.shape[1:]))
            )
            yield np.rint(part / scale).astype(dtype), y[start : start + rows]

    return chunks(), scale


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """The head of an .npy file; numpy leaves room in it for a longer first axis."""
    buffer = io.BytesIO()
    form = np.lib.format
    described = {"descr": form.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    form.write_array_header_1_0(buffer, described)
    return buffer.getvalue()


def _check_chunk(codes, y, first):
    if codes.ndim != 2 or codes.dtype not in CODES or codes.shape[1] == 0:
        raise ValueError(
            f"codes are {codes.dtype}{codes.shape} but must be int8 or int16 (n, d)"
        )
    if codes.dtype != first.dtype or codes.shape[1] != first.shape[1]:
        raise ValueError(
            f"a chunk is {codes.dtype} (n, {codes.shape[1]}) but the first one is "
            f"{first.dtype} (n, {first.shape[1]})"
        )
    if np.shape(y) != codes.shape[:1]:
        raise ValueError(f"a chunk has {len(codes)} samples but y of shape {np.shape(y)}")
    lowest = np.iinfo(codes.dtype).min
    if len(codes) and codes.min() == lowest:
        raise ValueError(
            f"a chunk holds the code {lowest}, which is no code; clip to {lowest + 1}"
        )


def _check_codes(path, x):
    lowest = np.iinfo(x.dtype).min
    rows = max(1, _CHUNK_BYTES // (x.shape[1] * x.itemsize))
    for start in range(0, len(x), rows):
        if x[start : start + rows].min() == lowest:
            last = min(start + rows, len(x)) - 1
            raise DataError(
                f"{path} holds {lowest} in rows {start} to {last}, which is no code: clip to "
                f"{lowest + 1} and {_REMEDY}."
            )


def _mapped(path: Path) -> np.ndarray:
    _exists(path)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        reason = getattr(error, "strerror", None) or "truncated or no .npy file"
        raise DataError(f"{path} cannot be mapped ({reason}): {_REMEDY}.") from error


def _meta(path: Path) -> tuple[float, int | None]:
    _exists(path)
    wanted = '{"scale": a positive number, "classes": null or at least 2}'
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        scale, classes = float(meta["scale"]), meta["classes"]
        sound = 0 < scale < math.inf and (classes is None or int(classes) == classes >= 2)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise DataError(f"{path} is not {wanted}: {_REMEDY}.") from error
    if not sound:
        raise DataError(f"{path} is not {wanted}: {_REMEDY}.")
    return scale, classes


def _exists(path: Path) -> None:
    if not path.is_file():
        raise DataError(
            f"{path} does not exist: write the folder with lpml.data.write_codes and name it "
            "with --config.data.dir."
        )


def _wrong(path: Path, found: np.ndarray, wanted: str) -> DataError:
    order = "" if found.flags.c_contiguous else " in Fortran order"
    return DataError(
        f"{path} holds {found.dtype}{list(found.shape)}{order} and not {wanted}: {_REMEDY}."
    )
