"""A character Transformer trained by Shampoo, and by what it is to be compared with.

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

Expected: Shampoo is ahead of Adam in the first fifth of the steps; on the Markov chain both end
at a test loss of 2.18 to 2.19, 0.1 above its entropy, and roots of 200 steps ago do as well.
Takes 15 s on two CPU cores. Variants: a size and a method (shampoo, adam, adagrad, momentum,
muon, soap). Sizes tiny and default learn a Markov chain of entropy 2.08; paper is Tiny
Shakespeare in windows of 32 from --config.data.dir=DATA with DATA/tinyshakespeare, at width
128, 500 steps.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.variants import compared, parse

# Of the Markov chain: the best of three, a factor of about 3 apart (and the largest, but for
# momentum). Of Tiny Shakespeare: Adam's was tuned, and Shampoo has the same.
RATES = {
    "shampoo": (3e-2, 3e-3),
    "adam": (3e-2, 3e-3),
    "adagrad": (0.3, 3e-2),
    "momentum": (0.3, 0.1),
    "muon": (3e-2, 3e-3),
    "soap": (3e-2, 3e-3),
}
METHODS = tuple(RATES)


def get_config(variant=""):
    """See the module's docstring."""
    size, method = parse(variant, methods=METHODS)
    width, batch_size, steps, log_every = {
        "tiny": (16, 16, 60, 20),
        "default": (32, 32, 500, 20),
        "paper": (128, 32, 500, 20),
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
    config.train = dict(
        steps=steps,
        batch_size=batch_size,
        sampling="shuffle",
        log_every=log_every,
        checkpoint_every=steps,
        objective="batch",
        start_from=placeholder(str),
    )
    config.optim = dict(
        name=method,
        learning_rate=RATES[method][size == "paper"],
        warmup_steps=steps // 20,
        decay="cosine",
        decay_steps=config.train.get_oneway_ref("steps"),
        weight_decay=0.0,
    )
    if method == "shampoo":
        config.optim.update(_shampoo(size))
    return config


def _data(size):
    if size == "paper":
        return ConfigDict(dict(name="tinyshakespeare", context=32, stride=8, seed=0))
    tiny = size == "tiny"
    return ConfigDict(
        dict(
            name="markov_text",
            samples=256 if tiny else 8192,
            test_samples=64 if tiny else 256,
            context=16 if tiny else 32,
            classes=12 if tiny else 128,  # a table of classes^2 chances is to be learned
            branching=2.0 if tiny else 4.0,
            seed=0,
        )
    )


def _shampoo(size):
    tiny = size == "tiny"
    return dict(
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
        root=placeholder(str),  # None: newton in the program, eigh on the host
        refresh="program",
        refresh_every=10 if tiny else 20,
        start_at=placeholder(int),  # None: refresh_every
        delay=placeholder(int),  # None: refresh_every
        first_delay=0,
        executor="thread",
        host_workers=placeholder(int),
        late="block",
        timeout=600.0,
        max_failures=3,
        on_failure="graft",
        grafting="rmsprop",
        graft_eps=1e-8,
        statistics_format=placeholder(str),  # None: floats
        roots_format=placeholder(str),
        state_form="factor",
        state_rounding="stochastic",
    )


def sweep():
    """Every method in full precision, Shampoo and Adam in 4 bits too; three seeds."""
    return compared(METHODS, dict(weights="vsq4", activations="vsq4"))
