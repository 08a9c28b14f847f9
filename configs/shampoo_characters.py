"""A Transformer that tells the next character, trained by Shampoo and by what it is compared to.

Paper: Anil et al., Scalable Second Order Optimization for Deep Learning, arXiv 2002.09018;
Gupta, Koren and Singer, Shampoo, ICML 2018, arXiv 1802.09568.
Shows: training and test loss in nats a character by steps, for Shampoo with blocks, grafting
and roots renewed every `optim.refresh_every` steps, and for diagonal methods.

    python launch.py --config=configs/shampoo_characters.py
    python launch.py --config=configs/shampoo_characters.py:adam
    python launch.py --config=configs/shampoo_characters.py --config.optim.refresh_every=100
    python launch.py --config=configs/shampoo_characters.py:shampoo,paper --config.data.dir=DATA
    python launch.py --config=configs/shampoo_characters.py:paper --config.model.width=512 \
        --config.model.layers=6 --config.train.batch_size=256    (for a GPU)
    python launch.py --config=configs/shampoo_characters.py --sweep   (methods, and few bits)

Expected: Shampoo is where Adam ends after some 60 % of the steps.
Takes 15 s on two CPU cores. Variants: a size and a method (shampoo, adam, momentum). Sizes tiny
and default learn a Markov chain of known entropy; paper is Tiny Shakespeare in windows of 32
from --config.data.dir=DATA with DATA/tinyshakespeare, two layers of width 128, 500 steps.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.variants import parse

METHODS = ("shampoo", "adam", "momentum")


def get_config(variant=""):
    """See the module's docstring."""
    size, method = parse(variant, methods=METHODS)
    width, batch_size, steps, log_every = {
        "tiny": (16, 16, 60, 20),
        "default": (64, 32, 400, 20),
        "paper": (128, 32, 500, 25),
    }[size]

    config = ConfigDict()
    config.seed = 1
    config.precision = "float32"
    config.data = _data(size)
    config.data.dir = placeholder(str)
    config.model = dict(
        name="character_transformer",
        layers=1 if size == "tiny" else 2,
        width=width,
        heads=4,
        norm="pre",
        positions="learned",
        dropout=0.0,
        quant=dict(weights="none", activations="none", gradients="none"),
    )
    config.optim = _optim(method, size)
    config.train = dict(
        steps=steps,
        batch_size=batch_size,
        sampling="shuffle",
        log_every=log_every,
        checkpoint_every=steps,
        objective="batch",
    )
    return config


def _data(size):
    if size == "paper":
        return ConfigDict(dict(name="tinyshakespeare", context=32, stride=8, seed=0))
    tiny = size == "tiny"
    return ConfigDict(
        dict(
            name="markov_text",
            samples=256 if tiny else 4096,
            test_samples=64 if tiny else 256,
            context=16 if tiny else 32,
            classes=12 if tiny else 64,  # a table of classes^2 chances is to be learned
            branching=2.0 if tiny else 4.0,
            seed=0,
        )
    )


def _optim(method, size):
    rate = {"shampoo": 3e-3, "adam": 3e-3, "momentum": 0.1}[method]
    if method != "shampoo":
        return ConfigDict(dict(name=method, learning_rate=rate, weight_decay=0.0))
    tiny = size == "tiny"
    return ConfigDict(
        dict(
            name="shampoo",
            learning_rate=rate,
            weight_decay=0.0,
            b1=0.9,
            averaged=True,
            nesterov=False,
            beta2=0.99,
            block_size=16 if tiny else 128,
            max_dim=8192,
            merge=True,
            vectors=False,
            exponent=placeholder(int),
            epsilon=1e-5,
            damping="relative",
            root="newton",
            refresh="program",
            refresh_every=10 if tiny else 20,
            start_at=placeholder(int),  # None: refresh_every
            grafting="rmsprop",
            graft_eps=1e-8,
        )
    )


def sweep():
    """Every method in full precision, Shampoo and Adam in 4 bits too; three seeds."""
    for seed in (1, 2, 3):
        for method in METHODS:
            yield {"variant": method, "seed": seed}
        for method in ("shampoo", "adam"):
            yield {
                "variant": method,
                "model.quant.weights": "vsq4",
                "model.quant.activations": "vsq4",
                "seed": seed,
            }
