"""What docs/EXTENDING.md adds is added, as the page says, and does what the page says."""

import importlib.util
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
from fractions import Fraction
from math import isqrt
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from launching import environment, lines
from test_layers import tracked

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "EXTENDING.md").read_text(encoding="utf-8")
# The first line of a block names its file.
BLOCKS = re.findall(r"```(python|diff)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
NEW = {file: text for kind, file, text in BLOCKS if kind == "python"}
ADDED = [(file, text) for kind, file, text in BLOCKS if kind == "diff"]
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
            for line in block.splitlines()]  # fmt: skip
# The experiment trains by the same optimizer, in the same format; these go on elsewhere.
LATER = [line for line in COMMANDS if "--workdir=runs/lion" in line or "runs/weights" in line]
# What says most of a contract in the least time; `python -m pytest -m slow` runs all of it.
FEW = (
    "arguments or exported or formats.logarithmic or log_weights or optim.lion or short"
    " or (Logarithmic and (idempotent or half_a_step or survives))"
    " or (lion and (quadratic or compiles))"
)


def with_lines_added(text, block):
    """`text` with the + lines of a block, each behind the line that stands above it there."""
    for change in re.findall(r"^ .+\n(?:\+.+\n)+", block, re.MULTILINE):
        above, *added = (line[1:] + "\n" for line in change.splitlines())
        assert text.count(above) == 1, f"{above!r} is not one line of the file"
        text = text.replace(above, above + "".join(added))
    return text


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the project after all that the page says."""
    folder = tmp_path_factory.mktemp("extended")
    for path in tracked():
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    for file, text in NEW.items():
        assert not (folder / file).exists(), f"{file} is already there"
        (folder / file).write_text(text, encoding="utf-8")
    for file, block in ADDED:
        path = folder / file
        path.write_text(with_lines_added(path.read_text(), block), encoding="utf-8")
    return folder


def python(folder, *arguments, timeout=300):
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment(), capture_output=True,
        text=True, timeout=timeout,
    )  # fmt: skip


def pytest_in(folder, *files, only):
    done = python(
        folder, "-m", "pytest", "-p", "no:cacheprovider", *files, "-m", "", "-k", only
    )
    assert done.returncode == 0, done.stdout


def test_a_block_says_its_file_and_every_added_line_has_its_place():
    assert len(BLOCKS) == PAGE.count("```python\n") + PAGE.count("```diff\n")
    assert len(NEW) == 4
    for _, block in ADDED:
        assert re.fullmatch(r"(?: .+\n(?:\+.+\n)+)+", block)


def test_links_lead_to_files():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
    for name in re.findall(r"`((?:lpml|tests|configs|experiments)/[\w/.]+)`", PAGE):
        assert (ROOT / name).exists() or name in NEW, name


def test_the_new_files_pass_the_linter(extended):
    files = [*NEW, *(file for file, _ in ADDED)]
    for command in (["check"], ["format", "--check"]):
        done = python(extended, "-m", "ruff", *command, *files)
        assert done.returncode == 0, done.stdout


def load(extended):
    path = extended / "lpml/formats/logarithmic.py"
    spec = importlib.util.spec_from_file_location("logarithmic_of_the_page", path)
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Logarithmic


def root_of_two(step):
    """2^(step / 8) as an exact fraction that is off by less than 2^-200."""
    return Fraction(isqrt(isqrt(isqrt(2 ** (step + 8 * 200)))), 2**200)


def magnitudes(bits, steps):
    """0 and the positive values in float32, by integer roots and not by floats."""
    top = 2 ** (bits - 1) - 1
    places = [divmod((level - top) * (8 // steps), 8) for level in range(1, top + 1)]
    return [Fraction(0)] + [
        Fraction(float(np.float32(float(root_of_two(step) * Fraction(2) ** octave))))
        for octave, step in places
    ]


def nearest(x, values):
    """The code of x by a search through all values, in exact numbers; ties to even."""
    size = abs(Fraction(float(x)))
    code = min(range(len(values)), key=lambda at: (abs(values[at] - size), at % 2))
    return -code if x < 0 else code


@pytest.mark.parametrize(("bits", "steps"), [(2, 1), (6, 4), (8, 8)])
def test_the_format_rounds_as_its_definition(extended, bits, steps):
    fmt, values = load(extended)(bits, steps), magnitudes(bits, steps)
    ties = np.array([float((a + b) / 2) for a, b in itertools.pairwise(values)], np.float32)
    some = np.random.default_rng(0).uniform(-1.3, 1.3, 200) * 2.0 ** -np.arange(200).clip(0, 20)
    x = np.concatenate([ties, np.nextafter(ties, 0), np.nextafter(ties, 2), some, [0, 1e-40]])
    x = np.concatenate([x, -x]).astype(np.float32)
    wanted = [nearest(number, values) for number in x]
    np.testing.assert_array_equal(fmt.encode(jnp.asarray(x)), wanted)
    signed = [np.sign(code) * float(values[abs(code)]) for code in wanted]
    np.testing.assert_array_equal(fmt.round(jnp.asarray(x)), np.array(signed, np.float32))


def test_what_is_new_keeps_the_layers_and_the_contracts(extended):
    contracts = (f"contracts/test_{family}_contract" for family in ("formats", "optimizers"))
    files = (f"tests/{file}.py" for file in ("test_layers", *contracts))
    pytest_in(extended, *files, only=FEW)


@pytest.mark.slow
def test_what_is_new_keeps_all_contracts(extended):
    files = ("tests/contracts", "tests/formats/test_names.py", "tests/test_configs.py")
    names = "Logarithmic or lion or log_weights or listed_name or sharded or arguments"
    pytest_in(extended, *files, only=names)


def launched(folder, commands):
    """What the commands print; in one process, because a start takes longer than a tiny run."""
    launches = [shlex.split(command)[1:] for command in commands]
    assert all(words[0] == "launch.py" for words in launches)
    script = (
        "import json, sys, launch\n"
        "sys.exit(max([launch.main(words) for words in json.loads(sys.argv[1])]))"
    )
    done = python(folder, "-c", script, json.dumps(launches))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ends_lower(folder, fmt):
    """The last line of a run's log; the format is in its config."""
    assert f'"{fmt}"' in (folder / "config.json").read_text()
    first, *_, last = lines(folder)
    assert last["loss"] < first["loss"]
    return last


def test_the_list_the_experiment_and_halp_are_as_the_page_says(extended):
    printed = launched(extended, [line for line in COMMANDS if line not in LATER])
    assert "  lion(learning_rate, b1=0.9, " in printed
    assert printed.count("  log_weights ") == 2  # a config and an experiment
    claims_are_judged(extended / "runs" / "log_weights-tiny")
    # which codes that round wrongly do not reach
    assert ends_lower(extended / "runs" / "halp", "log8s8")["grad_norm"] < 1e-12


@pytest.mark.slow
def test_other_configs_train_by_the_new_names(extended):
    launched(extended, LATER)
    ends_lower(extended / "runs" / "weights", "log6s4")
    last = ends_lower(extended / "runs" / "lion", "log8s8")
    assert 0 <= last["against_gradient"] < 0.5


def claims_are_judged(folder):
    for name in ("figure.png", "results.csv"):
        assert (folder / name).stat().st_size > 200
    verdicts = json.loads((folder / "verdict.json").read_text())
    assert [verdict["seeds"] for verdict in verdicts] == [[1, 2, 3]] * 2
