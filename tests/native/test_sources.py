"""The C++ sources: without warnings, under sanitizers, and AVX-512 on any processor."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from lpml import native
from lpml.native import build

HERE = Path(__file__).parent
COMPILERS = [name for name in build.COMPILERS if shutil.which(name)]
SIMDE = Path("/usr/include/simde/x86/avx512.h")
ON_X86 = platform.machine().lower() in ("x86_64", "amd64")
PLAIN = ("plain.cc", "loops.cc", "passes.cc")

pytestmark = [
    pytest.mark.skipif(not COMPILERS, reason="there is no C++ compiler"),
    pytest.mark.skipif(not ON_X86, reason="the sets compared are those of x86-64"),
]


def built(folder, sources, *flags, wider=build.WIDER):
    """Compiles sources of the kernels and the comparison side by side, and links them."""
    compiler = COMPILERS[0]
    words = [compiler, "-O1", *build.FLAGS[:1], *build.FLAGS[3:], f"-I{build.SOURCES}", *flags]
    jobs = []
    for source in (*(build.SOURCES / name for name in sources), HERE / "compare_sets.cc"):
        out = folder / f"{source.name}.o"
        own = wider.get(source.name, [])
        command = [*words, *own, "-c", str(source), "-o", str(out)]
        jobs.append((out, subprocess.Popen(command, stderr=subprocess.PIPE, text=True)))
    errors = [job.communicate()[1] for _, job in jobs]
    assert not any(job.returncode for _, job in jobs), "\n".join(errors)[:3000]
    program = folder / "compare"
    linker = [compiler, "-pthread", *(f for f in flags if f.startswith("-fsanitize"))]
    subprocess.run([*linker, *(str(out) for out, _ in jobs), "-o", str(program)], check=True)
    return program


def compared(program, *names):
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.split() == [word for name in names for word in (name, "compared")]


def here():
    return [name for name in ("plain", "avx2", "avx512") if native.runs(name)]


@pytest.mark.skipif(not SIMDE.exists(), reason="SIMDe (libsimde-dev) is not installed")
def test_avx512_in_software_equals_the_plain_set(tmp_path):
    flags = ("-Wno-psabi", f"-I{HERE / 'shim'}", "-DLPML_SOFTWARE_AVX512")
    compared(built(tmp_path, (*PLAIN, "avx512.cc"), *flags, wider={}), "avx512")


@pytest.mark.slow
def test_all_sets_compared_under_the_address_and_undefined_behaviour_sanitizers(tmp_path):
    flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g1")
    compared(built(tmp_path, (*PLAIN, *build.WIDER), *flags), *here())


@pytest.mark.slow
def test_all_sets_compared_under_the_thread_sanitizer(tmp_path):
    compared(built(tmp_path, (*PLAIN, *build.WIDER), "-fsanitize=thread", "-g1"), *here())


@pytest.mark.slow
@pytest.mark.parametrize("compiler", COMPILERS)
def test_no_source_makes_a_warning(compiler, tmp_path):
    strict = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    # GCC 12 takes the undefined registers of its own header for a mistake of its caller's
    strict.append("-Wno-maybe-uninitialized" if "clang" not in compiler else "-Wno-psabi")
    command = [compiler, *strict]
    for name in build.sources():
        words = build.command_for(command, name, tmp_path / "out.o")
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr[:3000]
