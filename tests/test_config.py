"""Loading config files and overriding their fields."""

import textwrap

import pytest
from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder

from lpml.build import ConfigError
from lpml.config import as_plain, check_key, load, override


@pytest.fixture
def file(tmp_path):
    """Writes a config file and gives its path."""

    def write(text, name="some.py"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


def config():
    tree = ConfigDict()
    tree.seed = 1
    tree.optim = dict(name="halp", bits=8, rate=0.5, widths=(1, 2))
    tree.twice = tree.optim.get_ref("bits") * 2
    tree.path = placeholder(str)
    tree.mu = FieldReference(2.0, field_type=object)
    return tree.lock()


def message(call, *arguments):
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    return str(caught.value)


GOOD = """
    from ml_collections import ConfigDict
    def get_config(variant="none"):
        return ConfigDict({"variant": variant})
"""


def test_loads_with_and_without_a_variant_and_locks(file):
    path = file(GOOD)
    assert load(path).variant == "none"
    assert load(f"{path}:tiny,fast").variant == "tiny,fast"
    assert load(path).is_locked


def test_a_missing_file_is_named_with_its_nearest_neighbour(file):
    path = file(GOOD, "regression.py")
    text = message(load, path.replace("regression", "regresion"))
    assert "does not exist" in text
    assert "did you mean 'regression.py'?" in text


def test_a_missing_folder_is_no_other_error():
    assert "does not exist" in message(load, "no/such/folder/x.py")


def test_a_file_that_is_no_python_is_refused(file):
    assert "no Python file" in message(load, file("x", "notes.txt"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = = 1", "SyntaxError"),
        ("import no_such_module", "no_such_module"),
        ("x = 1", "get_config"),
        ("def get_config(): raise ValueError('there is no such size')", "no such size"),
        ("def get_config(): return {}", "no ConfigDict"),
    ],
)
def test_what_a_file_does_wrong_is_one_config_error(file, text, words):
    assert words in message(load, file(text))


def test_overrides_a_copy_and_leaves_the_original():
    before = config()
    after = override(before, {"optim.bits": 4, "seed": 7, "path": "there", "mu": "auto"})
    assert (after.optim.bits, after.seed, after.path, after.mu) == (4, 7, "there", "auto")
    assert (before.optim.bits, before.seed, before.path, before.mu) == (8, 1, None, 2.0)
    assert after.is_locked


def test_references_follow_an_override():
    assert override(config(), {"optim.bits": 4}).twice == 8


def test_an_int_widens_to_a_float():
    assert override(config(), {"optim.rate": 2}).optim.rate == 2.0


def test_an_unknown_field_is_refused_with_the_nearest_and_the_list():
    text = message(override, config(), {"optim.bitz": 4})
    assert "no field config.optim.bitz" in text
    assert "did you mean 'bits'?" in text
    assert "config.optim has" in text
    assert "rate" in text


def test_an_unknown_section_is_refused_with_the_list():
    text = message(override, config(), {"optimizer.bits": 4})
    assert "did you mean 'optim'?" in text
    assert "config has mu, optim, path, seed, twice" in text


def test_a_field_of_a_field_is_refused():
    assert "config.seed has no fields" in message(override, config(), {"seed.more": 4})


@pytest.mark.parametrize("value", ["many", 1.5, [1]])
def test_a_value_of_the_wrong_type_is_refused_with_its_name(value):
    text = message(override, config(), {"optim.bits": value})
    assert "config.optim.bits" in text
    assert repr(value) in text


def test_list_items_have_keys():
    check_key(config(), "optim.widths[0]")
    assert "no field" in message(check_key, config(), "optim.width[0]")


def test_plain_is_what_json_knows():
    plain = as_plain(config())
    assert plain["optim"]["widths"] == [1, 2]
    assert plain["twice"] == 16
    assert plain["path"] is None
    assert plain["mu"] == 2.0
    assert type(plain) is dict
    assert type(plain["optim"]) is dict
