import getpass
import json
import platform
import re
import shutil
import subprocess

import jax
import numpy as np
import pytest

from lpml.training import environment


def test_it_is_json_and_says_what_ran():
    found = json.loads(json.dumps(environment.describe()))
    assert found["packages"]["jax"] == jax.__version__
    assert found["packages"]["numpy"] == np.__version__
    assert found["python"] == platform.python_version()
    assert found["backend"] == jax.default_backend()
    assert sum(found["devices"].values()) == jax.device_count()
    assert found["x64"] is jax.config.jax_enable_x64
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found["time"])


def test_neither_machine_nor_user_is_named():
    found = environment.describe()
    text = json.dumps({name: value for name, value in found.items() if name != "command"})
    names = {platform.node(), getpass.getuser()}
    assert not [name for name in names if name and re.search(rf"\b{re.escape(name)}\b", text)]


@pytest.mark.parametrize(
    ("lines", "model"),
    [
        ("processor\t: 0\nmodel name\t: One: 2\nmodel name\t: Two\n", "One: 2"),
        ("flags\t: a b\n", platform.processor() or None),
        (None, platform.processor() or None),
    ],
)
def test_the_processor_is_the_systems_word_for_it(lines, model, tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    if lines is not None:
        path.write_text(lines)
    monkeypatch.setattr(environment, "_CPUINFO", path)
    assert environment.describe()["processor"] == model


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", folder, *who, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_revision_and_whether_it_was_changed(tmp_path):
    assert environment._git_state(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert environment._git_state(tmp_path) is None, "a checkout without a commit"
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "first")
    revision = git(tmp_path, "rev-parse", "HEAD")
    assert environment._git_state(tmp_path) == {"revision": revision, "dirty": False}
    (tmp_path / "file").write_text("2")
    assert environment._git_state(tmp_path) == {"revision": revision, "dirty": True}


@pytest.mark.parametrize("script", [None, "#!/bin/sh\nexit 1\n", "#!/bin/sh\nexec sleep 20\n"])
def test_a_git_that_is_missing_fails_or_hangs_is_no_error(tmp_path, monkeypatch, script):
    if script is not None:
        (tmp_path / "git").write_text(script)
        (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin" if script else str(tmp_path))
    monkeypatch.setattr(environment, "_GIT_TIMEOUT_S", 0.2)
    if script is not None or shutil.which("git") is None:
        assert environment._git_state(tmp_path) is None
    assert "git" in environment.describe()
