"""Random arrays like those in networks: with light and heavy tails, with uneven rows."""

import functools

import numpy as np


def _gaussian(random, shape):
    return random.standard_normal(shape)


def _laplace(random, shape):
    return random.laplace(size=shape)


def _student4(random, shape):
    return random.standard_t(4, shape)


def _uneven_rows(random, shape):
    """Gaussian, each row times e to a standard normal power: channels of unlike size."""
    gains = np.exp(random.standard_normal((shape[0], 1)))
    return gains * random.standard_normal(shape)


_DRAWS = {
    "gaussian": _gaussian,
    "laplace": _laplace,
    "student4": _student4,
    "uneven_rows": _uneven_rows,
}
DISTRIBUTIONS = tuple(_DRAWS)


def check_distribution(name: str) -> None:
    """ValueError unless `drawn` knows the name."""
    if name not in _DRAWS:
        raise ValueError(
            f"distribution {name!r} does not exist; choose from {', '.join(DISTRIBUTIONS)}"
        )


# One array is kept: a sweep over formats measures them all on the same numbers, and drawing
# takes several times as long as rounding.
@functools.lru_cache(maxsize=1)
def drawn(name: str, shape: tuple[int, int], seed: int) -> np.ndarray:
    """Numbers of a distribution, from `default_rng(seed)` in float64, then as float32.

    Args:
      name: "gaussian"; "laplace"; "student4" (Student's t of 4 degrees of freedom);
        "uneven_rows" (Gaussian with a gain per row, e to a standard normal power). Where
        nothing else is said the scale is the standard one: no format here depends on it but
        those without a float scale.
      shape: rows and columns.
      seed: of the numbers.

    Returns:
      (rows, columns) float32, not to be written to: later calls return the same array.
    """
    numbers = _DRAWS[name](np.random.default_rng(seed), shape).astype(np.float32)
    numbers.flags.writeable = False
    return numbers
