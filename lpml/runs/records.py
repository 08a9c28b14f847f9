"""Runs as values: what to run, and what finished run folders say."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from lpml.training.metrics_log import read

if TYPE_CHECKING:
    import numpy as np


class Point(NamedTuple):
    """One run to be made.

    Attributes:
      name: its folder's name, unique among its siblings.
      config: path of a config file with its variant, `configs/x.py:tiny`.
      overrides: dotted config keys and their values.
    """

    name: str
    config: str
    overrides: Mapping[str, Any] = {}


class Run(NamedTuple):
    """One run folder, read back.

    Attributes:
      path: the folder.
      config: the resolved config, nested dicts.
      metrics: one dict per line of the log, ascending in `step`.
      final: the metrics of the DONE mark; None while the run is not finished.
    """

    path: str
    config: dict[str, Any]
    metrics: list[dict[str, Any]]
    final: dict[str, float] | None

    def series(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of a metric, float64; non-finite values are NaN."""
        import numpy as np  # here, because the table of runs is to come at once without it

        rows = [(line["step"], line[name]) for line in self.metrics if name in line]
        steps, values = zip(*rows) if rows else ((), ())
        return np.asarray(steps, float), np.asarray(values, float)

    def environment(self) -> dict[str, Any]:
        """What the run ran on, and `bytes` of its `parameters` and of its `optimizer`'s state.

        Raises:
          OSError, ValueError: environment.json is missing or torn.
        """
        path = os.path.join(self.path, "environment.json")
        with open(path, encoding="utf-8") as file:
            return dict(json.load(file))


class Paper(NamedTuple):
    """A paper that experiments reproduce figures of.

    Attributes:
      title: as printed.
      authors: all of them, separated by commas.
      venue: where and when it came out; for a preprint the year of its first version.
      arxiv: its number there, `2002.09018`; empty where it has none.
    """

    title: str
    authors: str
    venue: str
    arxiv: str = ""


class Verdict(NamedTuple):
    """What an experiment says of one claim.

    Attributes:
      claim: a sentence.
      verdict: `"holds"`, `"fails"` or `"undecided"`.
      measured: the numbers seen, in words.
      expected: the numbers wanted, in words: what decides the verdict.
      seeds: seeds the numbers come from.
      paper: the paper's own number, in words, with its unit and setting; empty where the claim
        is not the paper's or its number is not known.
    """

    claim: str
    verdict: str
    measured: str
    expected: str
    seeds: list[int]
    paper: str = ""


def judge(
    claim: str, outcomes: Mapping[int, bool], *, measured: str, expected: str, paper: str = ""
) -> Verdict:
    """A verdict from one outcome per seed: all, none, or (undecided) some of them."""
    seen = set(outcomes.values())
    word = "holds" if seen == {True} else "fails" if seen == {False} else "undecided"
    return Verdict(claim, word, measured, expected, sorted(outcomes), paper)


def judge_mean(
    claim: str,
    values: Mapping[int, float],
    *,
    above: float = -math.inf,
    below: float = math.inf,
    unit: str = "",
    paper: str = "",
) -> Verdict:
    """A verdict on a mean over seeds: by its 95 % confidence interval (Student's t).

    It holds where the whole interval lies between `above` and `below`, fails where the whole
    interval lies outside, and is undecided where the interval holds a bound.

    Args:
      claim: a sentence.
      values: one per seed, at least two, best of paired differences: noise that seeds share
        then drops out.
      above: lower bound of the claim.
      below: upper bound of the claim.
      unit: behind the numbers, such as " points".
      paper: the paper's own number, see `Verdict`.
    """
    from scipy.stats import t  # here, because the table of runs is to come at once without it

    numbers = list(values.values())
    mean = statistics.fmean(numbers)
    error = statistics.stdev(numbers) / math.sqrt(len(numbers))
    reach = float(t.ppf(0.975, len(numbers) - 1)) * error
    low, high = mean - reach, mean + reach
    word = "undecided"
    if above < low and high < below:
        word = "holds"
    elif high < above or below < low:
        word = "fails"
    measured = f"mean {mean:.3g}{unit}, 95 % within {low:.3g}{unit} to {high:.3g}{unit}"
    bounds = {"above": above, "below": below}
    expected = [f"{name} {x:g}{unit}" for name, x in bounds.items() if math.isfinite(x)]
    return Verdict(claim, word, measured, " and ".join(expected), sorted(values), paper)


def read_run(path: str) -> Run:
    """Reads a run folder, finished or not.

    Raises:
      ValueError: the folder holds no run.
    """
    try:
        with open(os.path.join(path, "config.json")) as file:
            config = json.load(file)
    except OSError as error:
        raise ValueError(f"{path} holds no run: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds a config.json that is no JSON object")
    log = os.path.join(path, "metrics.jsonl")
    metrics = read(log) if os.path.exists(log) else []
    final = None
    if os.path.exists(os.path.join(path, "DONE")):
        with open(os.path.join(path, "DONE")) as file:
            final = json.load(file)
    return Run(path, config, metrics, final)
