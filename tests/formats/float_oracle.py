"""Floats by their definition, in exact rational arithmetic: the oracle of the dot tests."""

from fractions import Fraction

import jax.numpy as jnp
import numpy as np


def nearest(x: Fraction, fmt, *, saturate: bool = False) -> float:
    """The value of an IEEE-like Minifloat nearest to x, ties to even."""
    most = 2 ** (fmt.exponent_bits - 1)
    log = x.numerator.bit_length() - x.denominator.bit_length() if x else 0
    log -= bool(x) and Fraction(2) ** log > abs(x)
    unit = Fraction(2) ** (max(log, 2 - most) - fmt.mantissa_bits)
    found = round(x / unit) * unit  # Python's round: ties to even
    if abs(found) >= Fraction(2) ** most:
        return np.copysign(fmt.largest if saturate else np.inf, float(x > 0) - 0.5)
    return float(found)


def fractions(x) -> list:
    """Float arrays as lists of exact numbers, nested as the array."""
    x = np.asarray(x, np.float64)
    return [fractions(row) if row.ndim else Fraction(float(row)) for row in x]


def any_values(fmt, shape, rng) -> np.ndarray:
    """Finite values by random codes: all exponents alike, subnormal numbers and zeros too."""
    codes = rng.integers(0, 2**fmt.static_bits, shape, dtype=np.uint32)
    values = np.asarray(fmt.decode(jnp.asarray(codes)))
    return np.where(np.isfinite(values), values, np.float32(fmt.smallest))
