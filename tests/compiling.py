"""Whether this machine can have native kernels at all: the one reason to skip their tests.

A compiler that is there and fails must not pass for one that is not.
"""

import pytest

from lpml.native import NoKernels, runs
from lpml.native.build import compiler


def _why_not():
    try:
        compiler()
    except NoKernels as reason:
        return str(reason)
    return None


needs_kernels = pytest.mark.skipif(_why_not() is not None, reason=str(_why_not()))

NAMES = ("plain", "avx2", "avx512")
SETS = NAMES if _why_not() else tuple(name for name in NAMES if runs(name))
"""The instruction sets that run here."""
