"""Run folders as flat rows: one dict per run, whatever state its folder is in."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from typing import Any

from lpml.runs.folders import find
from lpml.training.metrics_log import read_last
from lpml.training.run_folder import flatten

Row = dict[str, Any]
Path = str | os.PathLike[str]

# What a run is that is not done.
ENDS = ("unfinished", "pruned", "failed", "damaged")
# Columns that are neither settings nor metrics; all from `runs` on are those of grouped tables.
OWN = ("run", "status", "problem", "runs", "n", *ENDS)


def rows(source: Path | Sequence[Path]) -> list[Row]:
    """One flat row per run, in natural order; no folder's state stops it.

    A row has
      `run`: the path below `source` (as given, where `source` is a list);
      `status`: `"done"`, `"unfinished"`, `"pruned"` by a study, `"failed"` when last tried, or
        `"damaged"`; of the last two `problem` says why;
      the resolved config by dotted keys: `seed`, `optim.bits`;
      `final.<metric>`: the final metrics, or so far those of the log's last step. What is not
      finite is NaN.

    Args:
      source: a folder to search, or run folders.

    Raises:
      ConfigError: there is no such folder.
    """
    if isinstance(source, (str, os.PathLike)):
        root = os.fspath(source)
        named = {path: os.path.relpath(path, root) for path in find(root)}
        own_name = os.path.basename(os.path.abspath(root))
        return [_row(path, own_name if n == "." else n) for path, n in named.items()]
    return [_row(os.fspath(path), os.fspath(path)) for path in source]


def settings(row: Row) -> list[str]:
    """Names of the row's columns that hold its config."""
    return [key for key in row if key not in OWN and not key.startswith("final.")]


def _row(path: str, name: str) -> Row:
    problems: list[str] = []
    remedy = "so it cannot be resumed: remove the folder and run it again"
    config = _object(path, "config.json", remedy, problems)
    status = "unfinished"
    final: Row | None = None
    if os.path.exists(os.path.join(path, "DONE")):
        status = "done"
        remedy = "so remove this file and launch the run again, which writes it anew"
        final = _object(path, "DONE", remedy, problems)
    else:
        try:
            final = read_last(os.path.join(path, "metrics.jsonl"))
        except FileNotFoundError:
            pass  # a run that has logged nothing yet
        except OSError as error:
            problems.append(f"metrics.jsonl cannot be read: {error.strerror}")
        except ValueError as error:
            problems.append(f"{str(error).removeprefix(path + os.sep)}; mend that line")
    if status == "unfinished" and os.path.exists(os.path.join(path, "FAILED")):
        status = "failed"
        mark = _object(path, "FAILED", "so remove it", problems) or {}
    else:
        mark = {}
        if status == "unfinished" and os.path.exists(os.path.join(path, "PRUNED")):
            status = "pruned"
    row = {"run": name, "status": status, **flatten(config or {})}
    row.update({f"final.{key}": _finite(value) for key, value in (final or {}).items()})
    row.update(run=name, status="damaged" if problems else status)
    if problems or "reason" in mark:
        row["problem"] = "; ".join(problems) or str(mark["reason"])
    return row


def _object(path: str, name: str, remedy: str, problems: list[str]) -> Row | None:
    """A JSON object from a file; None, and a problem more, where there is none."""
    try:
        with open(os.path.join(path, name), encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        problems.append(f"{name} cannot be read: {error.strerror}")
        return None
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict):
        return content
    problems.append(f"{name} is no JSON object, {remedy}")
    return None


def _finite(value: Any) -> Any:
    return math.nan if value is None else value  # JSON has no other word for it
