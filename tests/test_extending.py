"""What docs/EXTENDING.md adds is added, as the page says, and does what the page says."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from math import isqrt
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from launching import environment, run
from test_layers import tracked

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "EXTENDING.md").read_text(encoding="utf-8")
# The first line of a block names its file.
BLOCKS = re.findall(r"```(python|diff)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
NEW = {file: text for kind, file, text in BLOCKS if kind == "python"}
ADDED = [(file, text) for kind, file, text in BLOCKS if kind == "diff"]
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
            for line in block.splitlines()]  # fmt: skip
# What says most of a contract in the least time; `python -m pytest -m slow` runs all of it.
FORMAT = "Logarithmic and (idempotent or half_a_step or rounds_to or survives or directed)"
OPTIMIZER = "lion and (quadratic or save or rosenbrock or compiles)"


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


def contract(folder, *files, only):
    done = python(folder, "-m", "pytest", "-p", "no:cacheprovider", *files, "-k", only)
    assert done.returncode == 0, done.stdout


def launched(folder, *arguments):
    done = run(*arguments, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


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


def test_the_new_files_keep_the_rules_of_the_others(extended):
    files = [*NEW, *(file for file, _ in ADDED)]
    for command in (["check"], ["format", "--check"]):
        done = python(extended, "-m", "ruff", *command, *files)
        assert done.returncode == 0, done.stdout
    contract(
        extended, "tests/test_layers.py", only="logarithmic or lion or log_weights or short"
    )


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


@pytest.mark.parametrize(("bits", "steps"), [(2, 1), (4, 1), (6, 4), (8, 8)])
def test_the_format_rounds_as_its_definition(extended, bits, steps):
    fmt, values = load(extended)(bits, steps), magnitudes(bits, steps)
    ties = np.array([float((a + b) / 2) for a, b in zip(values, values[1:])], np.float32)
    some = np.random.default_rng(0).uniform(-1.3, 1.3, 200) * 2.0 ** -np.arange(200).clip(0, 20)
    x = np.concatenate([ties, np.nextafter(ties, 0), np.nextafter(ties, 2), some, [0, 1e-40]])
    x = np.concatenate([x, -x]).astype(np.float32)
    wanted = [nearest(number, values) for number in x]
    np.testing.assert_array_equal(fmt.encode(jnp.asarray(x)), wanted)
    signed = [np.sign(code) * float(values[abs(code)]) for code in wanted]
    np.testing.assert_array_equal(fmt.round(jnp.asarray(x)), np.array(signed, np.float32))


def test_the_format_keeps_the_contract_of_formats(extended):
    contract(extended, "tests/contracts/test_formats_contract.py", only=f"exported or {FORMAT}")


def test_the_optimizer_keeps_the_contract_of_optimizers(extended):
    contract(
        extended,
        "tests/contracts/test_optimizers_contract.py",
        only=f"arguments or {OPTIMIZER}",
    )


@pytest.mark.slow
def test_all_contracts(extended):
    files = ("tests/contracts", "tests/formats/test_names.py", "tests/test_configs.py")
    names = "Logarithmic or lion or log_weights or listed_name or sharded"
    contract(extended, *files, only=names)


def test_all_is_listed(extended):
    listing = launched(extended, "--list")
    assert listing.count("log_weights") == 2
    assert "  lion(learning_rate, b1=0.9" in listing


def test_the_commands_of_the_page(extended):
    """One test, because the machine is shared and programs are compiled once."""
    assert len(COMMANDS) == 5
    for command in COMMANDS:
        words = re.findall(r"(?:[^\s']|'[^']*')+", command.partition("  #")[0])
        assert words[0] == "python"
        done = python(extended, *words[1:])
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    runs = extended / "runs"
    for name in ("figure.png", "results.csv"):
        assert (runs / "log_weights-tiny" / name).stat().st_size > 200
    verdicts = json.loads((runs / "log_weights-tiny" / "verdict.json").read_text())
    assert len(verdicts["verdicts"] if isinstance(verdicts, dict) else verdicts) == 2
