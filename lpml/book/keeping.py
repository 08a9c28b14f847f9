"""Results kept in the repository, so that the pages outlive the folders of the runs."""

import json
from collections.abc import Mapping
from pathlib import Path

from lpml.book.results import VERDICTS, Result, as_verdict, read_picture
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
        verdicts = tuple(map(as_verdict, record["verdicts"]))
        if not verdicts or any(verdict.verdict not in VERDICTS for verdict in verdicts):
            raise ValueError("no verdicts")
        seconds = record["seconds"]
        return Result(
            Path(name),
            str(record["size"]),
            verdicts,
            tuple(
                read_picture(each, docs / "pictures" / file)
                for each, file in record["pictures"].items()
            ),
            None if seconds is None else float(seconds),
            tuple(map(str, record["machines"])),
        )
    except KeyError as error:
        raise ValueError(f"{path} cannot be read (it has no {error})") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from error
