"""Multinomial logistic regression: HALP on a real convex problem.

Paper: De Sa et al., High-accuracy low-precision training, arXiv 1803.03383 (convex problems).
Shows: 8-bit HALP reaches the optimum of a regularised classifier; LP-SGD and LP-SVRG stall.

    python launch.py --config=configs/halp_logistic.py
    python launch.py --config=configs/halp_logistic.py:paper --config.data.dir=DATA
    python launch.py --config=configs/halp_logistic.py --sweep   (bits against svrg)
    python launch.py --experiment=halp_logistic          (all methods, the figure)

The default is scikit-learn's digits (1500 images of 64 pixels); `paper` is MNIST (60 000 of
784), whose four IDX files lie in DATA/mnist. Expected: see experiments/halp_logistic.py.
Variants: a size (tiny, default, paper) and a method: halp, lm_halp, svrg,
lp_svrg, lp_sgd, sgd.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.halp_methods import METHODS, optimizer
from configs.variants import parse

SETTINGS = {
    #          N      batch  rate  epochs  l2    mu    radius
    "tiny": (200, 10, 0.4, 30, 1e-1, 0.3, 0.5),
    "default": (1500, 10, 0.4, 40, 1e-2, 0.05, 1.2),
    "paper": (60000, 100, 0.2, 30, 1e-2, 0.15, 0.42),
}


def get_config(variant=""):
    """See the module's docstring."""
    size, method = parse(variant, methods=METHODS)
    samples, batch_size, rate, epochs, l2, mu, radius = SETTINGS[size]
    inner_steps = 2 * samples // batch_size

    config = ConfigDict()
    config.seed = 1
    config.precision = "float64"  # of data, anchor and full gradient; HALP's steps are float32
    if size == "paper":
        config.data = dict(name="mnist", flat=True, limit=samples, verify=True)
    else:
        config.data = dict(name="digits", train_samples=samples)
    config.data.seed = 0
    config.data.dir = placeholder(str)
    config.data.input_bits = 8 if method == "lm_halp" else placeholder(int)
    config.model = dict(name="multinomial_regression", l2=l2)
    config.optim = optimizer(
        method, learning_rate=rate, inner_steps=inner_steps, radius=radius, mu=mu
    )
    config.train = dict(
        steps=epochs * inner_steps,
        batch_size=batch_size,
        sampling="replacement",
        log_every=inner_steps,
        checkpoint_every=10 * inner_steps,
        objective="full",
        full_batch_size=6000 if size == "paper" else 1500,
    )
    return config


def sweep():
    """Bit widths of HALP and, in full precision, SVRG; three seeds each."""
    for seed in (1, 2, 3):
        for bits in (4, 6, 8, 12, 16):
            yield {"optim.bits": bits, "seed": seed}
        yield {"variant": "svrg", "seed": seed}
