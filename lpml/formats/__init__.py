"""Number formats: which values exist, and how a real number becomes one of them."""

from lpml.formats.block_scales import RULES as SCALE_RULES
from lpml.formats.dot import dot_general, matmul
from lpml.formats.exact import exact_matmul
from lpml.formats.exsdotp import exfma, expanding_matmul, exsdotp
from lpml.formats.fixed import Fixed
from lpml.formats.gradients import GRADIENTS, attach_gradient, check_gradient
from lpml.formats.integers import Symmetric
from lpml.formats.minifloat import (
    BFLOAT16,
    E2M1,
    E2M3,
    E3M2,
    E3M4,
    E4M3,
    E4M3FN,
    E5M2,
    FLOAT16,
    Minifloat,
)
from lpml.formats.names import by_name, names
from lpml.formats.packing import pack_codes, packed_size, unpack_codes
from lpml.formats.posit import Posit
from lpml.formats.presets import (
    MXFP4,
    MXFP6,
    MXFP8,
    MXINT8,
    NVFP4,
    VSQ,
    int_channel,
    tensor_scaled,
)
from lpml.formats.protocol import Format
from lpml.formats.quire import quire_dot, quire_matmul, rounded_matmul
from lpml.formats.randomness import GENERATORS, child_key, random_bits
from lpml.formats.rounding import MODES, check_mode, round_to_integer
from lpml.formats.scaled import Scaled
from lpml.formats.table import Table
from lpml.formats.vsq_dot import vsq_matmul

__all__ = [
    "BFLOAT16",
    "E2M1",
    "E2M3",
    "E3M2",
    "E3M4",
    "E4M3",
    "E4M3FN",
    "E5M2",
    "FLOAT16",
    "GENERATORS",
    "GRADIENTS",
    "MODES",
    "MXFP4",
    "MXFP6",
    "MXFP8",
    "MXINT8",
    "NVFP4",
    "SCALE_RULES",
    "VSQ",
    "Fixed",
    "Format",
    "Minifloat",
    "Posit",
    "Scaled",
    "Symmetric",
    "Table",
    "attach_gradient",
    "by_name",
    "check_gradient",
    "check_mode",
    "child_key",
    "dot_general",
    "exact_matmul",
    "exfma",
    "expanding_matmul",
    "exsdotp",
    "int_channel",
    "matmul",
    "names",
    "pack_codes",
    "packed_size",
    "quire_dot",
    "quire_matmul",
    "random_bits",
    "round_to_integer",
    "rounded_matmul",
    "tensor_scaled",
    "unpack_codes",
    "vsq_matmul",
]
