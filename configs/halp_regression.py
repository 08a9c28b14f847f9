"""Least squares with 100 features and 1000 samples: the convergence figure of HALP.

Paper: De Sa et al., High-accuracy low-precision training, arXiv 1803.03383, section 5.
Shows: 8-bit HALP keeps converging where low-precision SGD and SVRG stall.

    python launch.py --config=configs/halp_regression.py
    python launch.py --config=configs/halp_regression.py:svrg
    python launch.py --config=configs/halp_regression.py --sweep     (bits against svrg)
    python launch.py --experiment=halp_regression        (all methods, the figure)

Expected: halp with 8 bits ends at a gradient norm of 2e-14 (below 1e-12), svrg at 2e-12,
sgd at 0.5, lp_sgd and lp_svrg with 8 bits at about 45.
Takes 5 s on a laptop CPU. Variants: a size (tiny; paper is the default's size) and a method:
halp, lm_halp, svrg, lp_svrg, lp_sgd, sgd.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.halp_methods import METHODS, optimizer
from configs.variants import parse


def get_config(variant=""):
    """See the module's docstring."""
    size, method = parse(variant, methods=METHODS)
    tiny = size == "tiny"
    samples, features = (100, 10) if tiny else (1000, 100)
    inner_steps = 2 * samples

    config = ConfigDict()
    config.seed = 1
    config.precision = "float64"  # of data, anchor and full gradient; HALP's steps are float32
    config.data = dict(
        name="synthetic_regression",
        samples=samples,
        features=features,
        noise=1.0,
        input_bits=8 if method == "lm_halp" else placeholder(int),
        seed=0xC0FFEE,
        dir=placeholder(str),
    )
    config.model = dict(name="linear_regression", l2=0.0)
    config.optim = optimizer(
        method,
        learning_rate=5e-3 if tiny else 5e-4,
        inner_steps=inner_steps,
        radius=102.0 if tiny else 88.5,  # 1.02 max|w*|: the best a fixed box can be
        mu=2.0 if tiny else 4.0,
    )
    config.train = dict(
        steps=50 * inner_steps,
        batch_size=1,
        sampling="replacement",
        log_every=inner_steps,
        checkpoint_every=10 * inner_steps,
        objective="full",
    )
    return config


def sweep():
    """Bit widths of HALP and, in full precision, SVRG; three seeds each."""
    for seed in (1, 2, 3):
        for bits in (4, 5, 6, 8, 12, 16):
            yield {"optim.bits": bits, "seed": seed}
        yield {"variant": "svrg", "seed": seed}
