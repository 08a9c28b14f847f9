"""Cells of the table: what a typed word means, which cells are equal, and their order."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

# Decimals only behind an equals sign: elsewhere a full stop divides, as in `v1.10`.
_NUMBERS = re.compile(r"((?<==)-?\d+(?:\.\d+)?(?:e[-+]?\d+)?|\d+)")
_WORDS = {"true": True, "false": False, "none": None, "null": None}


def literal(text: str) -> Any:
    """The value of a typed word: a number, true, false, none, a JSON or Python literal, text.

    Only what opens with a quote or a bracket is taken as a longer literal.
    """
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    if text[:1] in ("'", '"', "[", "(", "{"):
        for read in (json.loads, ast.literal_eval):
            try:
                value = read(text)
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                continue
            return list(value) if isinstance(value, tuple) else value
    return text


def is_number(value: Any) -> bool:
    """Whether a cell is a number; a truth value is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def token(value: Any) -> Any:
    """Something hashable, equal for equal cells: 8 and 8.0 are, 1 and True are not."""
    if is_number(value):
        return "nan" if value != value else value
    return json.dumps(value, sort_keys=True, default=str)


def natural(text: str) -> tuple[Any, ...]:
    """Key that sorts text by the numbers in it: `bits=4` before `bits=16`."""
    parts = _NUMBERS.split(text)
    return tuple(float(part) if odd % 2 else part for odd, part in enumerate(parts)), text


def rank(value: Any) -> tuple[Any, ...] | None:
    """Key that sorts cells: numbers, then words. None for a cell without a value (NaN too)."""
    if value is None or value != value:
        return None
    if is_number(value):
        return (0, value)
    return (1, natural(value if isinstance(value, str) else token(value)))
