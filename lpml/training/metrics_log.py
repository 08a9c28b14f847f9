"""The run's numbers as JSON lines: exact, and read without TensorBoard."""

from __future__ import annotations

import json
import math
import numbers
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TAIL_BYTES = 1 << 14  # of read_last: many lines


class MetricsLog:
    """Appends one JSON object a line, each with an integer `step`, flushed line by line.

    A last line torn by a kill is dropped when the file is opened again.

    Args:
        path: the file, made if absent; its folder must exist.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._path = Path(path)
        _drop_torn_line(self._path)
        self._file = self._path.open("a", encoding="utf-8", newline="\n")

    def append(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes one line.

        Args:
            step: 0 or more.
            values: numbers, 0-d arrays, truth values or None by name. Floats keep every
                digit; NaN and infinities become null, because JSON has no word for them.

        Raises:
            ValueError: a value is called `step`.
            TypeError: a value is not a number.
        """
        if "step" in values:
            raise ValueError("a metric cannot be called 'step'")
        row = {"step": int(step), **{name: _plain(v) for name, v in values.items()}}
        self._file.write(json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n")
        self._file.flush()

    def rewind(self, step: int) -> None:
        """Drops all lines after `step`, in one atomic replacement of the file.

        Raises:
            ValueError: a line other than the last is no JSON object with a step.
            OSError: the file cannot be written; it is then unchanged.
        """
        kept = [line for line, row in _rows(self._path) if row["step"] <= step]
        fresh = self._path.with_name(self._path.name + ".new")
        fresh.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8", newline="\n")
        self._file.close()
        os.replace(fresh, self._path)
        self._file = self._path.open("a", encoding="utf-8", newline="\n")

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        self._file.close()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Returns one row per step in the order of steps, ignoring a torn last line.

    Lines of one step are joined (training and evaluation may log apart); where two hold the
    same name the last one counts, which is the one a resumed run wrote.

    Raises:
        ValueError: a line other than the last is garbage; names the file and the line.
        OSError: the file cannot be read.
    """
    joined: dict[int, dict[str, Any]] = {}
    for _, row in _rows(Path(path)):
        joined.setdefault(row["step"], {}).update(row)
    return [joined[step] for step in sorted(joined)]


def read_last(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The last row of `read`, from the end of the file alone; None where there is no line.

    Raises:
        ValueError: a line near the end, other than the last, is garbage; names the line.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        tail = _TAIL_BYTES
        while True:
            start = max(0, size - tail)
            file.seek(start)
            content = file.read(size - start)
            if start:  # most likely amid a line
                content = content.partition(b"\n")[2]
            try:
                rows = [row for _, row in _parsed(content, path)]
            except ValueError:
                read(path)  # counts the lines from the first one
                raise
            if not start or (rows and rows[0]["step"] != rows[-1]["step"]):
                break
            tail *= 4
    joined: dict[str, Any] = {}
    for row in rows:
        if row["step"] == rows[-1]["step"]:
            joined.update(row)
    return joined or None


def _rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The file's lines with their parsed form; a torn last line is left out."""
    return _parsed(path.read_bytes(), path)


def _parsed(content: bytes, path: str | os.PathLike[str]) -> list[tuple[str, dict[str, Any]]]:
    lines = content.split(b"\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and not line:
            break
        try:
            row = json.loads(line.decode("utf-8"))
            if not isinstance(row, dict) or type(row.get("step")) is not int:
                raise ValueError("not an object with an integer step")
        except ValueError as error:  # also JSONDecodeError and UnicodeDecodeError
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number}: {error}") from error
        rows.append((line.decode("utf-8"), row))
    return rows


def _drop_torn_line(path: Path) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def _plain(value: Any) -> bool | int | float | None:
    if value is None or isinstance(value, bool):
        return value
    item = value.item() if hasattr(value, "item") else value
    if isinstance(item, bool):
        return item
    if isinstance(item, numbers.Integral):
        return int(item)
    number = float(item)
    return number if math.isfinite(number) else None
