"""The compiled kernels in this process: loaded once, told to XLA, or the reason why not."""

import ctypes
import functools
from typing import Literal

import jax

from lpml.native.build import NoKernels, library

BACKENDS = ("jax", "native", "auto")
Backend = Literal["jax", "native", "auto"]
HANDLERS = ("lpml_halp", "lpml_svrg", "lpml_pass")
INSTRUCTIONS = ("plain", "avx2", "avx512")


@functools.cache
def _loaded() -> ctypes.CDLL | NoKernels:
    try:
        shared = ctypes.CDLL(str(library()))
    except NoKernels as reason:
        return reason
    except OSError as error:
        return NoKernels(f"the compiled kernels cannot be loaded: {error}")
    shared.lpml_instructions.restype = ctypes.c_char_p
    for name in HANDLERS:
        capsule = jax.ffi.pycapsule(getattr(shared, name))
        jax.ffi.register_ffi_target(name, capsule, platform="cpu")
    return shared


def kernels() -> ctypes.CDLL:
    """The loaded library; compiled first where it must be.

    Raises:
      NoKernels: it cannot be had; the message says why and what to do.
    """
    shared = _loaded()
    if isinstance(shared, NoKernels):
        raise NoKernels(str(shared))
    return shared


def why_not() -> str | None:
    """One sentence why there are no kernels here; None where there are.

    They run on the CPU: with another default device there are none.
    """
    platform = jax.default_backend()
    if platform != "cpu":
        return f"the kernels run on a CPU, and JAX's default device is a {platform}"
    try:
        kernels()
    except NoKernels as reason:
        return str(reason)
    return None


def instructions() -> str:
    """The widest instruction set that both the kernels and this processor know."""
    return kernels().lpml_instructions().decode()


def runs(name: str) -> bool:
    """Whether this processor runs the kernels' instruction set `name`."""
    return bool(kernels().lpml_runs(name.encode()))
