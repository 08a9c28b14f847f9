"""A Transformer that translates, trained by Shampoo and by diagonal methods.

Paper: Anil et al., Scalable Second Order Optimization for Deep Learning, arXiv 2002.09018,
whose Transformer for English to French has Adam's loss after 1.95 times fewer steps.
Shows: `loss` and `accuracy` (of pieces) are means over the steps since the last line of the
log, `test_*` are measured after them: the loss of the right translations, and BLEU of greedy
ones (`train.bleu` sentences). `steps_per_second` leaves out compilation and evaluation.

    python launch.py --config=configs/shampoo_translation.py
    python launch.py --config=configs/shampoo_translation.py:adam
    python launch.py --config=configs/shampoo_translation.py --sweep     (methods and formats)
    python launch.py --config=configs/shampoo_translation.py:paper --config.data.dir=DATA
    python launch.py --experiment=shampoo_translation                    (figure and claims)

Expected: after 300 steps (one seed) a validation loss of 0.12 and BLEU 93; with Adam at the
same rate, its best of four a factor of 3 apart, 0.18 and 88.
Takes 30 s of processor time on two CPU cores. Variants: a size and a method (shampoo, adam,
adagrad, momentum, muon). Sizes tiny and default learn a synthetic language, which needs no
file: a word for each word, in the reverse order; paper is the base model on Multi30k, English
to French, in batches of similar length. The network of size default learns Multi30k in minutes
(and --experiment=shampoo_multi30k compares):
--config.data="{'name': 'multi30k', 'vocabulary': 4000, 'length': 24, 'dir': 'DATA'}", or
'tatoeba'.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.variants import compared, parse

RATES = {"shampoo": 3e-3, "adam": 3e-3, "adagrad": 3e-2, "momentum": 0.1, "muon": 1e-2}
METHODS = ("shampoo", "adam", "adagrad", "momentum", "muon")


def get_config(variant=""):
    """See the module's docstring."""
    size, method = parse(variant, methods=METHODS)
    steps, batch_size, log_every = {
        "tiny": (30, 16, 10),
        "default": (300, 32, 20),
        "paper": (20000, 256, 250),
    }[size]

    config = ConfigDict()
    config.seed = 1
    config.precision = "float32"
    config.data = ConfigDict(_data(size))
    config.data.dir = placeholder(str)
    config.model = _model(size)
    config.optim = _optim(method, size)
    config.train = dict(
        steps=steps,
        batch_size=batch_size,
        sampling="shuffle",
        log_every=log_every,
        checkpoint_every=2500 if size == "paper" else steps,
        objective="batch",
        buckets=(16, 24, 32) if size == "paper" else (),  # of pieces
        bleu={"tiny": 16, "default": 128, "paper": 1000}[size],
        start_from=placeholder(str),
    )
    return config


def _data(size):
    if size == "paper":
        return dict(name="multi30k", vocabulary=8000, length=48, seed=0)
    tiny = size == "tiny"
    return dict(
        name="synthetic_translation",
        samples=256 if tiny else 16384,
        test_samples=32 if tiny else 256,
        length=5 if tiny else 10,
        classes=12 if tiny else 48,
        seed=0,
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
            quant=dict(weights="none", activations="none", gradients="none"),
        )
    )


def _optim(method, size):
    optim = ConfigDict(dict(name=method, learning_rate=RATES[method]))
    if method == "shampoo":
        optim.update(
            block_size=128 if size == "paper" else 64,
            beta2=0.99,
            epsilon=1e-5,
            root="eigh",
            refresh_every=10,
            grafting="adam",
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


def sweep():
    """Every method, and two of them with dense layers in eight bits; three seeds."""
    return compared(METHODS, dict(weights="e4m3fn", activations="e4m3fn", gradients="e5m2"))
