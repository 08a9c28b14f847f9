"""The formats that a contract is held against: for every exported class, some instances."""

import numpy as np

from lpml import formats

NORMAL_FLOAT = (
    *(-1.0, -0.69619, -0.52507, -0.39492, -0.28444, -0.18477, -0.09105, 0.0),
    *(0.07958, 0.16093, 0.24611, 0.33792, 0.44071, 0.56262, 0.72296, 1.0),
)

# Instances with at most 2^16 values; spacings that are and are not powers of two.
INSTANCES = {
    "Fixed": {
        "2 bits": formats.Fixed(0.5, 2),
        "4 bits of 0.1": formats.Fixed(0.1, 4),
        "8 bits to 1": formats.Fixed.spanning(1.0, 8),
        "8 bits of 2^-20": formats.Fixed(2.0**-20, 8),
        "11 bits of 1e10": formats.Fixed(1e10, 11),
        "16 bits of 1/3": formats.Fixed(1 / 3, 16),
    },
    "Minifloat": {
        "E4M3FN": formats.E4M3FN,
        "E5M2": formats.E5M2,
        "E2M1": formats.E2M1,
        "E3M2": formats.E3M2,
        "E6M0": formats.Minifloat(6, 0),
        "E1M4": formats.Minifloat(1, 4, special="finite"),
        "FLOAT16": formats.FLOAT16,
        "BFLOAT16": formats.BFLOAT16,
    },
    "Posit": {
        "3 bits": formats.Posit(3, 1),
        "8 bits es 0": formats.Posit(8, 0),
        "8 bits": formats.Posit(8),
        "9 bits es 3": formats.Posit(9, 3),
        "16 bits es 1": formats.Posit(16, 1),
        "16 bits": formats.Posit(16),
    },
    "Symmetric": {
        "4 bits": formats.Symmetric(1.0, 4),
        "unsigned 4 bits of 0.1": formats.Symmetric(0.1, 4, signed=False),
        "8 bits of 2^-6": formats.Symmetric(2.0**-6, 8),
    },
    "Table": {
        "4 values": formats.Table([-2.0, -0.5, 0.0, 1.0]),
        "NormalFloat": formats.Table(NORMAL_FLOAT),
        "cubes": formats.Table(np.arange(-150, 151.0) ** 3 / 7),
    },
}
CASES = {f"{name}, {label}": fmt for name, of in INSTANCES.items() for label, fmt in of.items()}
