"""Compiles the kernels on first use, for this interpreter's XLA, and remembers the result."""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax

SOURCES = Path(__file__).parent / "src"
# No -ffast-math: linked into a library it switches the whole process to flush-to-zero. And no
# contraction, so that every instruction set and compiler rounds scalars alike.
FLAGS = [
    *("-std=c++17", "-O3", "-fPIC", "-pthread"),
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"),
]
# A file is compiled for the processors that will run it: the choice is made at run time.
WIDER = {
    "avx2.cc": ["-mavx2", "-mfma"],
    "avx512.cc": ["-mavx512f", "-mavx512bw", "-mavx512vnni"],
}
PORTABLE = ("plain.cc", "loops.cc", "passes.cc", "ffi.cc")
COMPILERS = ("c++", "g++", "clang++")
DIGEST = 32  # bytes of a seal


class NoKernels(RuntimeError):
    """The kernels cannot be had here; the message is one sentence."""


def compiler() -> list[str]:
    """The command of a C++ compiler: the variable CXX, or the first that is installed.

    Raises:
      NoKernels: there is none.
    """
    named = os.environ.get("CXX")
    for name in (named,) if named else COMPILERS:
        try:
            words = shlex.split(name)
        except ValueError as error:
            raise NoKernels(f"the compiler CXX = {name!r} is no command: {error}") from error
        if words and shutil.which(words[0]):
            return words
    if named:
        raise NoKernels(f"the compiler CXX = {named!r} is not installed")
    raise NoKernels("there is no C++ compiler; install g++ or clang++")


def cache_folder() -> Path:
    """Where compiled kernels are kept: LPML_CACHE, or the user's cache."""
    chosen = os.environ.get("LPML_CACHE")
    if chosen:
        return Path(chosen)
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "lpml"


def library() -> Path:
    """The compiled kernels, from the cache or made now (some ten seconds).

    What was compiled elsewhere for the same sources, header and kind of processor serves where
    there is no compiler. A file that is not what was compiled is made anew.

    Raises:
      NoKernels: there is no compiler, or it fails, or the cache cannot be written.
    """
    try:
        command = compiler()
    except NoKernels:
        kept = [] if os.environ.get("CXX") else sorted(cache_folder().glob(_name("*")))
        for place in kept:
            if is_whole(place):
                return place
        raise
    place = cache_folder() / _name(_digest(repr(command).encode()))
    if is_whole(place):
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
            made = compiled(command, Path(scratch))
            _seal(made)
            os.replace(made, place)  # whole or not at all, whoever else compiles just now
    except OSError as error:
        where = f"{place.parent}: {error.strerror or error}"
        raise NoKernels(
            f"compiled kernels cannot be kept in {where}; set LPML_CACHE"
        ) from error
    return place


def is_whole(place: Path) -> bool:
    """Whether a file ends with the digest of the rest: a torn library would kill its user."""
    try:
        content = place.read_bytes()
    except OSError:
        return False
    return len(content) > DIGEST and content[-DIGEST:] == _seal_of(content[:-DIGEST])


def _seal(place):
    """Appends the digest; what is behind a library's last section is nobody's."""
    content = place.read_bytes()
    with place.open("ab") as file:
        file.write(_seal_of(content))


def _seal_of(content):
    return hashlib.sha256(content).digest()


def compiled(command: Sequence[str], folder: Path) -> Path:
    """Compiles every source side by side, and links them to one shared library in `folder`."""
    jobs = []
    for name in sources():
        out = folder / f"{name}.o"
        words = command_for(command, name, out)
        jobs.append((out, subprocess.Popen(words, stderr=subprocess.PIPE, text=True)))
    # every job is waited for, also where one before it failed
    errors = [job.communicate()[1] for _, job in jobs]
    for (out, job), error in zip(jobs, errors):
        if job.returncode:
            raise NoKernels(f"{command[0]} cannot compile {out.stem}: {_first_error(error)}")
    made = folder / "kernels.so"
    words = [*command, "-shared", "-pthread", *(str(out) for out, _ in jobs), "-o", str(made)]
    linked = subprocess.run(words, check=False, capture_output=True, text=True)
    if linked.returncode:
        raise NoKernels(f"{command[0]} cannot link: {_first_error(linked.stderr)}")
    return made


def command_for(command: Sequence[str], name: str, out: Path) -> list[str]:
    """The words that compile the source `name` to the object file `out`."""
    words = [*command, *FLAGS, *WIDER.get(name, []), "-isystem", str(jax.ffi.include_dir())]
    return [*words, "-c", str(SOURCES / name), "-o", str(out)]


def sources() -> list[str]:
    """The files that this machine's compiler is given."""
    wide = list(WIDER) if platform.machine().lower() in ("x86_64", "amd64") else []
    return [*PORTABLE, *wide]


def _name(compiler):
    """Of the library that a compiler makes, by its digest; "*": of those that any one makes."""
    return f"native-{_fingerprint()}-{compiler}.so"


def _fingerprint() -> str:
    """Changes with anything but the compiler that the kernels depend on."""
    parts = [path.name.encode() + path.read_bytes() for path in sorted(SOURCES.iterdir())]
    # the header fixes the interface to XLA, whatever version it comes with
    header = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api"
    parts += [path.read_bytes() for path in sorted(header.glob("*.h"))]
    return _digest(*parts, repr((FLAGS, WIDER, platform.machine())).encode())


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def _first_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    wrong = [line for line in lines if "error" in line.lower()]
    return (wrong or lines or ["no message"])[0][:300]
