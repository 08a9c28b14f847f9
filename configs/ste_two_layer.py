"""Descent with the coarse gradients of ReLU and clipped ReLU, and none with the identity's.

Paper: Yin et al., Understanding straight-through estimator in training activation quantized
neural nets, ICLR 2019, arXiv 1903.05662 (algorithm 1 and theorem 1).
Shows: how 200 random students with step activations learn from as many teachers, with exact
expectations in place of samples: whose loss never rises, and where they are in the end.

    python launch.py --config=configs/ste_two_layer.py
    python launch.py --config=configs/ste_two_layer.py --config.measurement.estimator=identity
    python launch.py --config=configs/ste_two_layer.py --sweep   (estimators, three seeds)
    python launch.py --experiment=ste_two_layer                  (all starts, the figures)

Expected: from ||w|| = 10 with ReLU and clipped ReLU all 200 losses never rise, with the
identity 73 to 76 % of them. Takes 3 s on two CPU cores.
Variants: a size (tiny, default; paper is as default).
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
    config.precision = "float64"
    config.measurement = dict(
        name="coarse_descent",
        estimator="relu",
        length=10.0,
        distance=placeholder(float),  # from the spurious minimum; without it, start anywhere
        balanced=False,
        rate=0.02,
        steps=8000 if tiny else 40_000,
        lines=20 if tiny else 100,
        teachers=30 if tiny else 200,
        hidden=8,
        inputs=16,
    )
    return config


def sweep():
    """The three estimators; three seeds."""
    for seed in (1, 2, 3):
        for estimator in ("identity", "relu", "clipped_relu"):
            yield {"measurement.estimator": estimator, "seed": seed}
