"""Decimal accuracy of posits and floats along the number line.

Paper: Gustafson and Yonemoto, Beating floating point at its own game: posit arithmetic,
Supercomputing Frontiers and Innovations 4(2), 2017; Standard for Posit Arithmetic, 2022.
Shows: errors of rounding to a format, a line of the log for each binade: posits have their
digits around 1 and lose them towards both ends, floats have the same everywhere until they end.
Nothing is trained.

    python launch.py --config=configs/posit_accuracy.py
    python launch.py --config=configs/posit_accuracy.py --config.measurement.format=bfloat16
    python launch.py --config=configs/posit_accuracy.py --sweep   (formats of 8, 16 and 32 bits)
    python launch.py --experiment=posit_accuracy                  (the figure and the claims)

Expected: posit16 is right to 4.35 decimals from 2^-4 to 2^4, float16 to 4.05 from 2^-14 to
2^16; in the mean from 2^-40 to 2^40 to 2.99 and 1.84. Takes 2 s on two CPU cores. Variants: a
size (tiny, default; paper is as default).
"""

from ml_collections import ConfigDict

from configs.variants import parse


def get_config(variant=""):
    """See the module's docstring."""
    size, _ = parse(variant)

    config = ConfigDict()
    config.seed = 1
    config.precision = "float64"  # of the numbers that are rounded
    config.measurement = dict(
        name="decimal_accuracy",
        format="posit16",
        lowest=-40,
        highest=40,
        # many in each gap of a 16-bit format, so that some lie next to the worst place
        samples=2048 if size == "tiny" else 65_536,
    )
    return config


def sweep():
    """Posits and floats of 8, 16 and 32 bits; three seeds."""
    formats = "posit8 e4m3fn e5m2 posit16 posit16es1 float16 bfloat16 posit32 float32"
    for seed in (1, 2, 3):
        for name in formats.split():
            yield {"measurement.format": name, "seed": seed}
