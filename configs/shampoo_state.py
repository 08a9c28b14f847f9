"""Shampoo with its statistics and roots in few bits: errors of the direction, and training.

Paper: Wang et al., 4-bit Shampoo for Memory-Efficient Network Training, arXiv 2405.18144;
Li et al., Memory-Efficient 4-bit Preconditioned Stochastic Optimization, arXiv 2412.10663.
Shows: method `error`: statistics, roots and direction of a state in few bits beside float32,
of gradients whose covariance turns half-way; nothing is trained. Method `training`: a ReLU
network on digits by Shampoo. Method `float`: the same with a float32 state.

    python launch.py --config=configs/shampoo_state.py
    python launch.py --config=configs/shampoo_state.py --config.measurement.form=entries
    python launch.py --config=configs/shampoo_state.py:training
    python launch.py --config=configs/shampoo_state.py --sweep   (formats and forms)
    python launch.py --experiment=shampoo_state                  (the figure and the claims)

Expected: a cosine of 0.996 with float32's direction in int8, with 3 bytes per parameter for
16; of 0.98 in vsq4. Takes 8 s on two CPU cores, `training` 15 s. Variants: a size (tiny,
default, paper) and a method: error, training, float.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.variants import parse

SIZES = {"tiny": 8, "default": 32, "paper": 128}


def get_config(variant=""):
    """See the module's docstring."""
    size, method = parse(variant, methods=("error", "training", "float"))
    config = ConfigDict()
    config.seed = 1
    config.precision = "float32"
    if method != "error":
        return _training(config, size, method)
    config.measurement = dict(
        name="shampoo_state_error",
        size=SIZES[size],
        samples=32,
        condition=1e4,
        turned=True,
        steps=40 if size == "tiny" else 600,
        beta2=0.99,
        exponent=4,
        epsilon=1e-5,  # of the damping, relative
        statistics_format="int8",
        roots_format="int8",
        form="factor",
        rounding="stochastic",
        count=2 if size == "tiny" else 4,
    )
    return config


def _training(config, size, method):
    samples, epochs = {"tiny": (128, 3), "default": (1024, 15), "paper": (1024, 60)}[size]
    batch_size = 32
    epoch = samples // batch_size
    config.data = dict(name="digits", train_samples=samples, seed=0, dir=placeholder(str))
    config.model = dict(name="mlp", hidden=(64, 64), activation="relu", l2=0.0)
    config.optim = dict(
        name="shampoo",
        learning_rate=1e-3,
        refresh_every=10,
        start_at=10,
        root="eigh",
        epsilon=1e-5,
        statistics_format="int8",
        roots_format="int8",
        state_form="factor",
        state_rounding="stochastic",
    )
    if method == "float":
        config.optim.statistics_format = config.optim.roots_format = placeholder(str)
    config.train = dict(
        steps=epochs * epoch,
        batch_size=batch_size,
        sampling="shuffle",
        log_every=epoch,
        checkpoint_every=10 * epoch,
        objective="full",
        full_batch_size=1024,
    )
    return config


def sweep():
    """Formats of both kinds of matrices in both forms; three seeds."""
    for seed in (1, 2, 3):
        for form in ("factor", "entries"):
            for name in ("int16", "int8", "e4m3fn", "posit8", "vsq4", "nvfp4", "int4"):
                yield {
                    "measurement.statistics_format": name,
                    "measurement.roots_format": name,
                    "measurement.form": form,
                    "seed": seed,
                }
