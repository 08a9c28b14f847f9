"""Inverse fourth roots by eigendecomposition, two SVDs and Newton's iteration.

Paper: Anil et al., Scalable Second Order Optimization for Deep Learning, arXiv 2002.09018,
whose roots are by coupled Newton iteration because that is cheaper than an SVD.
Shows: the distance to a root that is known, what the solver itself reports, and seconds, by
size, condition number, precision and ridge. Nothing is trained.

    python launch.py --config=configs/shampoo_roots.py
    python launch.py --config=configs/shampoo_roots.py --config.measurement.condition=1e10
    python launch.py --config=configs/shampoo_roots.py --sweep   (precisions and conditions)
    python launch.py --experiment=shampoo_roots                  (the figure and the claims)

Expected: at n = 256 and condition 1e6 in float64 decompositions are exact to 4e-12 and Newton's
iteration to 1e-6, after 19 steps. Takes 2 s on two CPU cores. Variants: a size (tiny, default;
paper is as default, but for the sizes of the experiment).
"""

from ml_collections import ConfigDict

from configs.variants import parse


def get_config(variant=""):
    """See the module's docstring."""
    size, _ = parse(variant)
    tiny = size == "tiny"

    config = ConfigDict()
    config.seed = 1
    config.precision = "float64"  # of the reference; `dtype` is the solvers'
    config.measurement = dict(
        name="root_accuracy",
        size=16 if tiny else 256,
        condition=1e6,
        exponent=4,
        dtype="float64",
        epsilon=0.0,  # the ridge, in units of the largest eigenvalue
        rounds=1 if tiny else 3,
    )
    return config


def sweep():
    """Conditions in float64 without a ridge and in float32 with that of 1e-6; three seeds."""
    for seed in (1, 2, 3):
        for dtype, epsilon in (("float64", 0.0), ("float32", 1e-6)):
            for condition in (1e2, 1e4, 1e6, 1e8, 1e10):
                yield {
                    "measurement.dtype": dtype,
                    "measurement.epsilon": epsilon,
                    "measurement.condition": condition,
                    "seed": seed,
                }
