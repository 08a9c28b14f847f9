"""Conditions on rows: `optim.bits<=8`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lpml.build import ConfigError
from lpml.runs.cells import is_number, literal, token
from lpml.runs.reading import Row
from lpml.runs.selection import check_known, names

_CONDITION = re.compile(r"\s*([^=!<>]+?)\s*(!=|<=|>=|==|=|<|>)\s*(.*?)\s*", re.DOTALL)
_ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def where(rows: Sequence[Row], conditions: Iterable[str]) -> list[Row]:
    """The rows for which all conditions hold.

    A condition is a column, one of `= != < <= > >=`, and a value: a number, `true`, `false`,
    `none`, `nan`, a JSON or Python literal, else a word. Numbers compare as numbers: 1e-3 is
    0.001 and 8 is 8.0, but 1 is not `true`. A word also finds the text that reads like it.

    A row without the column does not match. With `!=` it does: `!=` is the opposite of `=`, so
    `optim.bits!=8` keeps the full-precision run that has no bits.

    Args:
      rows: from `rows` or `group`.
      conditions: such as `"optim.name=halp"`.

    Raises:
      ConfigError: a condition that cannot be read, or a column that no row has.
    """
    tests = [_test(rows, condition) for condition in conditions]
    return [row for row in rows if all(test(row) for test in tests)]


def _test(rows: Sequence[Row], condition: str) -> Callable[[Row], bool]:
    read = _CONDITION.fullmatch(condition)
    if read is None:
        raise ConfigError(
            f"the condition {condition!r} is not understood; write it like 'optim.bits<=8', "
            "with one of = != < <= > >="
        )
    key, sign, text = read.groups()
    check_known(names(rows), key)
    wanted = literal(text)
    if sign in _ORDERS:
        if not is_number(wanted):
            raise ConfigError(
                f"the condition {condition!r} needs a number behind {sign}; words know only "
                "= and !="
            )
        order = _ORDERS[sign]
        return lambda row: is_number(row.get(key)) and order(row[key], wanted)

    def equals(row: Row) -> bool:
        return key in row and _equal(row[key], wanted, text)

    return equals if sign != "!=" else lambda row: not equals(row)


def _equal(value: Any, wanted: Any, text: str) -> bool:
    # `rounding=none` means the word where the config holds a word
    return token(value) == token(wanted) or (isinstance(value, str) and value == text)
