"""Kernels compiled on first use: kept, made anew when needed, or refused in a sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from compiling import needs_kernels

from lpml import native
from lpml.native import build

ROOT = Path(__file__).parent.parent.parent
pytestmark = needs_kernels


def ask(**variables):
    """What `python -m lpml.native` says, with these variables set."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **variables}
    words = [sys.executable, "-m", "lpml.native"]
    return subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def refused(done, *words):
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


def fake_compiler(folder, body):
    path = folder / "fake"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_the_kernels_are_kept_and_used_again():
    first = build.library()
    made = first.stat().st_mtime_ns
    assert build.library() == first
    assert first.stat().st_mtime_ns == made
    done = ask()
    assert done.returncode == 0
    assert f"instruction set {native.instructions()}" in done.stdout


def test_without_a_compiler_one_line_says_so(tmp_path):
    empty = {"LPML_CACHE": str(tmp_path)}
    refused(ask(PATH=str(tmp_path), **empty), "no C++ compiler", "install g++")
    refused(ask(CXX="no-such-compiler"), "CXX = 'no-such-compiler'", "not installed")


def test_a_compiler_that_fails_is_quoted(tmp_path):
    fake = fake_compiler(tmp_path, 'echo "fake: error: out of ideas" >&2; exit 3')
    done = ask(CXX=fake, LPML_CACHE=str(tmp_path / "cache"))
    refused(done, "cannot compile", "out of ideas")
    assert not list((tmp_path / "cache").iterdir())  # nothing half made is left


def test_a_library_that_is_none_is_refused(tmp_path):
    # it makes empty files of everything it is asked for
    fake = fake_compiler(tmp_path, 'while [ "$1" != "-o" ]; do shift; done; : > "$2"')
    refused(ask(CXX=fake, LPML_CACHE=str(tmp_path / "cache")), "cannot be loaded")


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    refused(ask(LPML_CACHE=str(file)), str(file), "set LPML_CACHE")


def test_another_source_or_compiler_is_another_library(monkeypatch, tmp_path):
    before = build._fingerprint()
    copies = tmp_path / "src"
    copies.mkdir()
    for path in build.SOURCES.iterdir():
        (copies / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(build, "SOURCES", copies)
    assert build._fingerprint() == before
    with (copies / "plain.cc").open("a") as file:
        file.write("// another\n")
    assert build._fingerprint() != before
    made = []

    def compiled(command, folder):
        made.append(command)
        (folder / "kernels.so").write_bytes(b"a library")
        return folder / "kernels.so"

    monkeypatch.setattr(build, "compiled", compiled)
    monkeypatch.setenv("LPML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", "true")
    assert build.library() == build.library()
    monkeypatch.setenv("CXX", "false")
    build.library()
    assert made == [["true"], ["false"]]


@pytest.mark.parametrize("left", [0, 100, 3000, 0.5, 0.999])
def test_a_torn_library_is_made_anew_and_never_loaded(monkeypatch, tmp_path, left):
    whole = build.library().read_bytes()
    size = int(left if left > 1 else left * len(whole))
    monkeypatch.setenv("LPML_CACHE", str(tmp_path))
    torn = tmp_path / build._name(build._digest(repr(build.compiler()).encode()))
    torn.write_bytes(whole[:size])
    assert not build.is_whole(torn)

    def compiled(command, folder):
        del command
        (folder / "kernels.so").write_bytes(whole[: -build.DIGEST])
        return folder / "kernels.so"

    monkeypatch.setattr(build, "compiled", compiled)
    assert build.library().read_bytes() == whole


def test_what_was_compiled_elsewhere_serves_without_a_compiler(tmp_path):
    kept = build.library()
    (tmp_path / kept.name).write_bytes(kept.read_bytes())
    nowhere = str(tmp_path / "nowhere")
    done = ask(PATH=nowhere, LPML_CACHE=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (tmp_path / kept.name).write_bytes(kept.read_bytes()[:1000])
    refused(ask(PATH=nowhere, LPML_CACHE=str(tmp_path)), "no C++ compiler")


def test_a_compiler_that_is_no_command_is_named():
    refused(ask(CXX='g++ "'), "CXX = 'g++ \"'", "no command")


@pytest.mark.slow
def test_two_processes_that_compile_at_once_both_get_kernels(tmp_path):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "LPML_CACHE": str(tmp_path)}
    words = [sys.executable, "-m", "lpml.native"]
    both = [subprocess.Popen(words, cwd=ROOT, env=environment) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert [path.suffix for path in tmp_path.iterdir()] == [".so"]
