"""Who imports whom, and what a file may be: read from the syntax trees."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_LINES = 400
ABOVE = ("formats", "quant", "optim", "models", "data", "parallel", "native")

# What a layer may import of this repository, itself apart: DESIGN.md's table.
ALLOWED = {
    "configs": (),
    "lpml": (),  # lpml/__init__.py
    "lpml.formats": (),
    "lpml.data": (),
    "lpml.native": (),
    "lpml.theory": (),
    "lpml.quant": ("lpml.formats",),
    "lpml.models": ("lpml.quant", "lpml.formats"),
    "lpml.optim": ("lpml.formats", "lpml.quant", "lpml.native"),
    "lpml.parallel": ("lpml.formats", "lpml.quant"),
    "lpml.measurements": ("lpml.theory", *(f"lpml.{layer}" for layer in ABOVE)),
    # top-level modules: those that say how a name becomes an object ...
    "lpml.build": (),
    "lpml.config": ("lpml.build",),
    "lpml.training": (
        "lpml.build",
        "lpml.measurements",
        *(f"lpml.{layer}" for layer in ABOVE),
    ),
    # ... those that read what training wrote ...
    "lpml.runs": ("lpml.training", "lpml.build"),
    "lpml.sweep": ("lpml.training", "lpml.data", "lpml.runs", "lpml.config", "lpml.build"),
    "lpml.book": ("lpml.build", "lpml.data", "lpml.runs", "lpml.sweep", "lpml.training"),
    # ... and what the launcher hands over to.
    "lpml.commands": (
        *("lpml.book", "lpml.build", "lpml.config", "lpml.runs"),
        *("lpml.data", "lpml.parallel", "lpml.sweep", "lpml.training"),
    ),
    "experiments": ("lpml.runs", "lpml.formats"),
    "launch": ("lpml.commands", "lpml.build", "lpml.config"),
}
FOREIGN_TO = {
    # third-party packages that only these layers import
    "flax.linen": ("lpml.models", "lpml.quant"),
    "orbax": ("lpml.training",),
    "tensorboard": ("lpml.training",),
    "sklearn": ("lpml.data",),
    "sentencepiece": ("lpml.data",),
    "sacrebleu": ("lpml.data",),
    "matplotlib": ("experiments", "lpml.sweep", "lpml.formats"),
    "pandas": ("lpml.runs",),
    "ml_collections": ("configs", "launch", "lpml.config", "lpml.commands"),
    "absl.flags": ("launch",),
    "ray": ("lpml.sweep",),
    "optuna": ("lpml.sweep",),
}


def tracked(*patterns):
    """Files git knows or would know; without a git checkout, all but hidden ones."""
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode == 0:
        names = [name for name in listing.stdout.split("\n") if name]
        return [ROOT / name for name in names if (ROOT / name).exists()]
    found = [path for pattern in patterns or ("*",) for path in ROOT.rglob(pattern)]
    places = [(path, path.relative_to(ROOT).parts) for path in found if path.is_file()]
    return [p for p, parts in places if not parts[0].startswith(".") and parts[0] != "runs"]


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    module_name(path): path
    for path in tracked("*.py")
    if path.relative_to(ROOT).parts[0] in ("launch.py", "configs", "experiments", "lpml")
}


def layer_of(module):
    """`lpml.optim` for lpml.optim.halp, `lpml.runs` for lpml.runs, `configs` for configs.x."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "lpml" else parts[0]


def imports(path):
    """Every module that a file imports, at any depth, with the names taken from it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            # `from lpml import data` and `from flax import linen` import modules too
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own_layers(path):
    ours = ("lpml", "configs", "experiments", "launch")
    return {layer_of(name) for name in imports(path) if name.split(".")[0] in ours}


def within(name, package):
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_a_layer_imports_only_what_the_table_allows(module):
    layer = layer_of(module)
    assert layer in ALLOWED, f"add the layer {layer} to the table of {__file__}"
    wrong = own_layers(SOURCES[module]) - set(ALLOWED[layer]) - {layer}
    assert not wrong, f"{module} must not import {', '.join(sorted(wrong))}"


def test_the_table_has_no_cycle_and_knows_no_layer_twice():
    order = list(ALLOWED)
    above = dict(ALLOWED)
    done: set[str] = set()
    while above:
        ready = [layer for layer in order if layer in above and set(above[layer]) <= done]
        assert ready, f"a cycle among {', '.join(above)}"
        for layer in ready:
            done.add(layer)
            del above[layer]


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_third_party_packages_stay_where_they_belong(module):
    for name in imports(SOURCES[module]):
        for package, layers in FOREIGN_TO.items():
            if within(name, package):
                assert layer_of(module) in layers, f"{module} must not import {package}"


@pytest.mark.parametrize("module", sorted(m for m in SOURCES if layer_of(m) == "configs"))
def test_configs_import_ml_collections_alone(module):
    allowed = ("ml_collections", "configs", "math")
    for name in imports(SOURCES[module]):
        assert any(within(name, package) for package in allowed), f"{module} imports {name}"


@pytest.mark.parametrize("module", sorted(m for m in SOURCES if layer_of(m) == "lpml.data"))
def test_data_sources_do_not_need_jax(module):
    assert not [n for n in imports(SOURCES[module]) if within(n, "jax") or within(n, "flax")]


def test_the_loop_names_no_algorithm():
    text = (ROOT / "lpml/training/loop.py").read_text() + (
        ROOT / "lpml/training/step.py"
    ).read_text()
    tree = ast.parse(text)
    words = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    words |= {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value}
    algorithms = {path.stem for path in (ROOT / "lpml/optim").glob("*.py")} - {"periodic"}
    assert not words & algorithms


def test_no_landfill_modules():
    landfills = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert not [path for path in tracked("*.py") if path.stem in landfills]


def test_files_are_short():
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked("*.py")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    }
    assert not long


def test_no_file_names_a_machine():
    # written in halves, lest this file be found
    marks = ["/ro" + "ot/", "/ho" + "me/", "/Us" + "ers/", "/wo" + "rk/"]
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {mark}" for mark in marks if mark in text]
    assert not found


def test_imports_compute_nothing():
    # the number of devices and of processes is settled before jax starts
    code = "import lpml.commands, lpml.optim, lpml.models, lpml.measurements, lpml.training.run"
    environment = {**os.environ, "JAX_PLATFORMS": "there is none"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)


def test_a_launch_waits_for_no_package_that_few_of_them_need():
    """They are imported where they are used; together they took two fifths of an import."""
    code = (
        "import sys, lpml.commands; late = {'scipy.optimize', 'scipy.linalg', 'sklearn', "
        "'matplotlib', 'tensorboard', 'optuna', 'ray', 'sacrebleu', 'sentencepiece'} "
        "& set(sys.modules); assert not late, late"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
