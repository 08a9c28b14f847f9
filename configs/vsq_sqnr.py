"""The noise of rounding to few bits with a scale per vector, against other ways to scale.

Paper: Dai et al., VS-Quant: per-vector scaled quantization for accurate low-precision neural
network inference, MLSys 2021, arXiv 2102.04503 (two-level scales, rounded scale products).
Shows: the signal to quantisation noise in dB of random arrays, by vector size, width of the
scales and tails of the numbers, and what an element costs. Nothing is trained.

    python launch.py --config=configs/vsq_sqnr.py
    python launch.py --config=configs/vsq_sqnr.py --config.measurement.distribution=laplace
    python launch.py --config=configs/vsq_sqnr.py --axis=measurement.block=16,32,64 \\
        --axis=measurement.scale_bits=4,6,8,32       (32: float32 scales)
    python launch.py --config=configs/vsq_sqnr.py --sweep   (blocks, scale bits, three seeds)
    python launch.py --config=configs/vsq_sqnr.py:named --config.measurement.format=nvfp4
    python launch.py --config=configs/vsq_sqnr.py:product --config.measurement.product_bits=6
    python launch.py --experiment=vsq_sqnr                  (the figures)

Expected: of Gaussian numbers, in dB, VSQ of 4 bits, vectors of 16 and 4-bit scales 21.2, NVFP4
20.4, int4 per channel 16.1, within 0.1; a product of two such VSQ matrices 18.2. Takes 2 s on
two CPU cores.
Variants: a size (tiny, default; paper is as default), and one of vsq (VSQ by its numbers),
named (any format by its name), product (a matrix product), exponents (of MX scales).
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.variants import parse


def get_config(variant=""):
    """See the module's docstring."""
    size, kind = parse(variant, methods=("vsq", "named", "product", "exponents"))
    tiny = size == "tiny"
    array = dict(rows=32 if tiny else 512, columns=512 if tiny else 4096)

    config = ConfigDict()
    config.seed = 1
    config.precision = "float32"
    config.measurement = {
        "vsq": dict(
            name="vsq_sqnr",
            bits=4,
            block=16,
            scale_bits=4,
            order="requantise",
            outer="row",
            distribution="gaussian",
            **array,
        ),
        "named": dict(name="sqnr", format="vsq4v16m4", distribution="gaussian", **array),
        "product": dict(
            name="product_sqnr",
            activations="vsq4v16m4",
            weights="vsq4v16m4",
            product_bits=placeholder(int),
            distribution="gaussian",
            rows=16 if tiny else 128,
            contracted=256 if tiny else 1024,
            columns=16 if tiny else 128,
        ),
        "exponents": dict(name="scale_exponents", format="mxfp4"),
    }[kind]
    return config


def sweep():
    """Vector sizes and widths of the scales, 32 bits being float32; three seeds."""
    for seed in (1, 2, 3):
        for block in (16, 32, 64):
            for scale_bits in (4, 6, 8, 32):
                yield {
                    "measurement.block": block,
                    "measurement.scale_bits": scale_bits,
                    "seed": seed,
                }
