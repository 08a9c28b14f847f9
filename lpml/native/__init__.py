"""Compiled CPU kernels for linear models, called through XLA's FFI, a call for many steps.

They are optional: `why_not` says in one sentence why there are none. The rest of lpml has a
path in JAX for everything that they do.
"""

from lpml.native.build import NoKernels
from lpml.native.calls import (
    LOSSES,
    SHIFTS,
    Pass,
    Places,
    Seen,
    Steps,
    float_steps,
    full_pass,
    halp_steps,
    noise_shape,
    nothing_seen,
    padded,
    seen,
    stride_of,
)
from lpml.native.library import BACKENDS, Backend, instructions, kernels, runs, why_not

__all__ = [
    "BACKENDS",
    "LOSSES",
    "SHIFTS",
    "Backend",
    "NoKernels",
    "Pass",
    "Places",
    "Seen",
    "Steps",
    "float_steps",
    "full_pass",
    "halp_steps",
    "instructions",
    "kernels",
    "noise_shape",
    "nothing_seen",
    "padded",
    "runs",
    "seen",
    "stride_of",
    "why_not",
]
