"""How much stochastic rounding lengthens a gradient, by its number of entries.

Paper: Hou, Zhang and Kwok, Analysis of quantized models, ICLR 2019, propositions 1 and 2.
Shows: the mean of ||Q(g)||^2 / ||g||^2 over normal gradients sent in `bits` bits, a line of the
log for each number of entries. It grows with the tensor, unless gradients are clipped. Nothing
is trained.

    python launch.py --config=configs/laq_bounds.py
    python launch.py --config=configs/laq_bounds.py --config.measurement.clip=3.0
    python launch.py --config=configs/laq_bounds.py --config.measurement.spike=True
    python launch.py --config=configs/laq_bounds.py --sweep   (bits, with and without clipping)
    python launch.py --experiment=laq_bounds                  (beside the bounds, the figure)

Expected: of 2 bits 2.8 with 1600 entries and 4.0 with 884736; clipped at 3 standard deviations
2.4 whatever their number. Takes 5 s on two CPU cores. Variants: a size (tiny, default; paper is
as default): the default has the sizes of CifarNet's layers, 1600 to 884736.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.variants import parse


def get_config(variant=""):
    """See the module's docstring."""
    size, _ = parse(variant)
    tiny = size == "tiny"

    config = ConfigDict()
    config.seed = 1
    config.precision = "float32"
    config.measurement = dict(
        name="gradient_blow_up",
        bits=2,
        clip=placeholder(float),
        # of CifarNet's convolutions (for each input map) and dense layers, and one between
        sizes=(1600, 12_800, 40_000) if tiny else (1600, 12_800, 73_728, 262_144, 884_736),
        spike=False,
        trials=8 if tiny else 16,
    )
    return config


def sweep():
    """2 to 4 bits, clipped at one to three deviations and not at all; three seeds."""
    for seed in (1, 2, 3):
        for bits in (2, 3, 4):
            for clip in (1.0, 2.0, 3.0, None):
                yield {"measurement.bits": bits, "measurement.clip": clip, "seed": seed}
