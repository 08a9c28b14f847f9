"""The error of matrix products in posits, with and without a quire, and in float32.

Paper: Mallasen et al., PERCIVAL: open-source posit RISC-V core with quire capability, IEEE
Transactions on Emerging Topics in Computing 10(3), 2022, arXiv 2111.15286.
Shows: the mean squared error of a product of two matrices of uniform numbers against float64.
Nothing is trained: the section `measurement` names what is measured.

    python launch.py --config=configs/posit_gemm.py
    python launch.py --config=configs/posit_gemm.py --config.measurement.limit=1000.0
    python launch.py --config=configs/posit_gemm.py --sweep   (the ways of adding up)
    python launch.py --experiment=posit_gemm                  (sizes and ranges, the figure)

Expected: of 256 x 256 numbers in [-1, 1] float32 2.4e-12, posit32 9.9e-15 without and 1.94e-16
with a quire. Takes 2 s on two CPU cores. Variants: a size (tiny, default; paper is as default).
"""

from ml_collections import ConfigDict

from configs.variants import parse


def get_config(variant=""):
    """See the module's docstring."""
    size, _ = parse(variant)

    config = ConfigDict()
    config.seed = 1
    config.precision = "float64"  # posits of 32 bits are computed in 64-bit integers
    config.measurement = dict(
        name="matmul_error",
        format="posit32",
        sum="quire",
        size=16 if size == "tiny" else 256,
        limit=1.0,
        trials=1,
    )
    return config


def sweep():
    """The ways of adding up, of posits and of their float peers; three seeds."""
    for seed in (1, 2, 3):
        for name, sums in (
            ("float32", ("rounded", "fma")),
            ("posit32", ("rounded", "quire")),
            ("posit16", ("rounded", "quire", "float32")),
            ("float16", ("fma", "float32")),
        ):
            for way in sums:
                yield {"measurement.format": name, "measurement.sum": way, "seed": seed}
