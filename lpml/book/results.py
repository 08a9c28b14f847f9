"""Finished experiments read back from their folders."""

import json
import math
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lpml.runs import Verdict
from lpml.training.stopwatch import read_seconds

VERDICTS = ("holds", "fails", "undecided")
NOT_RECORDED = "not recorded"
FIGURE = "figure.png"
SIZES = ("tiny", "default", "paper")
_PNG = b"\x89PNG\r\n\x1a\n"


class Picture(NamedTuple):
    """A picture of an experiment.

    Attributes:
      name: of the experiment's; the first is its `figure`.
      path: the PNG file.
      width, height: in pixels.
    """

    name: str
    path: Path
    width: int
    height: int


class Result(NamedTuple):
    """A finished experiment.

    Attributes:
      folder: where it is; of a kept result only its name.
      size: `"tiny"`, `"default"` or `"paper"`.
      verdicts: one per claim.
      pictures: sorted by name.
      seconds: the sum over its runs; None where one of them does not say it.
      machines: what its runs ran on, each once.
    """

    folder: Path
    size: str
    verdicts: tuple[Verdict, ...]
    pictures: tuple[Picture, ...]
    seconds: float | None
    machines: tuple[str, ...]


def folder_name(name: str, size: str) -> str:
    """Name of an experiment's folder among the runs."""
    return name if size == "default" else f"{name}-{size}"


def is_finished(folder: Path) -> bool:
    """Whether an experiment's folder has its figure, and verdicts that can be read."""
    try:
        return bool(_verdicts(folder)) and (folder / FIGURE).exists()
    except ValueError:
        return False


def read_result(folder: Path) -> Result | None:
    """The experiment of a folder, None while it is not finished.

    Raises:
      ValueError: its verdicts or one of its pictures cannot be read, or there is no figure;
        names the file.
    """
    if not (folder / "verdict.json").exists():
        return None
    records = _verdicts(folder)
    if not (folder / FIGURE).exists():
        raise ValueError(f"{folder / FIGURE} is missing; the experiment's command draws it")
    verdicts = tuple(map(as_verdict, records))
    pictures = tuple(read_picture(p.stem, p) for p in sorted(folder.glob("*.png")))
    runs = sorted(path.parent for path in folder.glob("*/DONE"))
    return Result(
        folder,
        records[0]["size"],
        verdicts,
        pictures,
        _total([read_seconds(run) for run in runs]),
        tuple(dict.fromkeys(_machine(run / "environment.json") for run in runs)),
    )


def as_verdict(record: Mapping[str, Any]) -> Verdict:
    """A verdict from its record; older ones say nothing of the paper."""
    fields = {**Verdict._field_defaults, **record}
    return Verdict(*(fields[name] for name in Verdict._fields))


def are_verdicts(records: Any) -> bool:
    """Whether these are records of verdicts, one at least, every field of its type."""
    texts = ("claim", "verdict", "measured", "expected")
    return (
        isinstance(records, list)
        and bool(records)
        and all(
            isinstance(record, dict)
            and all(isinstance(record.get(text), str) for text in texts)
            and isinstance(record.get("paper", ""), str)
            and isinstance(record.get("seeds"), list)
            and all(isinstance(seed, int) for seed in record["seeds"])
            and record["verdict"] in VERDICTS
            for record in records
        )
    )


def is_time(seconds: Any) -> bool:
    """Whether this is a number of seconds, or None for a time that is not recorded."""
    return seconds is None or (
        isinstance(seconds, int | float) and math.isfinite(seconds) and seconds >= 0
    )


def seconds_so_far(folder: Path) -> float:
    """What the runs of an experiment took so far, of those that say it."""
    return sum(read_seconds(path.parent) or 0.0 for path in folder.glob("*/config.json"))


def counts(results: list[Result]) -> Counter[str]:
    """How many claims hold, fail and are undecided."""
    return Counter(verdict.verdict for result in results for verdict in result.verdicts)


def _verdicts(folder: Path) -> list[dict[str, Any]]:
    path = folder / "verdict.json"
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read") from error
    if not are_verdicts(records) or any(record.get("size") not in SIZES for record in records):
        raise ValueError(f"{path} holds no list of verdicts, each one of {', '.join(VERDICTS)}")
    return records


def read_picture(name: str, path: Path) -> Picture:
    """A picture and its size; ValueError where the file is missing or no PNG."""
    if not path.exists():
        raise ValueError(f"{path} is missing")
    head = path.read_bytes()[:24]
    if len(head) < 24 or not head.startswith(_PNG):
        raise ValueError(f"{path} is no PNG picture")
    return Picture(name, path, *struct.unpack(">II", head[16:24]))


def _total(seconds: list[float | None]) -> float | None:
    known = [each for each in seconds if each is not None]
    return sum(known) if known and len(known) == len(seconds) else None


def _machine(path: Path) -> str:
    """Devices, cores and versions, in words that name no machine."""
    try:
        env = json.loads(path.read_text(encoding="utf-8"))
        devices = ", ".join(f"{count} {kind}" for kind, count in env["devices"].items())
        processor = f" of {env['processor']}" if env.get("processor") else ""
        return (
            f"{devices}, {env['cpus']} cores{processor}; jax {env['packages']['jax']}, "
            f"Python {env['python']}"
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return NOT_RECORDED
