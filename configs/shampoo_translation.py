"""A Transformer that translates, trained by Shampoo and by diagonal methods.

Paper: Anil et al., Scalable Second Order Optimization for Deep Learning, arXiv 2002.09018,
whose Transformer for English to French has Adam's loss after 1.95 times fewer steps.
Shows: `loss` and `accuracy` (of pieces) are means over the steps since the last line of the
log, `test_*` are measured after them: the loss of the right translations, and BLEU of greedy
ones (`train.bleu` sentences). `steps_per_second` leaves out compilation and evaluation.

    python launch.py --config=configs/shampoo_translation.py
    python launch.py --config=configs/shampoo_translation.py:adam
    python launch.py --config=configs/shampoo_translation.py --sweep     (methods and rates)
    python launch.py --config=configs/shampoo_translation.py:paper --config.data.dir=DATA
    python launch.py --experiment=shampoo_translation                    (figure and claims)

Expected: TODO.
Takes TODO on two CPU cores. Variants: a size and a method (shampoo, adam, adagrad, momentum,
muon). Sizes tiny and default learn a synthetic language, which needs no file: a word for each
word, in the reverse order; paper is the base model on Multi30k, English to French. Small
networks learn Multi30k in a quarter of an hour:
--config.data="{'name': 'multi30k', 'vocabulary': 4000, 'length': 24, 'seed': 0, 'dir': 'DATA'}".
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.variants import parse

RATES = {"shampoo": 3e-3, "adam": 3e-3, "adagrad": 3e-2, "momentum": 0.1, "muon": 3e-3}
METHODS = ("shampoo", "adam", "adagrad", "momentum", "muon")


def get_config(variant=""):
    """See the module's docstring."""
    size, method = parse(variant, methods=METHODS)
    steps, batch_size, log_every = {
        "tiny": (60, 16, 20),
        "default": (500, 32, 25),
        "paper": (20000, 256, 250),
    }[size]

    config = ConfigDict()
    config.seed = 1
    config.precision = "float32"
    config.data = _data(size)
    config.data.dir = placeholder(str)
    config.model = _model(size)
    config.optim = _optim(method, size)
    config.train = dict(
        steps=steps,
        batch_size=batch_size,
        sampling="shuffle",
        log_every=log_every,
        checkpoint_every=steps,
        objective="batch",
        bleu={"tiny": 16, "default": 128, "paper": 1000}[size],
        start_from=placeholder(str),
    )
    return config


def _data(size):
    if size == "paper":
        return ConfigDict(dict(name="multi30k", vocabulary=8000, length=48, seed=0))
    return ConfigDict(
        dict(
            name="synthetic_translation",
            samples=256 if size == "tiny" else 16384,
            test_samples=32 if size == "tiny" else 256,
            length=5 if size == "tiny" else 10,
            classes=12 if size == "tiny" else 48,
            seed=0,
        )
    )


def _model(size):
    layers, width, heads, dropout = {
        "tiny": (1, 16, 2, 0.0),
        "default": (2, 64, 4, 0.0),
        "paper": (6, 512, 8, 0.1),
    }[size]
    return ConfigDict(
        dict(
            name="translation_transformer",
            layers=layers,
            width=width,
            heads=heads,
            norm="pre",
            dropout=dropout,
            label_smoothing=0.1 if size == "paper" else 0.0,
            l2=0.0,
        )
    )


def _optim(method, size):
    optim = ConfigDict(dict(name=method, learning_rate=RATES[method]))
    if method == "shampoo":
        optim.update(
            block_size=128,
            beta2=0.99,
            epsilon=1e-5,
            root="eigh",
            refresh_every=20,
            start_at=10,
            grafting="rmsprop",
            b1=0.9,
        )
    elif method == "adam":
        optim.update(b1=0.9, b2=0.99)
    elif method == "adagrad":
        optim.update(initial=0.0)
    elif method == "momentum":
        optim.update(momentum=0.9, warmup="linear")
    elif method == "muon":
        optim.update(beta=0.95, rms=0.2)
    optim.warmup_steps = {"tiny": 5, "default": 50, "paper": 1000}[size]
    optim.decay = "sqrt"
    return optim
