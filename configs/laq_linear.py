"""A linear model whose weights are quantised with regard to the loss, by many workers.

Paper: Hou, Zhang and Kwok, Analysis of quantized models, ICLR 2019, section 4.1 and figure 2.
Shows: weights of one bit (LAB, chosen with the curvature that RMSProp estimates) and gradients
sent in few bits. `loss` is the mean of squared errors over the steps since the last line: the
paper's is half of it, and 0.04 is the noise.

    python launch.py --config=configs/laq_linear.py
    python launch.py --config=configs/laq_linear.py --config.workers.bits=2
    python launch.py --config=configs/laq_linear.py --config.data.features=1024
    python launch.py --config=configs/laq_linear.py --sweep   (weights and gradients)
    python launch.py --experiment=laq_dimension_linear        (dimensions, the figure)

Expected: with 256 features the loss stays at 0.7, as binary weights cannot do better than 0.48;
float weights (`float`) get down to 0.04. Takes 10 s on two CPU cores. Variants: a size (tiny,
default; paper is the default with 1024 features) and a method: quantised, float.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.variants import parse


def get_config(variant=""):
    """See the module's docstring."""
    size, method = parse(variant, methods=("quantised", "float"))
    features, samples, steps = {
        "tiny": (16, 1000, 200),
        "default": (256, 20000, 6000),
        "paper": (1024, 20000, 6000),
    }[size]

    config = ConfigDict()
    config.seed = 1
    config.precision = "float32"
    config.data = dict(
        name="uniform_regression",
        samples=samples,
        features=features,
        noise=0.2,
        seed=0,
        dir=placeholder(str),
    )
    config.model = dict(name="linear_regression", l2=0.0)
    config.optim = dict(
        name="loss_aware",
        inner="rmsprop",
        learning_rate=0.03,
        schedule="sqrt",
        b2=0.99,
        bits=1 if method == "quantised" else placeholder(int),
        levels="linear",
        clip=0.5,  # of the full-precision weights: those of the true model are in this box
    )
    config.workers = dict(
        count=1,
        bits=placeholder(int),
        clip=placeholder(float),
        exempt_below=0,  # the only tensor is sent in few bits however small it is
    )
    config.train = dict(
        steps=steps,
        batch_size=64,
        sampling="replacement",
        log_every=steps // 20,
        checkpoint_every=steps // 2,
        objective="batch",
    )
    return config


def sweep():
    """Weights of one bit and in full precision; gradients of 2, 4 bits, whole; three seeds."""
    for seed in (1, 2, 3):
        for method in ("quantised", "float"):
            for bits in (2, 4, None):
                yield {"variant": method, "workers.bits": bits, "seed": seed}
