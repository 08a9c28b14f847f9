"""From a config's sub-tree to an object, and the sentence for everything that is wrong."""

import inspect
import types
from collections.abc import Sequence
from typing import Literal

import jax
import pytest

from lpml.build import ConfigError, build, choices, fits, in_words, suggestion


class Thing:
    def __init__(self, **made_with):
        self.made_with = made_with


class Other(Thing):
    pass


def plate(size: int, *, colour: str = "white", depth: float = 1.0) -> Thing:
    """A thing."""
    if size < 1:
        raise ValueError(f"size = {size} must be at least 1")
    return Thing(size=size, colour=colour, depth=depth)


def bowl() -> Other:
    return Other()


def stone() -> int:
    return 1


KNOWN = {"plate": plate, "bowl": bowl}


def made(spec, **context):
    return build(KNOWN, spec, section="table", context=context)


def message(spec, **context):
    with pytest.raises(ConfigError) as caught:
        made(spec, **context)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_calls_the_function_that_is_named_with_the_rest():
    thing = made({"name": "plate", "size": 3, "colour": "red"})
    assert thing.made_with == dict(size=3, colour="red", depth=1.0)


def test_none_means_the_functions_own_default():
    assert made({"name": "plate", "size": 3, "colour": None}).made_with["colour"] == "white"


def test_the_context_fills_what_the_config_leaves_out_and_the_function_has():
    thing = made({"name": "plate", "colour": None}, size=5, colour="blue", unheard_of=1)
    assert thing.made_with == dict(size=5, colour="blue", depth=1.0)


def test_the_config_goes_before_the_context():
    assert made({"name": "plate", "size": 2}, size=5).made_with["size"] == 2


def test_a_context_of_none_fills_nothing():
    assert "needs a value for size" in message({"name": "plate"}, size=None)


def test_an_unknown_name_is_refused_with_the_list_and_the_nearest():
    text = message({"name": "plates"})
    assert "config.table.name = 'plates'" in text
    assert "did you mean 'plate'?" in text
    assert "choose from bowl, plate" in text


def test_a_name_like_nothing_is_refused_without_a_guess():
    assert "did you mean" not in message({"name": "zzzzzz"})


@pytest.mark.parametrize("spec", [{}, {"name": None}, {"name": 3}])
def test_a_name_that_is_none_is_refused(spec):
    assert "choose from bowl, plate" in message(spec)


def test_an_unknown_argument_is_refused_with_the_list_and_the_nearest():
    text = message({"name": "plate", "size": 1, "color": "red"})
    assert "config.table.color: plate has no such setting" in text
    assert "did you mean 'colour'?" in text
    assert "it has size, colour, depth" in text


def test_an_unknown_argument_without_a_value_is_refused_too():
    assert "color" in message({"name": "plate", "size": 1, "color": None})


def test_a_missing_argument_is_named():
    assert message({"name": "plate"}) == "config.table: plate needs a value for size"


def test_a_value_that_the_function_refuses_is_told_with_the_section():
    text = message({"name": "plate", "size": 0})
    assert text == "config.table (plate): size = 0 must be at least 1"


@pytest.mark.parametrize("value", ["big", 1.5, True, [1]])
def test_a_value_of_the_wrong_type_is_refused_with_the_type_wanted(value):
    text = message({"name": "plate", "size": value})
    assert text == f"config.table.size = {value!r} must be a whole number"


@pytest.mark.parametrize(
    ("annotation", "good", "bad", "words"),
    [
        (float, [1, 0.5], ["x", None, False], "a number"),
        (bool, [True], [1, "x"], "true or false"),
        (str | None, ["x", None], [1], "a word"),
        (float | Literal["auto"], [2, "auto"], ["autos", [1]], "a number or 'auto'"),
        (Sequence[int], [[1], (2, 3), []], [1, "x", [1.5]], "a list, each item a whole number"),
        (tuple[int, ...], [[1]], [["x"]], "a list, each item a whole number"),
        (jax.typing.DTypeLike, ["float32"], [], None),
        (inspect.Parameter.empty, [1, "x"], [], None),
    ],
)
def test_types_that_signatures_state(annotation, good, bad, words):
    assert all(fits(value, annotation) for value in good)
    assert not any(fits(value, annotation) for value in bad)
    assert words is None or in_words(annotation) == words


def test_choices_are_the_public_functions_that_return_the_kind():
    package = types.ModuleType("package")
    package.__all__ = ["plate", "bowl", "stone", "Thing"]
    package.plate, package.bowl, package.stone, package.Thing = plate, bowl, stone, Thing
    package.hidden = plate
    assert choices(package, Thing) == {"plate": plate, "bowl": bowl}
    assert choices(package, Other) == {"bowl": bowl}


def test_a_suggestion_is_given_only_when_near():
    assert suggestion("bitz", ["bits", "mu"]) == "; did you mean 'bits'?"
    assert suggestion("qqqq", ["bits", "mu"]) == ""
