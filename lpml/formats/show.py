"""One number in one format, for people: its code by fields, its value, what lies next to it."""

import dataclasses
import functools
import math
import re
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lpml.formats.fixed import Fixed
from lpml.formats.minifloat import Minifloat
from lpml.formats.posit import Posit
from lpml.formats.protocol import Elementwise
from lpml.formats.table import Table

MOST_TABLE_BITS = 8
MOST_EXPONENT = 1000  # of 10, beyond every format; larger ones take exact fractions for ever
STEP = 2.0**-40  # relative; values of 32 bits lie further apart
NO_FORMAT = "a number alone has no code in {}: its blocks share scales; show its element format"
Field = tuple[str, str]


@functools.singledispatch
def fields(fmt: Any, code: int) -> list[Field]:
    """Names and bits of the fields of a code (its low `static_bits`), most significant first.

    Those of a negative posit are the fields of its magnitude's code, the two's complement.

    Raises:
      ValueError: a format whose numbers have no code of their own.
    """
    if not isinstance(fmt, Elementwise):
        raise ValueError(NO_FORMAT.format(describe(fmt)))
    return [("code", _word(fmt, code))]


@fields.register
def _(fmt: Minifloat, code: int) -> list[Field]:
    word = _word(fmt, code)
    cut = 1 + int(fmt.exponent_bits)
    found = [("sign", word[:1]), ("exponent", word[1:cut]), ("mantissa", word[cut:])]
    return [field for field in found if field[1]]


@fields.register
def _(fmt: Posit, code: int) -> list[Field]:
    word = _word(fmt, code)
    rest = _word(fmt, -code)[1:] if word[0] == "1" else word[1:]
    run = len(rest) - len(rest.lstrip(rest[0]))
    if run == len(rest) and rest[0] == "0":  # zero and NaR have no fields
        return [("sign", word[0]), ("rest", rest)]
    cut = min(run + 1, len(rest))
    end = cut + int(fmt.es)
    found = [("regime", rest[:cut]), ("exponent", rest[cut:end]), ("fraction", rest[end:])]
    return [("sign", word[0]), *(field for field in found if field[1])]


@fields.register
def _(fmt: Fixed, code: int) -> list[Field]:
    return [("two's complement", _word(fmt, code))]


@fields.register
def _(fmt: Table, code: int) -> list[Field]:
    return [("position", _word(fmt, code))]


def _word(fmt, code):
    bits = int(fmt.static_bits)
    return f"{code % 2**bits:0{bits}b}"


def describe(fmt: Any) -> str:
    """A format in a word or two, as its name where it has one."""
    if getattr(fmt, "static_bits", None) is None:
        return f"{type(fmt).__name__} of traced width"
    if isinstance(fmt, Minifloat):
        return f"e{fmt.exponent_bits}m{fmt.mantissa_bits}{'fn' if fmt.special == 'fn' else ''}"
    if isinstance(fmt, Posit):
        return f"posit{fmt.bits}es{fmt.es}"
    return f"{type(fmt).__name__} of {fmt.static_bits} bits"


@dataclasses.dataclass(frozen=True)
class Shown:
    """What a number becomes: code and value, the values around, the error.

    Errors are None where x or the value is no number; `ulp` is the gap between the values on
    both sides of x, or None beyond the largest.
    """

    code: int
    value: float
    below: float | None
    above: float | None
    absolute: float | None
    relative: float | None
    ulp: float | None


def show(fmt: Any, text: str) -> Shown:
    """The number that `text` spells ("0.1", "1e-3", "1/3", "nan") in a format, to nearest.

    Exact: the number itself is rounded, not its float64.

    Raises:
      ValueError: no number, or a format whose numbers have no code of their own.
    """
    if not isinstance(fmt, Elementwise):
        raise ValueError(NO_FORMAT.format(describe(fmt)))
    exact = _number(text)
    with jax.enable_x64(True):
        x = jnp.float64(_to_odd(exact) if isinstance(exact, Fraction) else exact)
        code = int(fmt.encode(x))
        value = float(fmt.decode(jnp.asarray(code, fmt.code_dtype), jnp.float64))
        around = (_next(fmt, value, -1), _next(fmt, value, 1))
    if not (isinstance(exact, Fraction) and math.isfinite(value)):
        return Shown(code, value, *around, None, None, None)
    error = Fraction(value) - exact
    other = around[0] if error > 0 else around[1]
    gap = None if other is None else abs(Fraction(value) - Fraction(other))
    return Shown(
        code,
        value,
        *around,
        absolute=_float(error),
        relative=_float(error / abs(exact)) if exact else None,
        ulp=_float(error / gap) if gap and abs(error) <= gap else None,
    )


def table(fmt: Any) -> list[tuple[int, float]]:
    """All codes, as unsigned integers, and their values, in the order of codes.

    Raises:
      ValueError: more than 8 bits, or a format whose numbers have no code of their own.
    """
    if not isinstance(fmt, Elementwise):
        raise ValueError(NO_FORMAT.format(describe(fmt)))
    bits = fmt.static_bits
    if bits is None or bits > MOST_TABLE_BITS:
        raise ValueError(
            f"{describe(fmt)} is too long a table; take a format of at most"
            f" {MOST_TABLE_BITS} bits"
        )
    count = len(fmt.values()) if isinstance(fmt, Table) else 2**bits
    codes = np.arange(count, dtype=np.int64)
    if jnp.issubdtype(fmt.code_dtype, jnp.signedinteger):
        codes = np.where(codes >= 2 ** (bits - 1), codes - 2**bits, codes)
    with jax.enable_x64(True):
        values = fmt.decode(jnp.asarray(codes).astype(fmt.code_dtype), jnp.float64)
    return list(zip((codes % 2**bits).tolist(), np.asarray(values).tolist()))


def _next(fmt, value, direction):
    """The next value up or down, None where there is none; under x64."""
    if not math.isfinite(value):
        return None
    # further off than float64's own rounding of a value, nearer than the next value
    away = abs(value) * STEP if value else float(fmt.smallest)
    beyond = jnp.float64(value + direction * away)
    outwards = value * direction >= 0
    found = float(fmt.round(beyond, "away" if outwards else "zero"))
    # never -0
    return found + 0.0 if (found - value) * direction > 0 and math.isfinite(found) else None


def _number(text):
    """A Fraction, or a float that is no number."""
    exponent = re.search(r"[eE][+-]?\d+$", text.strip().replace("_", ""))
    if exponent and abs(int(exponent[0][1:])) > MOST_EXPONENT:
        raise ValueError(
            f"{text!r} is out of reach: exponents of 10 go up to {MOST_EXPONENT}, down to"
            f" -{MOST_EXPONENT}"
        )
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        pass
    try:
        found = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number; write it as 0.1, 1e-3, 1/3 or inf") from None
    return found


def _to_odd(exact):
    """float64 whose rounding to a shorter format is that of the exact number."""
    near = _float(exact)
    if not math.isfinite(near) or Fraction(near) == exact:
        return near
    even = int(np.float64(near).view(np.int64)) % 2 == 0
    return (
        math.nextafter(near, math.inf if exact > Fraction(near) else -math.inf)
        if even
        else near
    )


def _float(exact):
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf
