"""Axes as written on a command line, against itertools, numpy and Python's own literals."""

import ast

import numpy as np
import pytest

from lpml.build import ConfigError
from lpml.sweep.axes import parse_axes


def axis(text):
    ((only,),) = parse_axes([text])
    return only


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("optim.bits=2,4,8", (2, 4, 8)),
        ("k= 2 , 4 ", (2, 4)),
        ("k=1.5", (1.5,)),
        ("k=-3,1e-4", (-3, 1e-4)),
        ("k=auto,leaf", ("auto", "leaf")),
        ("k='a,b',\"c&d\"", ("a,b", "c&d")),
        ("k=(64,),(32,32)", ((64,), (32, 32))),
        ("k=[1,[2,3]],[]", ([1, [2, 3]], [])),
        ('k={"name":"sgd","learning_rate":0.1},{"name":"x"}', None),
        ("k=None,True,true,false", (None, True, True, False)),
        ("k=data/mnist", ("data/mnist",)),
        ("seed=0:3,10", (0, 1, 2, 10)),
    ],
)
def test_a_list_holds_literals_and_words(text, values):
    read = axis(text)
    if values is None:
        values = ast.literal_eval(f"({text.partition('=')[2]})")
    assert read.values == values
    assert list(map(type, read.values)) == list(map(type, values))
    assert (read.kind, read.low, read.high) == ("list", None, None)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("0:5", range(5)), ("3:10:3", range(3, 10, 3)), ("5:0:-2", range(5, 0, -2))],
)
def test_a_range_is_pythons(text, wanted):
    read = axis(f"seed={text}")
    assert read.values == tuple(wanted)
    assert (read.kind, read.low, read.high) == ("range", min(wanted), max(wanted))


@pytest.mark.parametrize(("low", "high", "count"), [(1e-4, 1e-1, 7), (0.3, 0.02, 5), (1, 2, 2)])
def test_log_is_geometric_with_both_ends(low, high, count):
    read = axis(f"optim.learning_rate=log({low},{high},{count})")
    np.testing.assert_allclose(read.values, np.geomspace(low, high, count), rtol=5e-6)
    assert (read.values[0], read.values[-1]) == (low, high)
    assert (read.kind, read.low, read.high) == ("log", min(low, high), max(low, high))
    assert all(float(f"{value:.6g}") == value for value in read.values)


def test_linear_is_even_with_both_ends():
    read = axis("k=linear(0,1,5)")
    assert read.values == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert (read.kind, read.low, read.high) == ("linear", 0.0, 1.0)


def test_whole_ends_with_whole_values_stay_whole():
    values = axis("train.steps=log(100,10000,3)").values
    assert values == (100, 1000, 10000)
    assert {type(value) for value in values} == {int}
    assert {type(value) for value in axis("k=linear(1.0,3,3)").values} == {float}


def test_axes_joined_by_and_stay_together():
    (group,) = parse_axes(["optim.bits=4,8 & optim.mu=2.0,4.0"])
    assert [(one.key, one.values) for one in group] == [
        ("optim.bits", (4, 8)),
        ("optim.mu", (2.0, 4.0)),
    ]


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["optim.bits"], "--axis=optim.bits is not understood; write"),
        (["=3"], "is not understood"),
        (["a b=3"], "is not understood"),
        (["k="], "has an empty value"),
        (["k=4,,8"], "has an empty value"),
        (["k=(1,2"], "lacks a closing )"),
        (["k=1)"], "the bracket ) opens nowhere"),
        (["k=(1]"], "the bracket ] opens nowhere"),
        (["k='a"], "lacks a closing '"),
        (["k={'a'}x"], "neither a Python literal nor a word"),
        (["k=3:3"], "has no values: 3:3 stops before 3"),
        (["k=0:3:0"], "step of 0"),
        (["k=0:900000"], "has 900000 values"),
        (["k=log(0,1,3)"], "two positive numbers"),
        (["k=log(1,2)"], "two positive numbers and how many"),
        (["k=log(1,2,1)"], "at least 2"),
        (["k=log(1,2,3.0)"], "at least 2"),
        (["k=linear(a,2,3)"], "two numbers"),
        (["k=linear(0,1e999,3)"], "two numbers"),
        (["k=log(1,2,9000000)"], "has 9000000 values"),
        (["k=1,2 & l=1,2,3"], "k 2 and l 3 values"),
        (["k=1 & k=2"], "k is an axis already"),
        (["k=1", "l=1", "k=2"], "k is an axis already"),
        (["k=1 &"], "is not understood"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(texts, words):
    with pytest.raises(ConfigError) as caught:
        parse_axes(texts)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
