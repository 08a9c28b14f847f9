"""Results kept in the repository, so that the pages outlive the folders of the runs."""

import json
from collections.abc import Mapping
from pathlib import Path

from lpml.book.results import (
    SIZES,
    VERDICTS,
    Result,
    are_verdicts,
    as_verdict,
    is_time,
    read_picture,
)
from lpml.training.run_folder import write_json

KEPT = "results"


def keep(result: Result, docs: Path, pictures: Mapping[str, str]) -> None:
    """Writes `results/NAME.json` beside the pages: verdicts, time and machine of a result.

    Args:
      result: of an experiment's folder.
      docs: folder of the pages.
      pictures: files in `docs/pictures`, by the pictures' names.
    """
    folder = docs / KEPT
    folder.mkdir(exist_ok=True)
    record = {
        "size": result.size,
        "verdicts": [verdict._asdict() for verdict in result.verdicts],
        "pictures": dict(pictures),
        "seconds": result.seconds,
        "machines": list(result.machines),
    }
    write_json(folder / f"{result.folder.name}.json", record)


def read_kept(name: str, docs: Path) -> Result | None:
    """The result of that name as it was kept, None where there is none.

    Raises:
      ValueError: its file cannot be read; names it.
    """
    path = docs / KEPT / f"{name}.json"
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not are_verdicts(record["verdicts"]):
            raise ValueError(f"it holds no list of verdicts, each one of {', '.join(VERDICTS)}")
        size, seconds, machines = record["size"], record["seconds"], record["machines"]
        if size not in SIZES:
            raise ValueError(f"{size!r} is none of the sizes {', '.join(SIZES)}")
        if not is_time(seconds):
            raise ValueError(f"{seconds!r} is no number of seconds")
        if not isinstance(machines, list):
            raise ValueError("its machines are no list")
        return Result(
            Path(name),
            size,
            tuple(map(as_verdict, record["verdicts"])),
            tuple(
                read_picture(each, docs / "pictures" / file)
                for each, file in record["pictures"].items()
            ),
            None if seconds is None else float(seconds),
            tuple(map(str, machines)),
        )
    except KeyError as error:
        raise ValueError(f"{path} cannot be read (it has no {error})") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from error
