"""Every file of configs/: loads fast, says how to run it, has no field that nothing reads."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from lpml import commands
from lpml.build import ConfigError
from lpml.config import as_plain, load, override
from lpml.sweep.jobs import resolve
from lpml.sweep.space import make_space
from lpml.training.assemble import (
    MEASURING,
    SECTIONS,
    assemble,
    families,
    is_measurement,
    measurement,
)
from lpml.training.run import train

ROOT = Path(__file__).parent.parent
SIZES = ("tiny", "default", "paper")
FILES = {name: str(ROOT / "configs" / f"{name}.py") for name in sorted(commands.configs())}

every_config = pytest.mark.parametrize("name", FILES)


def refusal(file):
    """The sentence about an unknown variant, which lists the known ones."""
    with pytest.raises(ConfigError) as caught:
        load(f"{file}:no_such_variant")
    return str(caught.value)


def variants(file):
    """Sizes and methods that the config knows."""
    listing = refusal(file).partition("choose from ")[2]
    words = listing.split(", ")
    return [w for w in words if w in SIZES], [w for w in words if w not in SIZES]


def tiny_forms():
    for name, file in FILES.items():
        yield from (f"{name}:{method},tiny" for method in variants(file)[1] or [""])


def tiny(form):
    name, _, variant = form.partition(":")
    return as_plain(load(f"{FILES[name]}:{variant.strip(',')}"))


TINY_FORMS = sorted(tiny_forms())
MEASURED = [form for form in TINY_FORMS if is_measurement(tiny(form))]
every_tiny_form = pytest.mark.parametrize("form", TINY_FORMS)
# compiles three Transformers; the measurement has tests of its own
LONG = "shampoo_overhead:,tiny"
every_measurement = pytest.mark.parametrize(
    "form",
    [pytest.param(form, marks=[pytest.mark.slow] if form == LONG else []) for form in MEASURED],
)
# The other methods of these differ in an optimizer alone, which has a contract of its own.
OTHER_OPTIMIZER = re.compile(
    r"shampoo_(characters|images|translation):(?!shampoo|resnet)|lenet:(lp_|svrg)"
    r"|halp_mlp:(lp_|svrg)|ste_networks:.*_(float|continued)|laq_networks:.*_float"
    r"|shampoo_state:float|ste_networks:vgg11,|halp_networks:(halp|svrg|lp_|sgd)"
)
every_training = pytest.mark.parametrize(
    "form",
    [
        pytest.param(form, marks=[pytest.mark.slow] if OTHER_OPTIMIZER.match(form) else [])
        for form in sorted({*TINY_FORMS} - {*MEASURED})
    ],
)


def assembled(config):
    if is_measurement(config):
        return measurement(config)
    with jax.enable_x64(config["precision"] == "float64"):
        return assemble(config)


def test_there_are_configs():
    assert FILES


def test_all_load_without_jax():
    script = (
        "import sys, runpy\n"
        "import ml_collections\n"
        f"for file in {list(FILES.values())!r}:\n"
        "    for variant in ('tiny', 'paper', ''):\n"
        "        runpy.run_path(file)['get_config'](variant)\n"
        "print([m for m in ('jax', 'lpml', 'numpy.random', 'flax', 'sklearn')"
        " if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@every_config
def test_the_docstring_is_a_page(name):
    text = Path(FILES[name]).read_text().split('"""')[1]
    assert text.split("\n")[0].endswith(".")
    assert f"python launch.py --config=configs/{name}.py" in text
    for word in ("Paper:", "Shows:", "Expected:", "Variants:"):
        assert word in text, f"{name} does not say {word}"
    for size in SIZES:
        assert size in text, f"{name} does not mention the size {size}"
    assert set(re.findall(r"--experiment=(\w+)", text)) <= set(commands.experiments())


@every_config
def test_has_the_three_sizes_and_refuses_others_in_a_sentence(name):
    sizes, _ = variants(FILES[name])
    assert tuple(sizes) == SIZES
    message = refusal(FILES[name])
    assert "no_such_variant" in message
    assert "\n" not in message
    for size in SIZES:
        assert load(f"{FILES[name]}:{size}").is_locked


def in_few_bits(config):
    model = config["model"]
    formats = [model.get("quant", {}).get(role) for role in ("weights", "activations")]
    staircase = isinstance(model.get("activation"), dict)
    rounded = staircase or any(name not in (None, "none") for name in formats)
    return rounded or config["optim"].get("bits") is not None


