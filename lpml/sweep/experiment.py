"""Running an experiment: its points, its pictures, its verdicts."""

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from lpml.runs import Point, Run, Verdict, read_run
from lpml.sweep.serial import run_points
from lpml.training.events import EventWriter
from lpml.training.loop import RunFailed

DPI = 130


def run_experiment(
    module: ModuleType,
    folder: str,
    *,
    size: str,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Verdict]:
    """Runs what the experiment needs in `folder`, draws it and judges its claims.

    Writes `figure.png` and further pictures, `results.csv`, `verdict.json` and an event file
    with the pictures.

    Args:
      module: a file of `experiments`: `runs(size) -> list[Point]`, `load(runs) -> data`,
        `draw(data) -> {name: matplotlib Figure}`, `check(data, size) -> list[Verdict]`.
      folder: the experiment's folder; points run in `folder/<point name>`.
      size: `"tiny"`, `"default"` or `"paper"`.
      should_stop: True saves the run under way and raises `Stopped`.

    Raises:
      RunFailed: runs failed; all are named, and `results.csv` holds those that did not.
    """
    points = module.runs(size)
    outcomes = run_points(points, folder, should_stop=should_stop)
    runs = {point.name: read_run(os.path.join(folder, point.name)) for point in points}
    rows = table(points, runs)
    failed = [f"{o.point.name}: {o.failure}" for o in outcomes if o.failure is not None]
    if failed:
        _write_csv(folder, rows)
        raise RunFailed(
            f"{len(failed)} of {len(points)} runs failed ({'; '.join(failed)}), so there is no "
            f"verdict; {folder}/results.csv has the rest, and the same command tries them again"
        )
    data = module.load(runs)
    pictures = {name: to_png(figure) for name, figure in module.draw(data).items()}
    verdicts = module.check(data, size)
    publish(folder, pictures, rows, verdicts, size=size)
    return verdicts


def publish(
    folder: str,
    pictures: Mapping[str, bytes],
    rows: Sequence[Mapping[str, Any]],
    verdicts: Sequence[Verdict],
    *,
    size: str,
) -> None:
    """Writes an experiment's results into its folder, each file whole or not at all."""
    for name, png in pictures.items():
        _replace(os.path.join(folder, f"{name}.png"), png)
    _write_csv(folder, rows)
    records = [{**verdict._asdict(), "size": size} for verdict in verdicts]
    _replace(os.path.join(folder, "verdict.json"), json.dumps(records, indent=2).encode())
    for old in os.listdir(folder):
        if old.startswith("events.out.tfevents"):
            os.remove(os.path.join(folder, old))
    with EventWriter(folder) as events:
        for name, png in pictures.items():
            events.image(name, png)
        events.text("verdicts", as_markdown(verdicts))


def table(points: Sequence[Point], runs: Mapping[str, Run]) -> list[dict[str, Any]]:
    """One row per point: its name, optimizer, bits, seed and final metrics."""
    rows = []
    for point in points:
        run = runs[point.name]
        optim = run.config["optim"]
        final = run.final if run.final is not None else (run.metrics or [{}])[-1]
        numbers = {k: v for k, v in final.items() if k != "step"}
        rows.append(
            {
                "run": point.name,
                "optim.name": optim["name"],
                "optim.bits": optim.get("bits"),
                "seed": run.config["seed"],
                **{k: v for k, v in point.overrides.items() if k not in ("seed", "optim.bits")},
                "finished": run.final is not None,
                **numbers,
            }
        )
    return rows


def as_markdown(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as a Markdown table."""
    head = (
        "| verdict | claim | measured | expected | seeds |\n| --- | --- | --- | --- | --- |\n"
    )
    return head + "\n".join(
        f"| **{v.verdict}** | {v.claim} | {v.measured} | {v.expected} | "
        f"{', '.join(map(str, v.seeds))} |"
        for v in verdicts
    )


def _write_csv(folder, rows):
    buffer = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(buffer, columns)
    writer.writeheader()
    writer.writerows(rows)
    _replace(os.path.join(folder, "results.csv"), buffer.getvalue().encode())


def to_png(figure: Any) -> bytes:
    """A matplotlib figure as PNG bytes, without anything that changes from day to day."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _replace(path, content):
    temporary = path + ".part"
    with open(temporary, "wb") as file:
        file.write(content)
    os.replace(temporary, path)
