"""Synthetic problems whose optimum can be computed: scikit-learn's generators."""

import math

import numpy as np

from lpml.data.dataset import Dataset, finish, float_dtype


def synthetic_regression(
    *,
    samples: int = 1000,
    features: int = 100,
    noise: float = 1.0,
    seed: int = 0xC0FFEE,
    dtype: str = "float64",
    input_bits: int | None = None,
) -> Dataset:
    """A linear model with 10 informative features: scikit-learn's make_regression.

    Args:
      samples: N, at least 1.
      features: at least 1.
      noise: standard deviation of the Gaussian noise on y, >= 0.
      seed: of the whole problem, 0 to 2**32 - 1.
      dtype: 'float32' or 'float64', of x and y.
      input_bits: width of the fixed-point grid for x (`quantize_inputs`), None for none;
        y is that of the x before rounding.

    Returns:
      train x (samples, features), standard normal; y (samples,); no test set.

    Raises:
      ValueError: an argument out of its range.
    """
    from sklearn.datasets import make_regression

    floating = float_dtype(dtype)
    _check_sizes(samples, features)
    _check_noise(noise)
    x, y = make_regression(
        n_samples=samples, n_features=features, noise=noise, random_state=seed
    )
    train = {"x": x.astype(floating), "y": y.astype(floating)}
    return finish(Dataset(train, None, None), input_bits)


def uniform_regression(
    *,
    samples: int = 20000,
    features: int = 256,
    noise: float = 0.2,
    seed: int = 0,
    dtype: str = "float32",
    input_bits: int | None = None,
) -> Dataset:
    """A dense linear model of bounded weights and inputs: y = x . w* + noise.

    The weights w* and the inputs are uniform in [-1/2, 1/2], so that the problem of any
    number of features has weights of the same range, and Hessian E[x x^T] = I / 12.

    Args:
      samples: N, at least 1.
      features: d, at least 1.
      noise: standard deviation of the Gaussian noise on y, >= 0.
      seed: of the whole problem, at least 0.
      dtype: 'float32' or 'float64', of x and y.
      input_bits: width of the fixed-point grid for x (`quantize_inputs`), None for none.

    Returns:
      train x (samples, features), y (samples,); no test set.

    Raises:
      ValueError: an argument out of its range.

    References:
      Hou et al., Analysis of quantized models, ICLR 2019, section 4.1.
    """
    floating = float_dtype(dtype)
    _check_sizes(samples, features)
    _check_noise(noise)
    random = np.random.default_rng(seed)
    w = random.uniform(-0.5, 0.5, features)
    x = random.uniform(-0.5, 0.5, (samples, features))
    y = x @ w + noise * random.normal(size=samples)
    train = {"x": x.astype(floating), "y": y.astype(floating)}
    return finish(Dataset(train, None, None), input_bits)


def synthetic_classification(
    *,
    samples: int = 1000,
    features: int = 20,
    informative: int = 10,
    classes: int = 2,
    seed: int = 0,
    dtype: str = "float64",
    input_bits: int | None = None,
) -> Dataset:
    """Gaussian clusters at the corners of a hypercube: scikit-learn's make_classification.

    Args:
      samples: N, at least 1.
      features: at least informative + 2, as two more are combinations of those.
      informative: enough for two clusters a class: 2**informative >= 2 * classes.
      classes: at least 2.
      seed: of the whole problem, 0 to 2**32 - 1.
      dtype: 'float32' or 'float64', of x.
      input_bits: width of the fixed-point grid for x (`quantize_inputs`), None for none.

    Returns:
      train x (samples, features), each column of mean 0 and population variance 1 before
      the grid; y (samples,) int32 in 0..classes-1; no test set.

    Raises:
      ValueError: an argument out of its range.
    """
    from sklearn.datasets import make_classification

    floating = float_dtype(dtype)
    _check_sizes(samples, features)
    x, y = make_classification(
        n_samples=samples,
        n_features=features,
        n_informative=informative,
        n_classes=classes,
        random_state=seed,
    )
    spread = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1)
    train = {"x": x.astype(floating), "y": y.astype(np.int32)}
    return finish(Dataset(train, None, classes), input_bits)


def _check_sizes(samples, features):
    """Before scikit-learn does, which has other names for them."""
    if samples < 1 or features < 1:
        raise ValueError(f"samples = {samples} and features = {features} must be at least 1.")


def _check_noise(noise):
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise = {noise} must be finite and not negative.")
