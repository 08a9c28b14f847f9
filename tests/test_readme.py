"""Every command and snippet of the README runs, in the README's own words."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands():
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


INSTALLS = [line for line in commands() if "pip install" in line]
SERVERS = [line for line in commands() if line.startswith("tensorboard")]
NEED_DATA = [line for line in commands() if "LPML_DATA" in line]
RECIPES = [line for line in commands() if line not in (*INSTALLS, *SERVERS, *NEED_DATA)]


@pytest.fixture
def checkout(tmp_path):
    """The files git knows, in a folder of their own: runs and docs are written there."""
    folder = tmp_path / "checkout"
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in filter(lambda name: (ROOT / name).is_file(), names):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    return folder


def environment(*, flags=True):
    """Like an activated environment: `python` and `tensorboard` are this interpreter's.

    With `flags` programs are compiled as other tests' are, which takes less time; without, as
    the reader's are.
    """
    folder = str(Path(sys.executable).parent)
    return {
        **{name: value for name, value in os.environ.items() if flags or name != "XLA_FLAGS"},
        "PATH": folder + os.pathsep + os.environ["PATH"],
        "JAX_PLATFORMS": "cpu",
        # the programs of other tests, and nothing of these ones in the user's own cache
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
    }


def run(command, checkout, timeout=300, *, flags=True):
    return subprocess.run(
        ["bash", "-c", command], cwd=checkout, env=environment(flags=flags),
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def without_install(command):
    """The part of an install line after the installation, by this interpreter."""
    last = command.split("&&")[-1].strip()
    return last.replace(".venv/bin/python", "python")


def test_the_readme_has_the_commands_it_promises():
    assert len(INSTALLS) == 2
    assert len(SERVERS) == 1
    assert len(RECIPES) >= 7


@pytest.mark.parametrize("flags", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_main_job_then_every_recipe_in_the_readmes_order(flags, checkout):
    """One test, because the recipes build on each other and tests may run apart."""
    done = run(without_install(INSTALLS[0]), checkout, flags=flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("HOLDS") == 6, done.stdout
    folder = checkout / "runs" / "halp_regression"
    for name in ("figure.png", "results.csv", "verdict.json"):
        assert (folder / name).stat().st_size > 500
    for command in RECIPES:
        done = run(command, checkout, flags=flags)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    tensorboard_serves_the_runs(SERVERS[0], checkout)


def test_test_command_collects_the_suite(checkout):
    done = run(without_install(INSTALLS[1]) + " --collect-only -p no:cacheprovider", checkout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("command", NEED_DATA)
def test_recipe_with_data_names_the_missing_files(command, checkout):
    done = run(command, checkout)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "train-images-idx3-ubyte" in done.stderr


def tensorboard_serves_the_runs(command, checkout):
    port = 6100 + os.getpid() % 800
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command} --port {port} --host 127.0.0.1"], cwd=checkout,
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        runs = served_runs(f"http://127.0.0.1:{port}/data/runs")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
    assert "halp8-seed1" in runs


def served_runs(address):
    for _ in range(120):
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                runs = answer.read().decode()
            if "halp8-seed1" in runs:
                return runs
        except OSError:
            pass  # the server is not up yet
        time.sleep(0.5)
    return ""


def test_own_loop_snippet(checkout):
    snippet = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=checkout, env=environment(),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    name, value = done.stdout.rsplit(maxsplit=1)
    assert name == "gradient norm"
    assert float(value) < 0.01  # from 20 at the start, in 10 epochs of 8-bit codes


def test_links_lead_to_files():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.slow
@pytest.mark.parametrize("command", INSTALLS)
def test_install_commands_verbatim_in_a_fresh_clone(command, tmp_path):
    subprocess.run(["git", "clone", "-q", str(ROOT), str(tmp_path / "lpml")], check=True)
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    bare |= {k: v for k, v in os.environ.items() if k.startswith("PIP_")}
    if "pytest" in command:
        command += " tests/formats"  # the suite itself is what runs here
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path / "lpml", env=bare,
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
