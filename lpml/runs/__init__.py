"""Finished runs as values and as a table; `python -m lpml.runs --help` for the command line.

Nothing here needs jax, so a table comes at once.
"""

from lpml.runs.conditions import where
from lpml.runs.folders import find
from lpml.runs.grouping import group
from lpml.runs.reading import rows
from lpml.runs.records import Paper, Point, Run, Verdict, judge, judge_mean, read_run
from lpml.runs.rendering import render, to_pandas
from lpml.runs.selection import columns, sort

__all__ = [
    "Paper",
    "Point",
    "Run",
    "Verdict",
    "columns",
    "find",
    "group",
    "judge",
    "judge_mean",
    "read_run",
    "render",
    "rows",
    "sort",
    "to_pandas",
    "where",
]
