"""The one shape in which every source hands over its data."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

_CHUNK_ROWS = 4096


class DataError(ValueError):
    """Unusable or missing data; the message is one sentence: the file and the remedy."""


class Dataset(NamedTuple):
    """A training set, and a test set where the source has one.

    Attributes:
      train: 'x' (N, ...) float32 or float64 and 'y' (N,): the dtype of x for a regression,
        int32 labels 0..classes-1 for a classification (0/1 where there are two). Of texts
        both are int32 numbers of pieces 0..classes-1, 'y' (N, T), and -1 in 'y' where
        nothing is to be told. Inputs may also stay codes, 'x' (N, d) int8 or int16 (see
        `coded`): they are `input_scale` times these.
      test: the same two keys, or None.
      classes: number of classes, of pieces for a text, None for a regression.
      input_scale: spacing of the fixed-point grid on which x lies, None if on no grid
        (see `quantize_inputs`).
      text: of translations, the sentences that rows of pieces (N, T) spell; else None.
    """

    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray] | None
    classes: int | None
    input_scale: float | None = None
    text: Callable[[np.ndarray], list[str]] | None = None

    @property
    def size(self) -> int:
        """Number of training samples N."""
        return len(self.train["x"])


def quantize_inputs(dataset: Dataset, bits: int) -> Dataset:
    """Puts train x and test x on the symmetric fixed-point grid scale * j.

    scale = max|x_train| / (2**(bits-1) - 1), rounded to the dtype of x, and
    j = clip(round(x / scale), -2**(bits-1), 2**(bits-1) - 1), rounding to nearest, ties to
    even. x becomes the product of scale and j rounded once to its dtype, so that
    rint(x / scale) gives j back exactly. A train x of zeros has scale 1.

    Args:
      dataset: x (N, ...) float32 or float64, finite; it is left as it was.
      bits: width of j, 2 to 24 for float32 and 2 to 32 for float64.

    Returns:
      The dataset with the new x (same dtypes) and `input_scale` = scale, exactly.

    Raises:
      ValueError: bits out of range.
      DataError: x is not finite, or so small that scale would be no normal number.
    """
    x = dataset.train["x"]
    most = min(32, np.finfo(x.dtype).nmant + 1)
    if not 2 <= bits <= most:
        raise ValueError(f"bits is {bits} but must be 2 to {most} for {x.dtype} inputs.")
    scale = _grid_scale(x, bits)
    test = dataset.test
    if test is not None:
        test = {**test, "x": _to_grid(test["x"], scale, bits)}
    train = {**dataset.train, "x": _to_grid(x, scale, bits)}
    return Dataset(train, test, dataset.classes, float(scale))


def _grid_scale(x: np.ndarray, bits: int) -> np.floating[Any]:
    largest = np.max(np.abs(x), initial=0)
    scale = x.dtype.type(largest / x.dtype.type(2 ** (bits - 1) - 1))
    if largest == 0:
        return x.dtype.type(1)
    if not np.isfinite(scale) or scale < np.finfo(x.dtype).tiny:
        raise DataError(
            f"the inputs cannot be put on a grid of {bits} bits because their largest "
            f"magnitude is {largest}: rescale them or set input_bits=None."
        )
    return scale


def _to_grid(x: np.ndarray, scale: np.floating[Any], bits: int) -> np.ndarray:
    grid = np.empty_like(x)
    # float32 quotients would move some values across a tie; float64 in chunks keeps the
    # rounding right without a second array of twice the size.
    for first in range(0, len(x), _CHUNK_ROWS):
        rows = slice(first, first + _CHUNK_ROWS)
        codes = np.rint(x[rows].astype(np.float64) / np.float64(scale))
        if not np.isfinite(codes).all():
            raise DataError(
                "the inputs cannot be put on a grid because one is not a finite number: "
                "mend the data or set input_bits=None."
            )
        codes = np.clip(codes, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        grid[rows] = codes.astype(x.dtype) * scale
    return grid


def float_dtype(dtype: str) -> np.dtype:
    """The numpy dtype called 'float32' or 'float64'; ValueError for any other name."""
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype is {dtype!r} but must be 'float32' or 'float64'.")
    return np.dtype(dtype)


def unit_interval(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Bytes 0..255 of any shape as a C-ordered array of `dtype` in [0, 1]."""
    x = pixels.astype(dtype, order="C")
    x /= 255  # in place: the float image sets take hundreds of MiB
    return x


def check_limit(limit: int | None) -> None:
    """ValueError unless limit is None or at least 1."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit} but must be None or at least 1.")


def finish(dataset: Dataset, input_bits: int | None) -> Dataset:
    """The dataset itself, or on the grid of `input_bits` where that is not None."""
    return dataset if input_bits is None else quantize_inputs(dataset, input_bits)
