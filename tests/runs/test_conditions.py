"""Conditions: what matches, and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpml.build import ConfigError
from lpml.runs import where

ROWS = [
    {"run": "a", "lr": 0.001, "bits": 8, "on": True, "mode": "none", "final.loss": math.nan},
    {"run": "b", "lr": 0.1, "bits": 8.0, "on": 1, "mode": None, "final.loss": 2.0},
    {"run": "c", "lr": "0.1", "bits": 16, "on": "true", "mode": "true", "final.loss": 3.0},
    {"run": "d", "lr": [1, 2], "on": False},
]


def kept(*conditions):
    return "".join(row["run"] for row in where(ROWS, conditions))


@pytest.mark.parametrize(
    ("condition", "runs"),
    [
        ("lr=1e-3", "a"),
        ("lr = 0.0010", "a"),
        ("lr=0.1", "bc"),  # the text reads like it
        ("lr='0.1'", "c"),
        ("lr=[1,2]", "d"),
        ("bits=8", "ab"),
        ("bits==8.0", "ab"),
        ("bits!=8", "cd"),  # d has no bits
        ("bits<16", "ab"),
        ("bits<=16", "abc"),
        ("bits>8", "c"),
        ("bits>=8", "abc"),
        ("on=true", "ac"),
        ("on=1", "b"),
        ("on<2", "b"),
        ("on=false", "d"),
        ("on!=false", "abc"),
        ("mode=none", "ab"),
        ("mode!=none", "cd"),
        ("final.loss=nan", "a"),
        ("final.loss<10", "bc"),
        ("final.loss!=nan", "bcd"),
        ("run=b", "b"),
        ("run=", ""),
        ("run!=", "abcd"),
    ],
)
def test_what_matches(condition, runs):
    assert kept(condition) == runs


def test_all_conditions_must_hold():
    assert kept("bits=8", "lr>0.01") == "b"
    assert kept() == "abcd"


@given(st.lists(st.integers() | st.floats(allow_nan=False)), st.floats(allow_nan=False))
def test_numbers_compare_as_numbers(values, wanted):
    table = [{"x": value} for value in [*values, wanted]]
    below = where(table, [f"x<{wanted!r}"])
    equal = where(table, [f"x={wanted!r}"])
    above = where(table, [f"x>{wanted!r}"])
    assert [row["x"] for row in below] == [v for v in values if v < wanted]
    assert [row["x"] for row in above] == [v for v in values if v > wanted]
    assert len(below) + len(equal) + len(above) == len(table)
    assert where(table, [f"x!={wanted!r}"]) == [row for row in table if row not in equal]


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("bit=8", "no run has the column 'bit'; did you mean 'bits'"),
        ("loss=1", "did you mean 'final.loss'"),
        ("zzzzz=1", "no run has the column 'zzzzz'$"),
        ("bits", "is not understood"),
        ("=8", "is not understood"),
        ("run<b", "needs a number behind <"),
        ("bits>", "needs a number behind >"),
    ],
)
def test_what_cannot_be_asked_is_refused(condition, words):
    with pytest.raises(ConfigError, match=words):
        where(ROWS, [condition])
