"""A small network at 4 and 8 bits: HALP with one grid spacing per layer.

Paper: De Sa et al., High-accuracy low-precision training, arXiv 1803.03383, the non-convex
part, on a problem of laptop size: digits, 64-64-10 units, tanh.
Shows: with 8 bits all methods train; with 4 bits HALP ends well below LP-SGD and LP-SVRG.

    python launch.py --config=configs/halp_mlp.py --config.optim.bits=4
    python launch.py --config=configs/halp_mlp.py --config.optim.layer_offsets=e4m3fn
    python launch.py --config=configs/halp_mlp.py --sweep    (bits of three methods)
    python launch.py --experiment=halp_mlp               (all methods, the figure)

Expected: see experiments/halp_mlp.py. Variants: a size (tiny, default; paper is the default's
size) and a method: halp, svrg, lp_svrg, lp_sgd, sgd.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.halp_methods import METHODS, optimizer
from configs.variants import parse


def get_config(variant=""):
    """See the module's docstring."""
    size, method = parse(variant, methods=tuple(m for m in METHODS if m != "lm_halp"))
    tiny = size == "tiny"
    samples, epochs = (250, 10) if tiny else (1500, 40)
    inner_steps = 2 * samples // 25

    config = ConfigDict()
    config.seed = 1
    config.precision = "float32"
    config.data = dict(name="digits", train_samples=samples, seed=0, dir=placeholder(str))
    config.model = dict(name="mlp", hidden=(64,), activation="tanh", l2=0.0)
    config.optim = optimizer(
        method, learning_rate=0.2, inner_steps=inner_steps, radius=1.0, mu=0.3, scale="leaf"
    )
    config.train = dict(
        steps=epochs * inner_steps,
        batch_size=25,
        sampling="shuffle",
        log_every=inner_steps,
        checkpoint_every=10 * inner_steps,
        objective="full",
        full_batch_size=1500,
    )
    return config


def sweep():
    """Bit widths of HALP and what it is compared with, SVRG in full precision; three seeds."""
    for seed in (1, 2, 3):
        for method in ("halp", "lp_svrg", "lp_sgd"):
            for bits in (4, 6, 8):
                yield {"variant": method, "optim.bits": bits, "seed": seed}
        yield {"variant": "svrg", "seed": seed}
