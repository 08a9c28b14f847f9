"""Typed words as values, equality and order of cells."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpml.runs.cells import literal, natural, rank, token

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", 8),
        ("-8.5", -8.5),
        ("1e-3", 0.001),
        ("inf", math.inf),
        ("true", True),
        ("False", False),
        ("none", None),
        ("null", None),
        ("halp", "halp"),
        ("'8'", "8"),
        ('"true"', "true"),
        ("[1, true]", [1, True]),
        ("(1, 2)", [1, 2]),
        ("{'a': None}", {"a": None}),
        ("", ""),
        ("[1", "[1"),
        ("1+2j", "1+2j"),
        ("a=b", "a=b"),
    ],
)
def test_a_word_is_what_it_reads_like(text, value):
    assert literal(text) == value
    assert type(literal(text)) is type(value)


@given(st.text())
def test_every_text_has_a_value(text):
    literal(text)
    for bracket in "([{'\"":
        literal(bracket + text)


@pytest.mark.parametrize(("left", "right"), [(8, 8.0), (math.nan, math.nan), ([1], [1])])
def test_equal_cells_have_equal_tokens(left, right):
    assert token(left) == token(right)
    assert hash(token(left)) == hash(token(right))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, True),
        (0, False),
        ("1", 1),
        (None, "null"),
        (math.nan, "nan"),
        ([1], [2]),
        ("", None),
    ],
)
def test_unequal_cells_have_unequal_tokens(left, right):
    assert token(left) != token(right)


@given(st.lists(st.integers(0, 10**9) | st.floats(0, 1e9), max_size=8))
def test_names_sort_by_the_numbers_in_them(numbers):
    written = [f"optim.bits={number}" for number in sorted(numbers)]
    by_name = sorted(written, key=natural)
    assert [float(n.partition("=")[2]) for n in by_name] == sorted(map(float, numbers))


@pytest.mark.parametrize(
    "ascending",
    [
        ["lr=1e-4", "lr=0.05", "lr=0.1"],
        ["mu=-2", "mu=-1", "mu=3"],
        ["v1.2", "v1.10"],
        ["a", "a1", "a2", "a10", "b"],
    ],
)
def test_names_in_natural_order(ascending):
    names = ascending[::-1]
    names.sort(key=natural)
    assert names == ascending


@given(st.lists(st.text("a1=-.e0", max_size=6), max_size=6))
def test_any_names_have_an_order(names):
    ordered = sorted(names, key=natural)
    assert sorted(ordered) == sorted(names)


@given(st.lists(JSON, max_size=6))
def test_cells_of_any_kind_have_an_order(values):
    ranks = [rank(value) for value in values]
    assert len(sorted(r for r in ranks if r is not None)) == sum(v is not None for v in values)