@every_config
def test_the_sweep_resolves_and_has_full_precision_as_reference(name, tmp_path):
    space = make_space(f"{FILES[name]}:tiny", sweep=True)
    jobs = resolve(space.points(), str(tmp_path / "runs"))
    assert len({json.dumps(job.config) for job in jobs}) == len(jobs)
    if not is_measurement(jobs[0].config):
        assert {in_few_bits(job.config) for job in jobs} == {True, False}
    seeds = [job.config["seed"] for job in jobs]
    assert len({seeds.count(seed) for seed in seeds}) == 1, "as many points for every seed"
    assert f"--config=configs/{name}.py --sweep" in Path(FILES[name]).read_text()


@every_tiny_form
def test_every_field_is_read(form):
    config = tiny(form)
    for section in (key for key in config if isinstance(config[key], dict)):
        changed = copy.deepcopy(config)
        changed[section]["no_such_setting"] = 1
        with pytest.raises(ConfigError, match=rf"config\.{section}\.no_such_setting"):
            assembled(changed)
    with pytest.raises(ConfigError, match=r"config\.no_such_section"):
        assembled({**config, "no_such_section": {}})


@every_config
def test_a_missing_section_is_refused(name):
    config = as_plain(load(f"{FILES[name]}:tiny"))
    measures = is_measurement(config)
    for section in MEASURING[:2] if measures else SECTIONS:
        lacking = {key: config[key] for key in config if key != section}
        with pytest.raises(ConfigError, match=section):
            measurement(lacking) if measures else assemble(lacking)


@every_config
def test_an_unknown_name_is_refused_with_the_list(name):
    config = as_plain(load(f"{FILES[name]}:tiny"))
    for family in set(families()) & set(config):
        changed = {**config, family: {**config[family], "name": "no_such_name"}}
        with pytest.raises(ConfigError, match=f"config.{family}.name") as caught:
            assembled(changed)
        for known in families()[family]:
            assert known in str(caught.value)


@every_measurement
def test_the_tiny_form_measures_to_the_end(form, tmp_path):
    config, folder = tiny(form), tmp_path / "run"
    final = train(config, str(folder))
    made = measurement(config)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, made.count + 1))
    assert all(line.keys() == {"step", *made.metrics} for line in lines)
    assert lines[-1] == final == json.loads((folder / "DONE").read_text())
    assert json.loads((folder / "config.json").read_text()) == config
    assert train(config, str(folder)) == final


@every_training
def test_the_tiny_form_trains_to_the_end(form, tmp_path):
    config, folder = tiny(form), tmp_path / "run"
    final = train(config, str(folder))
    steps = config["train"]["steps"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    due = range(0, steps + 1, config["train"]["log_every"])
    assert [line["step"] for line in lines] == sorted({*due, steps})
    for line in lines:
        assert line.keys() >= {"loss", "grad_norm"}
    assert lines[-1] == final
    assert final == json.loads((folder / "DONE").read_text())
    # `Expected` speaks of curves that fall, except where a method's point is that it stalls
    assert final["loss"] < lines[0]["loss"]
    assert json.loads((folder / "config.json").read_text()) == config
    assert json.loads((folder / "environment.json").read_text())["packages"]["jax"]
    assert (folder / "checkpoints" / str(steps)).is_dir()
    assert len(list(folder.glob("events.out.tfevents*"))) == 1
    assert train(config, str(folder)) == final


def test_a_variant_of_two_sizes_or_methods_is_refused():
    for variant in ("tiny,default", "svrg,halp"):
        with pytest.raises(ConfigError, match="names both"):
            load(f"{ROOT}/configs/halp_regression.py:{variant}")


def test_a_format_takes_the_place_of_bits_and_radius_unless_they_are_set_too():
    base = load(f"{FILES['halp_regression']}:lp_sgd,tiny")
    in_format = override(base, {"optim.format": "posit8"})
    assert (in_format.optim.bits, in_format.optim.radius) == (None, None)
    assert override(in_format, {"optim.radius": 3.0}).optim.radius == 3.0
    assert (base.optim.bits, base.optim.radius) == (8, 102.0)
    assert override(base, {"optim.bits": 4}).optim.bits == 4
