"""Posits by their definition, in exact rational arithmetic: the oracle of the posit tests."""

import functools
from fractions import Fraction

import numpy as np


def decode(code: int, bits: int, es: int) -> Fraction | None:
    """The value of a two's complement code; None for NaR."""
    code %= 2**bits
    if code == 0:
        return Fraction(0)
    if code == 2 ** (bits - 1):
        return None
    if code > 2 ** (bits - 1):
        return -decode(2**bits - code, bits, es)
    text = f"{code:0{bits - 1}b}"
    run = len(text) - len(text.lstrip(text[0]))
    tail = text[run + 1 :] + "0" * es  # exponent bits that were cut are 0
    regime = run - 1 if text[0] == "1" else -run
    exponent = int(tail[:es] or "0", 2)
    fraction = tail[es:]
    significand = 1 + Fraction(int(fraction or "0", 2), 2 ** len(fraction))
    return significand * Fraction(2) ** (regime * 2**es + exponent)


def encode(x: Fraction | None, bits: int, es: int) -> int:
    """The code nearest to x: its infinite bit string, cut; ties to even; never 0 or NaR."""
    if x is None:
        return -(2 ** (bits - 1))
    if x < 0:
        return -encode(-x, bits, es)
    if x == 0:
        return 0
    log = x.numerator.bit_length() - x.denominator.bit_length()
    log -= Fraction(2) ** log > x
    regime, exponent = divmod(log, 2**es)
    head = "1" * (regime + 1) + "0" if regime >= 0 else "0" * -regime + "1"
    head += f"{exponent:0{es}b}" if es else ""
    string = int(head, 2) + (x / Fraction(2) ** log - 1)
    code = round(string * Fraction(2) ** (bits - 1 - len(head)))
    return min(max(code, 1), 2 ** (bits - 1) - 1)


@functools.cache  # of 17 bits they take a second
def magnitudes(bits: int, es: int) -> np.ndarray:
    """All positive values in ascending order, float64; exact. Not to be written to."""
    codes = range(1, 2 ** (bits - 1))
    found = np.array([float(decode(code, bits, es)) for code in codes])
    found.flags.writeable = False
    return found


def nearest_codes(x: np.ndarray, bits: int, es: int) -> np.ndarray:
    """Codes of many numbers, finite and not NaN: by search among the borders."""
    # the border between codes c and c + 1 is the posit 2 c + 1 of one bit more
    borders = magnitudes(bits + 1, es)[2:-1:2]
    at = np.abs(x.astype(np.float64))
    below = np.searchsorted(borders, at, side="left") + 1
    tie = (below <= len(borders)) & (at == borders[np.minimum(below, len(borders)) - 1])
    below += tie & (below % 2 == 1)
    return np.where(at == 0, 0, np.where(x < 0, -below, below))
