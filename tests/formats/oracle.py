"""Rounding by the book: exact rationals, lists of values, no floating-point arithmetic.

`rounded` is the model; `rounded_array` is the same for many numbers, on float64 in which the
values, their midpoints and the numbers are all exact, and is tested against it.
"""

import bisect
from fractions import Fraction

import numpy as np


def minifloat(exponent_bits, mantissa_bits, special="ieee"):
    """The magnitudes of a minifloat, Fractions in the order of their codes, 0 first."""
    lowest = 2 - 2 ** (exponent_bits - 1)
    scale = 2**mantissa_bits
    found = []
    for field in range(2**exponent_bits):
        for fraction in range(scale):
            significand = Fraction(fraction + scale * (field > 0), scale)
            found.append(significand * Fraction(2) ** (max(field, 1) - 1 + lowest))
    not_numbers = {"ieee": scale, "fn": 1, "finite": 0}[special]
    return found[: len(found) - not_numbers]


def rounded(x, magnitudes, mode, up=None):
    """The magnitude that |x| is rounded to, by its position; beyond the last: the last.

    Args:
      x: a Fraction.
      magnitudes: ascending, 0 first; the position is the code.
      mode: as in lpml.formats.
      up: for "stochastic": the choice.
    """
    size, negative = abs(x), x < 0
    below = bisect.bisect_right(magnitudes, size) - 1
    if below == len(magnitudes) - 1 or magnitudes[below] == size:
        return below
    twice, middle = 2 * size, magnitudes[below] + magnitudes[below + 1]
    odd = below % 2 == 1
    return (
        below
        + {
            "zero": False,
            "away": True,
            "odd": not odd,
            "nearest": twice > middle or (twice == middle and odd),
            "half_up": twice > middle or (twice == middle and not negative),
            "stochastic": up,
        }[mode]
    )


def rounded_array(x, magnitudes, mode):
    """Codes without sign for float64 `x`; `magnitudes` float64, all midpoints exact in it."""
    size = np.abs(x)
    below = np.searchsorted(magnitudes, size, side="right") - 1
    last = len(magnitudes) - 1
    above = np.minimum(below + 1, last)
    middle = magnitudes[below] / 2 + magnitudes[above] / 2
    odd, tie = below % 2 == 1, size == middle
    up = {
        "zero": np.zeros_like(tie),
        "away": np.ones_like(tie),
        "odd": ~odd,
        "nearest": (size > middle) | (tie & odd),
        "half_up": (size > middle) | (tie & ~np.signbit(x)),
    }[mode]
    return np.where((below == last) | (magnitudes[below] == size), below, below + up)


def signed(codes, x, magnitudes):
    """The float64 values of codes, with the signs of `x`, those of zeros too."""
    return np.copysign(magnitudes[codes], x)


def points(magnitudes, dtype, count, seed=0):
    """Values, ties, both neighbours of each in `dtype`, and random bit patterns; both signs."""
    ties = (magnitudes[1:] / 2 + magnitudes[:-1] / 2).astype(dtype)
    base = np.concatenate([magnitudes.astype(dtype), ties])
    near = [np.nextafter(base, dtype(0)), np.nextafter(base, np.finfo(dtype).max)]
    words = {4: np.uint32, 8: np.uint64}[np.dtype(dtype).itemsize]
    rng = np.random.default_rng(seed)
    anything = rng.integers(0, np.iinfo(words).max, count, dtype=words, endpoint=True)
    anything = anything.view(dtype)
    anything = anything[np.isfinite(anything)]
    # random patterns are mostly far from the range: as many again within it
    inside = np.exp2(
        rng.uniform(np.log2(magnitudes[1]) - 3, np.log2(magnitudes[-1]) + 2, count)
    )
    inside = np.minimum(inside, np.finfo(dtype).max).astype(dtype)
    found = np.abs(np.concatenate([base, *near, anything, inside]))
    return np.concatenate([found, -found])
