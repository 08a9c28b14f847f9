"""The error of long sums of 8- and 16-bit products, rounded once for two products or for each.

Paper: Bertaccini et al., MiniFloat-NN and ExSdotp: an ISA extension and a modular open hardware
unit for low-precision training on RISC-V cores, ARITH 2022, arXiv 2207.03192, Table IV.
Shows: RMS errors of ExSdotp and of a cascade of two ExFMAs relative to the RMS of the sum, and
their ratio, for Gaussian numbers, along the sum. Nothing is trained.

    python launch.py --config=configs/exsdotp_accuracy.py
    python launch.py --config=configs/exsdotp_accuracy.py --config.measurement.source=e4m3
    python launch.py --config=configs/exsdotp_accuracy.py --sweep   (pairs of formats)
    python launch.py --experiment=exsdotp_accuracy                  (the figure and the claims)

Expected: of sums of 2000 products, e5m2 into float16: ExSdotp 4.4e-3, 0.72 to 0.84 of ExFMA's.
Takes 4 s on two CPU cores. Variants: a size (tiny, default; paper is as default).
"""

from ml_collections import ConfigDict

from configs.variants import parse


def get_config(variant=""):
    """See the module's docstring."""
    size, _ = parse(variant)
    tiny = size == "tiny"

    config = ConfigDict()
    config.seed = 1
    config.precision = "float64"  # of the reference; the units' sums are in their own formats
    config.measurement = dict(
        name="expanding_sum_error",
        source="e5m2",
        into="float16",
        length=200 if tiny else 2000,
        every=100,
        # RMS errors of 20 000 sums are known to half a percent
        trials=1000 if tiny else 20_000,
    )
    return config


def sweep():
    """The pairs of formats that the unit has; three seeds."""
    for seed in (1, 2, 3):
        for source, into in (
            ("e5m2", "float16"),
            ("e4m3", "float16"),
            ("e5m2", "bfloat16"),
            ("float16", "float32"),
            ("bfloat16", "float32"),
        ):
            yield {"measurement.source": source, "measurement.into": into, "seed": seed}
