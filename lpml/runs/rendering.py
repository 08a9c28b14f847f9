"""Rows as text, and as a data frame."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from lpml.build import ConfigError, suggestion
from lpml.runs.cells import is_number
from lpml.runs.reading import Row
from lpml.runs.selection import names

_NOTHING = "-"


def render(
    rows: Sequence[Row], format: str = "table", *, columns: Sequence[str] | None = None
) -> str:
    """Rows as text that ends with a line break.

    `table` and `markdown` are for reading: floats have four digits, `-` is no value. `csv` and
    `json` keep every digit; there what is missing is empty and null, and NaN `nan` and null.

    Args:
      rows: from `rows` or `group`.
      format: `"table"`, `"csv"`, `"markdown"` or `"json"`.
      columns: what to show, from `lpml.runs.columns`; None shows everything.

    Raises:
      ConfigError: another format.
    """
    if format not in FORMATS:
        raise ConfigError(
            f"the format {format!r} does not exist{suggestion(format, FORMATS)}; choose from "
            f"{', '.join(FORMATS)}"
        )
    return FORMATS[format](rows, names(rows) if columns is None else columns)


def to_pandas(rows: Sequence[Row]) -> Any:
    """The rows as a pandas DataFrame, one column for each key of any row.

    Raises:
      ImportError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "a data frame needs pandas, which lpml does not: `pip install pandas`, or write "
            "--format=csv"
        ) from error
    return pandas.DataFrame(rows, columns=names(rows))


def _table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    lines = _in_words(rows, columns)
    widths = [max(map(len, column)) for column in zip(*lines)]
    right = [any(is_number(row.get(key)) for row in rows) for key in columns]
    return "".join(
        "  ".join(
            cell.rjust(width) if numbers else cell.ljust(width)
            for cell, width, numbers in zip(line, widths, right)
        ).rstrip()
        + "\n"
        for line in lines
    )


def _markdown(rows: Sequence[Row], columns: Sequence[str]) -> str:
    head, *body = [
        [cell.replace("|", "\\|") for cell in line] for line in _in_words(rows, columns)
    ]
    lines = [head, ["---"] * len(columns), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _csv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    lines = [_csv_line(columns)]
    for row in rows:
        cells = [row.get(key) for key in columns]
        lines.append(
            _csv_line([json.dumps(c) if isinstance(c, (list, dict)) else c for c in cells])
        )
    return "".join(lines)


def _csv_line(cells: Sequence[Any]) -> str:
    # Asked for lines that end in \n alone, the writer would leave an inner \r without quotes.
    buffer = io.StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue()[:-2] + "\n"


def _json(rows: Sequence[Row], columns: Sequence[str]) -> str:
    records = [{key: _plain(row.get(key)) for key in columns} for row in rows]
    return json.dumps(records, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """The value with null for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _in_words(rows: Sequence[Row], columns: Sequence[str]) -> list[list[str]]:
    return [list(columns)] + [
        [_word(row[key], key) if key in row else _NOTHING for key in columns] for row in rows
    ]


def _word(value: Any, key: str) -> str:
    if value is None:  # of a metric: the spread of one run; of a setting: none
        return _NOTHING if key.startswith("final.") else "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ",".join(_word(item, key) for item in value)
    if isinstance(value, str) and value and value.isprintable():
        return value
    return json.dumps(value)


FORMATS: dict[str, Callable[[Sequence[Row], Sequence[str]], str]] = {
    "table": _table,
    "csv": _csv,
    "markdown": _markdown,
    "json": _json,
}
