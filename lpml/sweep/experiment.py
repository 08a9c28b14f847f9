"""Running an experiment: its points, its pictures, its verdicts."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from lpml.build import ConfigError
from lpml.runs import Point, Run, Verdict, read_run, render
from lpml.sweep.jobs import Engine
from lpml.sweep.points import run_points
from lpml.sweep.publishing import replace, to_png, write_events
from lpml.sweep.vectorised import run_vectorised
from lpml.training.loop import RunFailed


def run_experiment(
    module: ModuleType,
    folder: str,
    *,
    size: str,
    engine: Engine = run_vectorised,
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
      engine: runs the points.
      should_stop: True saves the run under way and raises `Stopped`.

    Raises:
      ConfigError: the folder holds a single run or a sweep.
      RunFailed: runs failed; all are named, and `results.csv` holds those that did not.
    """
    for mark, what in (("config.json", "a single run"), ("sweep.json", "a sweep")):
        if os.path.exists(os.path.join(folder, mark)):
            raise ConfigError(f"{folder} holds {what}; give the experiment another --workdir")
    os.makedirs(folder, exist_ok=True)
    points = module.runs(size)
    outcomes = run_points(points, folder, engine=engine, should_stop=should_stop)
    failed = [f"{o.name}: {o.failure}" for o in outcomes if o.failure is not None]
    runs = {}
    for point, outcome in zip(points, outcomes):
        try:
            runs[point.name] = read_run(os.path.join(folder, point.name))
        except ValueError:
            if outcome.failure is None:
                raise
    rows = table([point for point in points if point.name in runs], runs)
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
        replace(os.path.join(folder, f"{name}.png"), png)
    _write_csv(folder, rows)
    records = [{**verdict._asdict(), "size": size} for verdict in verdicts]
    replace(os.path.join(folder, "verdict.json"), json.dumps(records, indent=2).encode())
    write_events(folder, pictures, {"verdicts": as_markdown(verdicts)})


def table(points: Sequence[Point], runs: Mapping[str, Run]) -> list[dict[str, Any]]:
    """One row per point: its name, optimizer and bits if it trains, seed, final metrics.

    All rows have all columns, None where there is nothing; the metrics come last and sorted,
    because engines finish points in different orders and with metrics in different orders.
    """
    settings, metrics = [], []
    for point in points:
        run = runs[point.name]
        optim = run.config.get("optim", {})
        trained = {f"optim.{key}": optim.get(key) for key in ("name", "bits") if optim}
        final = run.final if run.final is not None else (run.metrics or [{}])[-1]
        metrics.append({k: v for k, v in final.items() if k != "step"})
        settings.append(
            {
                "run": point.name,
                **trained,
                "seed": run.config["seed"],
                **{k: v for k, v in point.overrides.items() if k not in ("seed", "optim.bits")},
                "finished": run.final is not None,
            }
        )
    columns = list(dict.fromkeys(key for row in settings for key in row))
    columns += sorted({key for row in metrics for key in row}.difference(columns))
    return [
        {key: {**numbers, **row}.get(key) for key in columns}
        for row, numbers in zip(settings, metrics)
    ]


def as_markdown(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as a Markdown table."""
    head = (
        "| verdict | claim | measured | expected | the paper | seeds |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
    )
    return head + "\n".join(
        f"| **{v.verdict}** | {v.claim} | {v.measured} | {v.expected} | {v.paper} | "
        f"{', '.join(map(str, v.seeds))} |"
        for v in verdicts
    )


def _write_csv(folder, rows):
    replace(os.path.join(folder, "results.csv"), render(rows, "csv").encode())
