"""Handwritten digits of 8x8 pixels, which come with scikit-learn: no file, no network."""

import numpy as np

from lpml.data.dataset import Dataset, finish, float_dtype


def digits(
    *,
    seed: int = 0,
    train_samples: int = 1500,
    dtype: str = "float32",
    flat: bool = True,
    enlarge: int = 1,
    input_bits: int | None = None,
) -> Dataset:
    """The 1797 digits of scikit-learn's load_digits, split at random.

    Args:
      seed: of the shuffle before the split, at least 0.
      train_samples: N, 1 to 1797; the rest is the test set (None if none is left).
      dtype: 'float32' or 'float64', of x.
      flat: x is (N, 64) if true, else (N, 8, 8, 1).
      enlarge: every pixel becomes a square of so many by so many, for networks that need
        larger images; at least 1, and 1 for flat x.
      input_bits: width of the fixed-point grid for x (`quantize_inputs`), None for none.

    Returns:
      x in [0, 1], multiples of 1/16 before the grid; y int32 in 0..9; classes 10.

    Raises:
      ValueError: an argument out of its range.
    """
    from sklearn.datasets import load_digits

    floating = float_dtype(dtype)
    pixels, labels = load_digits(return_X_y=True)
    if not 1 <= train_samples <= len(labels):
        raise ValueError(f"train_samples is {train_samples} but must be 1 to {len(labels)}.")
    if enlarge < 1 or (flat and enlarge > 1):
        raise ValueError(f"enlarge is {enlarge} but must be 1 or more, and 1 for flat images.")
    order = np.random.default_rng(seed).permutation(len(labels))
    x = (pixels[order] / 16).astype(floating).reshape((-1, 64) if flat else (-1, 8, 8, 1))
    if enlarge > 1:
        x = x.repeat(enlarge, axis=1).repeat(enlarge, axis=2)
    y = labels[order].astype(np.int32)
    train = {"x": x[:train_samples], "y": y[:train_samples]}
    test = {"x": x[train_samples:], "y": y[train_samples:]}
    return finish(Dataset(train, test if len(test["y"]) else None, 10), input_bits)
