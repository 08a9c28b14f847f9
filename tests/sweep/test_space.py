"""The points of a sweep: products, names, variants, and what is refused."""

import itertools
import textwrap

import pytest

from lpml.build import ConfigError
from lpml.config import as_plain, load, override
from lpml.sweep.jobs import resolve
from lpml.sweep.space import LONGEST_NAME, make_space, name_of

REGRESSION = "configs/halp_regression.py"
CONFIG = """
    from ml_collections import ConfigDict
    def get_config(variant=""):
        words = variant.split(",")
        optim = dict(name="svrg", learning_rate=0.1, inner_steps=4)
        return ConfigDict(dict(
            seed=1,
            precision="float32",
            data=dict(name="synthetic_regression", samples=12, features=3, seed=0),
            model=dict(name="linear_regression"),
            optim=optim if "svrg" in words else dict(name="sgd", learning_rate=0.05),
            train=dict(steps=3 if "short" in words else 12, batch_size=2, log_every=4,
                       checkpoint_every=12),
        ))
    def sweep():
        yield {"seed": 1}
        yield {"seed": 2, "variant": "svrg"}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(textwrap.dedent(CONFIG))
    return str(path)


def names(space):
    return [point.name for point in space.points()]


def test_axes_make_a_product_whose_last_is_fastest(config):
    space = make_space(config, axes=["a=1,2", "b=x,y,z", "c=0:2"])
    wanted = [
        dict(zip("abc", each)) for each in itertools.product((1, 2), ("x", "y", "z"), (0, 1))
    ]
    assert list(space.settings) == wanted
    assert space.keys() == ["a", "b", "c"]
    assert len(set(names(space))) == 12


def test_paired_axes_are_one_factor_of_the_product(config):
    space = make_space(config, axes=["a=1,2 & b=10,20", "c=0:2"])
    pairs = zip((1, 2), (10, 20))
    assert [tuple(each.values()) for each in space.settings] == [
        (a, b, c) for (a, b), c in itertools.product(pairs, (0, 1))
    ]


def test_the_sweep_of_the_config_is_the_slowest_factor(config):
    space = make_space(config, sweep=True, axes=["optim.learning_rate=0.1,0.2"])
    assert names(space) == [
        "seed=1,optim.learning_rate=0.1",
        "seed=1,optim.learning_rate=0.2",
        "seed=2,variant=svrg,optim.learning_rate=0.1",
        "seed=2,variant=svrg,optim.learning_rate=0.2",
    ]


def test_a_variant_adds_to_that_of_the_path(config, tmp_path):
    base = {"precision": "float64"}
    space = make_space(f"{config}:short", base=base, sweep=True)
    assert [point.config for point in space.points()] == [
        f"{config}:short",
        f"{config}:short,svrg",
    ]
    first, second = resolve(space.points(), str(tmp_path / "runs"))
    assert (first.config["optim"]["name"], second.config["optim"]["name"]) == ("sgd", "svrg")
    assert (first.config["seed"], second.config["seed"]) == (1, 2)
    for job in (first, second):
        assert job.config["train"]["steps"] == 3
        assert job.config["precision"] == "float64"
        assert "float64" not in job.name
    assert make_space(config, axes=["variant=svrg"]).points()[0].config == f"{config}:svrg"


def test_a_whole_sub_tree_takes_the_place_of_the_old_one(config, tmp_path):
    tree = {"name": "svrg", "learning_rate": 0.3, "inner_steps": 2}
    space = make_space(config, axes=[f"optim={tree}", "seed=1,2"])
    jobs = resolve(space.points(), str(tmp_path / "runs"))
    assert [job.config["optim"] for job in jobs] == [tree, tree]
    assert jobs[0].name.startswith("optim=svrg-")
    assert jobs[0].name.endswith(",seed=1")
    assert {"optim.learning_rate", "optim.inner_steps", "seed"} <= set(jobs[0].hparams)


def test_a_base_sub_tree_may_be_changed_by_an_axis(config, tmp_path):
    base = {"optim": {"name": "svrg", "learning_rate": 0.3, "inner_steps": 2}}
    space = make_space(config, base=base, axes=["optim.inner_steps=3,4"])
    jobs = resolve(space.points(), str(tmp_path / "runs"))
    assert [job.config["optim"] for job in jobs] == [
        {"name": "svrg", "learning_rate": 0.3, "inner_steps": steps} for steps in (3, 4)
    ]


def test_override_keeps_the_original_and_locks_the_copy():
    config = load(REGRESSION)
    changed = override(config, {"optim": {"name": "sgd", "learning_rate": 1}, "seed": 7})
    assert as_plain(changed)["optim"] == {"name": "sgd", "learning_rate": 1}
    assert config.optim.name == "halp"
    assert changed.is_locked


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"optim.bits": 4, "seed": 0}, "optim.bits=4,seed=0"),
        ({"optim.learning_rate": 1e-4}, "optim.learning_rate=0.0001"),
        ({"optim.mu": -2.5}, "optim.mu=-2.5"),
        ({"model.hidden": (64,)}, "model.hidden=64"),
        ({"model.hidden": [32, 16]}, "model.hidden=32x16"),
        ({"data.dir": "a/b c:d"}, "data.dir=a_b_c_d"),
        ({"k": "größe"}, "k=gr__e"),
        ({"optim": {"name": "sgd"}}, "optim=sgd"),
        ({"variant": "svrg", "seed": 1}, "variant=svrg,seed=1"),
        ({}, "base"),
    ],
)
def test_names_say_the_settings(settings, name):
    assert name_of(settings) == name


def test_long_names_are_cut_and_stay_different():
    made = {name_of({f"section.field{i}": i for i in range(20)} | {"z": z}) for z in range(50)}
    assert len(made) == 50
    assert {len(name) for name in made} == {LONGEST_NAME}


def test_sub_trees_of_one_name_stay_different():
    first, second = ({"name": "sgd", "learning_rate": rate} for rate in (1, 2))
    assert name_of({"optim": first}) != name_of({"optim": second})
    assert name_of({"optim": first}) == name_of({"optim": dict(reversed(first.items()))})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (dict(), "no points"),
        (dict(sweep=True, axes=["seed=1"]), "sweep() and --axis=seed=1 both set config.seed"),
        (
            dict(base={"seed": 3}, axes=["seed=1"]),
            "--config.seed and --axis=seed=1 both set config.seed",
        ),
        (
            dict(base={"optim.learning_rate": 3.0}, axes=["optim={'name':'sgd'}"]),
            "both set config.optim.learning_rate",
        ),
        (dict(axes=["a=0:1000", "b=0:1000"]), "has 1000000 points"),
    ],
)
def test_a_space_that_makes_no_sense(asked, words, config):
    with pytest.raises(ConfigError) as caught:
        make_space(config, **asked)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no function sweep; name the axes on the command line"),
        ("def sweep(): return []", "has no points"),
        ("def sweep(): raise ValueError('no')", "sweep() of"),
        ("def sweep(): return [3]", "gives 3 and no dict"),
        ("def sweep(): return [{1: 3}]", "gives {1: 3} and no dict"),
        ("def sweep(): return 3", "raises TypeError"),
    ],
)
def test_a_wrong_sweep_function(text, words, tmp_path):
    path = tmp_path / "c.py"
    path.write_text(f"def get_config(): pass\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        make_space(str(path), sweep=True)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        (["sede=1"], "point sede=1: there is no field config.sede; did you mean 'seed'"),
        (["seed=1", "optim.x.y=1"], "point seed=1,optim.x.y=1: there is no field"),
        (
            ["train.steps=8.0"],
            "point train.steps=8.0: config.train.steps = 8.0 must be a",
        ),
        (["optim=3"], "point optim=3: config.optim = 3 must be a dict"),
        (["optim={'name':'nada'}"], "point optim=nada: config.optim.name = 'nada'"),
        (["variant=3"], "variant = 3 must be words"),
        (["seed=3,3"], "two points map to the folder seed=3"),
        (["optim.learning_rate=0.1,nan"], "= 'nan' must be a number"),
    ],
)
def test_a_bad_point_is_named(axes, words, config, tmp_path):
    with pytest.raises(ConfigError) as caught:
        resolve(make_space(config, axes=axes).points(), str(tmp_path / "runs"))
    assert words in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_an_int_may_stand_for_a_float(config, tmp_path):
    space = make_space(config, axes=["optim.learning_rate=1"])
    (job,) = resolve(space.points(), str(tmp_path))
    assert type(job.config["optim"]["learning_rate"]) is float
