"""Text forms of a table."""

import csv
import importlib.util
import io
import json
import math
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpml.build import ConfigError
from lpml.runs import render, to_pandas

THIRD = 1 / 3
ROWS = [
    {"run": "a|b", "bits": 8, "mu": None, "final.loss": THIRD, "final.loss.std": None},
    {"run": "two\nlines", "mu": [1, 0.25], "on": True, "final.loss": math.nan},
]


def test_a_table_is_aligned_with_four_digits():
    assert render(ROWS).splitlines() == [
        "run           bits  mu      final.loss  final.loss.std  on",
        "a|b              8  none        0.3333  -               -",
        '"two\\nlines"     -  1,0.25         nan  -               true',
    ]


def test_whole_numbers_are_written_out():
    assert render([{"step": 1_000_000}]) == "   step\n1000000\n"


def test_markdown_escapes_what_divides_cells():
    assert render(ROWS[:1], "markdown", columns=["run", "final.loss"]) == (
        "| run | final.loss |\n| --- | --- |\n| a\\|b | 0.3333 |\n"
    )


@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_csv_and_json_keep_every_digit(values):
    table = [{"x": value} for value in values]
    read = [float(row["x"]) for row in csv.DictReader(io.StringIO(render(table, "csv")))]
    assert read == values
    finite = [v if math.isfinite(v) else None for v in values]
    assert [row["x"] for row in json.loads(render(table, "json"))] == finite


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",))), min_size=1))
def test_csv_and_json_keep_every_text(values):
    table = [{"y": 1, "x": value} for value in values]
    lines = csv.DictReader(io.StringIO(render(table, "csv"), newline=""))
    assert [row["x"] for row in lines] == values
    assert [row["x"] for row in json.loads(render(table, "json"))] == values


def test_csv_of_what_is_no_number():
    assert render(ROWS, "csv").splitlines()[1] == f"a|b,8,,{THIRD!r},,"
    assert render(ROWS[1:], "csv", columns=["mu", "final.loss", "bits"]) == (
        'mu,final.loss,bits\n"[1, 0.25]",nan,\n'
    )


def test_json_has_null_for_what_is_missing_or_not_finite():
    columns = ["final.loss", "bits", "mu"]
    assert json.loads(render(ROWS, "json", columns=columns)) == [
        {"final.loss": THIRD, "bits": 8, "mu": None},
        {"final.loss": None, "bits": None, "mu": [1, 0.25]},
    ]


def test_an_unknown_format_is_refused():
    with pytest.raises(ConfigError, match="'cvs' does not exist; did you mean 'csv'"):
        render(ROWS, "cvs")


def test_without_pandas_a_data_frame_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        to_pandas(ROWS)


def test_a_data_frame_has_a_column_for_every_key(monkeypatch):
    if importlib.util.find_spec("pandas") is None:
        stand_in = types.ModuleType("pandas")
        stand_in.DataFrame = lambda rows, columns: types.SimpleNamespace(
            columns=columns, to_dict=lambda _: rows
        )
        monkeypatch.setitem(sys.modules, "pandas", stand_in)
    frame = to_pandas(ROWS)
    assert list(frame.columns) == ["run", "bits", "mu", "final.loss", "final.loss.std", "on"]
    assert frame.to_dict("records")[0]["final.loss"] == THIRD
