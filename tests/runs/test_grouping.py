"""Means and spreads against exact arithmetic, and what is counted."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpml.build import ConfigError
from lpml.runs import group, rows

FINITE = st.floats(-1e300, 1e300)


def run(seed, loss=None, *, status="done", **settings):
    final = {} if loss is None else {"final.loss": loss}
    return {"run": f"r{seed}", "status": status, "seed": seed, **settings, **final}


@given(st.lists(FINITE, min_size=1, max_size=20))
def test_mean_and_spread_are_those_of_exact_arithmetic(values):
    (row,) = group([run(seed, value) for seed, value in enumerate(values)], over=["seed"])
    tolerance = 1e-14 * max(map(abs, values))
    assert row["final.loss"] == pytest.approx(statistics.mean(values), rel=1e-12, abs=tolerance)
    if len(values) == 1:
        assert row["final.loss.std"] is None
    else:
        wanted = statistics.stdev(values)  # in fractions; numpy's underflows
        assert row["final.loss.std"] == pytest.approx(wanted, rel=1e-9, abs=tolerance)
    assert (row["final.loss.min"], row["final.loss.max"]) == (min(values), max(values))
    assert row["final.loss.min"] <= row["final.loss"] <= row["final.loss.max"]
    assert row["n"] == row["final.loss.n"] == len(values)


def test_huge_values_do_not_overflow():
    most = 1.7e308
    (row,) = group([run(1, most), run(2, most), run(3, most)], over=["seed"])
    assert (row["final.loss"], row["final.loss.std"]) == (most, 0.0)
    (row,) = group([run(1, most), run(2, -most)], over=["seed"])
    assert (row["final.loss"], row["final.loss.std"]) == (0.0, math.inf)


def test_equal_values_have_no_spread():
    (row,) = group([run(seed, 0.1) for seed in range(3)], over=["seed"])
    assert (row["final.loss"], row["final.loss.std"]) == (0.1, 0.0)


def test_tiny_values_keep_their_digits():
    (row,) = group([run(1, 5e-324), run(2, 5e-324)], over=["seed"])
    assert (row["final.loss"], row["final.loss.std"]) == (5e-324, 0.0)


def test_runs_equal_in_all_else_are_joined(sweep):
    narrow, wide, sgd = group(rows(sweep), over=["seed"])
    assert (narrow["optim.bits"], wide["optim.bits"]) == (4, 16)
    assert wide["seed"] == [1, 2, 3]
    assert wide["final.loss"] == pytest.approx(2 / 16)
    assert wide["final.loss.std"] == pytest.approx(1 / 16)
    assert wide["runs"] == ["bits=16,seed=1", "bits=16,seed=2", "bits=16,seed=3"]
    assert "optim.bits" not in sgd
    assert "data.dir" not in wide


def test_unfinished_runs_are_counted_and_not_averaged(sweep):
    narrow = group(rows(sweep), over=["seed"])[0]
    assert (narrow["n"], narrow["unfinished"], narrow["damaged"]) == (2, 1, 0)
    assert narrow["final.loss"] == pytest.approx((1 / 4 + 3 / 4) / 2)


@pytest.mark.parametrize("lost", [math.nan, math.inf, None, "word", [1.0], 10**400])
def test_a_value_that_is_no_finite_number_is_left_out_and_counted(lost):
    (row,) = group([run(1, 2.0), run(2, lost), run(3, 4.0)], over=["seed"])
    assert (row["final.loss"], row["n"], row["final.loss.n"]) == (3.0, 3, 2)


def test_truth_values_are_averaged_as_shares():
    (row,) = group([run(1, True), run(2, False)], over=["seed"])
    assert row["final.loss"] == 0.5


def test_a_group_without_finished_runs_is_shown():
    (row,) = group([run(1, 2.0, status="unfinished")], over=["seed"])
    assert (row["n"], row["unfinished"]) == (0, 1)
    assert row["final.loss"] is None


def test_damaged_runs_are_kept_with_their_problems(make, sweep):
    (make("torn") / "config.json").write_text("{")
    (sweep / "bits=16,seed=1" / "DONE").write_text("{")
    joined = group(rows(sweep), over=["seed"])
    by_bits = {row.get("optim.bits"): row for row in joined if row.get("optim.name") != "sgd"}
    assert (by_bits[16]["n"], by_bits[16]["damaged"]) == (2, 1)
    assert by_bits[16]["problem"].startswith("bits=16,seed=1: DONE is no JSON object")
    assert (by_bits[None]["n"], by_bits[None]["damaged"]) == (0, 1)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), FINITE), max_size=20))
def test_every_run_is_in_one_group(points):
    table = [run(seed, loss, bits=bits) for seed, bits, loss in points]
    joined = group(table, over=["seed"]) if table else []
    assert sum(row["n"] for row in joined) == len(table)
    assert [row["bits"] for row in joined] == list(dict.fromkeys(bits for _, bits, _ in points))


def test_whole_numbers_group_with_equal_floats_but_not_with_truth_values():
    table = [run(1, 1.0, bits=8), run(2, 2.0, bits=8.0), run(3, 3.0, bits=True)]
    assert [row["n"] for row in group(table, over=["seed"])] == [2, 1]


def test_several_keys_and_patterns(sweep):
    joined = group(rows(sweep), over=["seed", "optim.b*"])
    assert [row["n"] for row in joined] == [5, 1]
    assert joined[0]["optim.bits"] == [4, 16]


@pytest.mark.parametrize(
    ("key", "words"),
    [("sed", "did you mean 'seed'"), ("status", "no setting"), ("final.loss", "no setting")],
)
def test_what_is_no_setting_is_refused(sweep, key, words):
    with pytest.raises(ConfigError, match=words):
        group(rows(sweep), over=[key])
