"""Columns chosen, columns unasked, and the order of rows."""

import math

import pytest

from lpml.build import ConfigError
from lpml.runs import columns, group, rows, sort


def test_unasked_come_the_settings_that_differ_and_the_metrics(sweep):
    assert columns(rows(sweep)) == [
        *("run", "status", "seed", "optim.name", "optim.bits", "optim.mu", "final.loss")
    ]
    halp = [row for row in rows(sweep) if row["optim.name"] == "halp"]
    assert columns(halp) == ["run", "status", "seed", "optim.bits", "final.loss"]


def test_the_step_is_shown_where_runs_are_at_different_ones(make, tmp_path):
    make("a", lines=[{"step": 1}])
    make("b", done={"step": 9})
    assert columns(rows(tmp_path)) == ["run", "status", "final.step"]


def test_minor_metrics_are_shown_only_when_asked_for():
    table = [{"final.loss": 1, "final.batch_loss": 2, "final.halp/mu": 3, "final.batch_x": 4}]
    assert columns(table) == ["final.loss", "final.batch_x"]
    assert columns(table, ["final.h*"]) == ["final.halp/mu"]


def test_a_damaged_run_does_not_make_every_setting_differ(make, sweep):
    (make("torn") / "config.json").write_text("{")
    halp = [row for row in rows(sweep) if row.get("optim.name") != "sgd"]
    assert columns(halp) == [*("run", "status", "seed", "optim.bits", "final.loss", "problem")]


def test_unasked_columns_of_groups_tell_how_many_runs_they_are_of(sweep):
    joined = group(rows(sweep), over=["seed"])
    assert columns([row for row in joined if row["optim.name"] == "halp"]) == [
        *("optim.bits", "n", "unfinished", "final.loss", "final.loss.std")
    ]
    joined[0]["final.loss.n"] -= 1
    assert columns(joined)[-1] == "final.loss.n"
    joined[0]["damaged"] = 1
    assert "damaged" in columns(joined)


def test_names_and_patterns_in_the_order_asked_and_once():
    table = [{"run": "a", "final.b": 1}, {"final.a": 2, "x[1]": 3}]
    wanted = ["final.*", "run", "final.a", "x[1]"]
    assert columns(table, wanted) == ["final.b", "final.a", "run", "x[1]"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("rum", "'rum'; did you mean 'run'"), ("z*", "fits 'z\\*'"), ("", "column ''$")],
)
def test_an_unknown_column_is_refused(name, words):
    with pytest.raises(ConfigError, match=words):
        columns([{"run": "a"}], [name])


def test_a_known_column_may_be_absent_from_all_rows():
    assert columns([{"run": "a"}], ["bits"], known=["run", "bits"]) == ["bits"]


def test_rows_sort_by_numbers_then_words_and_nothing_comes_last():
    values = [3, "b10", None, "b9", math.nan, 1.5, True, -2]
    table = [*({"x": value, "i": i} for i, value in enumerate(values)), {"i": 8}]
    assert [row["i"] for row in sort(table, "x")] == [7, 5, 0, 3, 1, 6, 2, 4, 8]
    assert [row["i"] for row in sort(table, "-x")] == [6, 1, 3, 0, 5, 7, 2, 4, 8]


def test_sorting_keeps_the_order_of_equals():
    table = [{"x": x, "i": i} for i, x in enumerate([1, 0, 1.0, 0])]
    assert [row["i"] for row in sort(table, "x")] == [1, 3, 0, 2]
    assert [row["i"] for row in sort(table, "-x")] == [0, 2, 1, 3]


def test_sorting_by_an_unknown_column_is_refused():
    with pytest.raises(ConfigError, match=r"did you mean 'final\.loss'"):
        sort([{"final.loss": 1}], "-loss")
