"""What a network loses when its weights get few bits, with and without regard to the loss.

Paper: Hou and Kwok, Loss-aware weight quantization of deep networks, ICLR 2018, arXiv
1802.08635; whether its weighting beats unweighted scales per channel no paper says.
Shows: training loss and test accuracy of a network whose float weights were quantised, by bits
(a line of the log each), beside the float network's; `excess` says how uneven the curvature is.
Nothing is logged while the network trains: the section `measurement` names what is measured.

    python launch.py --config=configs/laq_against_unweighted.py
    python launch.py --config=configs/laq_against_unweighted.py --config.measurement.per=channel
    python launch.py --config=configs/laq_against_unweighted.py \
        --config.measurement.tuning_epochs=10 --config.measurement.solver=alternating
    python launch.py --config=configs/laq_against_unweighted.py --sweep   (the ways to quantise)
    python launch.py --experiment=laq_against_unweighted        (everything, the figures)

Expected: 97 % of the test digits right in float, 95 % with 3 bits and no further step; `excess`
of 1 %. Takes 20 s on two CPU cores. Variants: a size (tiny, default: digits; paper: MNIST).
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.variants import parse


def get_config(variant=""):
    """See the module's docstring."""
    size, _ = parse(variant)

    config = ConfigDict()
    config.seed = 1
    config.precision = "float32"
    config.measurement = dict(
        name="quantized_training",
        network="mlp",
        width={"tiny": 16, "default": 64, "paper": 256}[size],
        data="mnist" if size == "paper" else "digits",
        dir=placeholder(str),
        bits=(2,) if size == "tiny" else (1, 2, 3, 4),
        weighted=True,
        per="tensor",
        solver="exact",
        float_epochs=4 if size == "tiny" else 30,
        tuning_epochs=0,  # 0: the network is quantised, and no step follows
        learning_rate=1e-3 if size == "paper" else 3e-3,
        batch_size=64,
    )
    return config


def sweep():
    """With and without weighting, a scale per tensor or channel; three seeds."""
    for seed in (1, 2, 3):
        for per in ("tensor", "channel"):
            for weighted in (False, True):
                yield {
                    "measurement.per": per, "measurement.weighted": weighted, "seed": seed
                }  # fmt: skip
