"""What a sweep came to: a row per point, and a row per setting with its spread over seeds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lpml.config import plain
from lpml.runs import group, render, rows, sort
from lpml.sweep.jobs import Job
from lpml.sweep.metrics import Metric
from lpml.sweep.publishing import replace, to_png, write_events
from lpml.sweep.space import VARIANT, word
from lpml.training.assemble import own_default
from lpml.training.recording import flatten

Row = dict[str, Any]
SEED = "seed"
COUNTS = ("not_finite", "failed", "unfinished")


class Summary(NamedTuple):
    """A sweep's tables, whatever state its points are in.

    Attributes:
      metric: what settings are compared by.
      base: what a setting is called that no key tells apart: the usual optimizer.
      keys: dotted keys that the points set, `seed` among them.
      points: one row per point: `run`, `status` (done, failed, unfinished), the keys,
        `problem` and, of those that are done, `final.<metric>`.
      settings: one row per setting, best first: the keys but `seed`, `n` (points with a finite
        metric), `final.<metric>` (their mean) with `.std`, `.min`, `.max`, and COUNTS.
    """

    metric: Metric
    base: str
    keys: list[str]
    points: list[Row]
    settings: list[Row]

    def count(self, status: str) -> int:
        """How many points are in this status."""
        return sum(row["status"] == status for row in self.points)

    def table(self, form: str = "table") -> str:
        """The settings as a table to read (`table`, `markdown`)."""
        named = dict(zip(_spread(f"final.{self.metric.name}"), self._short()))
        counts = [key for key in COUNTS if any(row[key] for row in self.settings)]
        shown = [
            {
                named.get(key, key): word(value) if isinstance(value, (dict, list)) else value
                for key, value in row.items()
                if value is not None or key in self.keys
            }
            for row in self.settings
        ]
        return render(shown, form, columns=[*self._swept(), "n", *self._short(), *counts])

    def publish(self, folder: str, title: str) -> None:
        """Writes summary.csv, points.csv, summary.png and TensorBoard's copy of them."""
        from lpml.sweep.drawing import draw  # matplotlib, which single runs do not wait for

        columns = [*self._swept(), "n", *_spread(f"final.{self.metric.name}"), *COUNTS]
        text = render(self.settings, "csv", columns=columns)
        replace(os.path.join(folder, "summary.csv"), text.encode())
        metrics = sorted({k for row in self.points for k in row if k.startswith("final.")})
        columns = ["run", "status", "problem", *self.keys, *metrics]
        text = render(self.points, "csv", columns=columns)
        replace(os.path.join(folder, "points.csv"), text.encode())
        pictures = {}
        if any(row["n"] for row in self.settings):
            figure = draw(
                self.settings, self._swept(), self.metric, title=title, base=self.base
            )
            pictures["summary"] = to_png(figure)
            replace(os.path.join(folder, "summary.png"), pictures["summary"])
        words = f"{title}: {self.metric}\n\n{self.table('markdown')}"

        write_events(folder, pictures, {"table": words})

    def _short(self):
        return [self.metric.name, "std", "min", "max"]

    def _swept(self):
        return [key for key in self.keys if key != SEED]


def summarise(
    jobs: Sequence[Job],
    settings: Sequence[Mapping[str, Any]],
    metric: Metric,
    *,
    failures: Mapping[str, str],
) -> Summary:
    """Reads back every point of a sweep, whoever ran it.

    Args:
      jobs: all points.
      settings: of each, what sets it apart.
      metric: what to compare by.
      failures: reasons by name of point.
    """
    there = [job.folder for job in jobs if os.path.exists(job.folder)]
    found = {row["run"]: row for row in rows(there)}
    keys = list(dict.fromkeys(key for each in settings for key in each))
    points = [
        _point(job, _of(job, each, keys), found.get(job.folder, {}), failures.get(job.name))
        for job, each in zip(jobs, settings)
    ]
    name = f"final.{metric.name}"
    joined = group(points, over=[SEED] if SEED in keys else [])
    status = {row["run"]: row["status"] for row in points}
    made = [_setting(row, name, status) for row in joined]
    usual = [j.config for j, each in zip(jobs, settings) if VARIANT not in each]
    first = (usual or [jobs[0].config])[0]
    base = first["optim" if "optim" in first else "measurement"]["name"]
    made = sort(made, f"-{name}" if metric.higher else name)
    return Summary(metric, base, keys, points, made)


def _of(job, settings, keys):
    """A point's values of the keys: where it sets none of its own, those of its config."""
    flat = flatten(job.config)
    held = {key: flat[key] for key in keys if key in flat}
    held |= {key: own_default(job.config, key) for key in held if held[key] is None}
    return {
        key: plain({**held, **settings}[key]) for key in keys if key in {**held, **settings}
    }


def _point(job, settings, found, failure):
    done = found.get("status") == "done"
    row: Row = {"run": job.name, "status": "done" if done else "unfinished"}
    row |= settings
    if done:
        row |= {key: value for key, value in found.items() if key.startswith("final.")}
    elif failure is not None or found.get("status") in ("failed", "damaged"):
        row |= {"status": "failed", "problem": failure or found.get("problem")}
    return row


def _setting(joined, name, status):
    """A row of `group` as one of `Summary.settings`."""
    states = [status[run] for run in joined["runs"]]
    finite = joined.get(f"{name}.n", 0)
    return {
        **{key: value for key, value in joined.items() if not key.startswith("final.")},
        **{key: joined.get(key) for key in _spread(name)},
        "n": finite,
        "not_finite": states.count("done") - finite,
        "failed": states.count("failed"),
        "unfinished": states.count("unfinished"),
    }


def _spread(name):
    return [name, *(f"{name}.{part}" for part in ("std", "min", "max"))]
