"""Axes of a sweep as written on a command line: `optim.bits=4,8`, `seed=0:5`."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from lpml.build import ConfigError

DIGITS = 6
MOST_VALUES = 100_000

_RANGE = re.compile(r"(-?\d+):(-?\d+)(?::(-?\d+))?")
_SPACED = re.compile(r"(log|linear)\((.*)\)", re.DOTALL)
_OPENING, _CLOSING = "([{", ")]}"

Kind = Literal["list", "range", "log", "linear"]


class Axis(NamedTuple):
    """A dotted key and the values it takes.

    Attributes:
      key: of the config, or `variant`.
      values: in their order, at least one.
      kind: how they were written; all but a list can be sampled between the ends too.
      low: the smallest value, None for a list.
      high: the largest value, None for a list.
    """

    key: str
    values: tuple[Any, ...]
    kind: Kind = "list"
    low: float | None = None
    high: float | None = None


def parse_axes(texts: Sequence[str]) -> list[tuple[Axis, ...]]:
    """What several `--axis` say; the axes of one tuple go together element by element.

    Values are Python literals or bare words, `a:b` and `a:b:step` (whole numbers, without b, as
    in Python), `log(low,high,count)` and `linear(low,high,count)` (both ends included, rounded
    to 6 significant digits). Commas separate, except in brackets and quotes.

    Raises:
      ConfigError: a text that cannot be read, or a key in two axes.
    """
    groups = [tuple(_axis(part) for part in _split(text, "&", text)) for text in texts]
    seen: set[str] = set()
    for text, group in zip(texts, groups):
        for axis in group:
            if axis.key in seen:
                raise ConfigError(f"--axis={text}: {axis.key} is an axis already; name it once")
            seen.add(axis.key)
        lengths = {len(axis.values) for axis in group}
        if len(lengths) > 1:
            counts = " and ".join(f"{axis.key} {len(axis.values)}" for axis in group)
            raise ConfigError(
                f"--axis={text}: axes joined by & go together value by value, but {counts} "
                "values; give each the same number"
            )
    return groups


def _axis(text: str) -> Axis:
    key, equals, listing = text.partition("=")
    key = key.strip()
    if not equals or not re.fullmatch(r"[\w.\[\]]+", key):
        raise ConfigError(f"--axis={text} is not understood; write --axis='optim.bits=4,8,16'")
    parts = [_values(item, text) for item in _split(listing, ",", text)]
    values = tuple(value for _, some in parts for value in some)
    if len(parts) > 1 or parts[0][0] == "list":
        return Axis(key, values)
    return Axis(key, values, parts[0][0], min(values), max(values))


def _values(item: str, text: str) -> tuple[Kind, Sequence[Any]]:
    """The kind and the values of what stands between two commas."""
    if read := _RANGE.fullmatch(item):
        return "range", _range(read, text)
    if read := _SPACED.fullmatch(item):
        kind: Kind = "log" if read[1] == "log" else "linear"
        return kind, _spaced(kind, read[2], text)
    return "list", [_literal(item, text)]


def _range(read, text):
    first, end, step = (int(number) if number else 1 for number in read.groups())
    if step == 0:
        raise ConfigError(f"--axis={text}: a step of 0 never arrives; leave it out")
    values = range(first, end, step)
    if not values:
        raise ConfigError(
            f"--axis={text} has no values: {read[0]} stops before {end}, as in Python"
        )
    _check_count(len(values), text)
    return values


def _spaced(kind, arguments, text):
    try:
        low, high, count = (ast.literal_eval(word.strip()) for word in arguments.split(","))
        fine = type(count) is int and count > 1 and all(abs(v) < np.inf for v in (low, high))
        fine = fine and (kind == "linear" or min(low, high) > 0)
    except (ValueError, TypeError, SyntaxError):
        fine = False
    if not fine:
        positive = "two positive numbers" if kind == "log" else "two numbers"
        raise ConfigError(
            f"--axis={text}: {kind}({arguments}) needs {positive} and how many values, at "
            f"least 2, as in {kind}(1,100,3)"
        )
    _check_count(count, text)
    grid = (np.geomspace if kind == "log" else np.linspace)(low, high, count)
    # rounded, so that a point's name says its value exactly
    values = [float(f"{value:.{DIGITS}g}") for value in grid]
    if type(low) is type(high) is int and all(value.is_integer() for value in values):
        return [int(value) for value in values]
    return values


def _literal(item, text):
    if not item:
        raise ConfigError(f"--axis={text} has an empty value; write --axis='key=1,2'")
    try:
        return ast.literal_eval(item)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        if item in ("true", "false"):
            return item == "true"
        if any(sign in item for sign in "()[]{}'\"="):
            raise ConfigError(
                f"--axis={text}: the value {item} is neither a Python literal nor a word"
            ) from None
        return item


def _check_count(count, text):
    if count > MOST_VALUES:
        raise ConfigError(f"--axis={text} has {count} values; at most {MOST_VALUES} make sense")


def _split(text: str, sign: str, whole: str) -> list[str]:
    """Parts between the signs that stand outside of brackets and quotes, stripped."""
    parts, part, closing, quote = [], "", "", ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in _OPENING:
            closing += _CLOSING[_OPENING.index(letter)]
        elif letter in _CLOSING:
            if closing[-1:] != letter:
                raise ConfigError(f"--axis={whole}: the bracket {letter} opens nowhere")
            closing = closing[:-1]
        elif letter == sign and not closing:
            parts.append(part.strip())
            part = ""
            continue
        part += letter
    if quote or closing:
        raise ConfigError(f"--axis={whole} lacks a closing {quote or closing[-1]}")
    return [*parts, part.strip()]
