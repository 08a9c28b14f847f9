"""Networks with loss-aware quantised weights, trained by workers that send few bits.

Paper: Hou, Zhang and Kwok, Analysis of quantized models, ICLR 2019, figures 2 to 4 and table 1;
Hou and Kwok, Loss-aware weight quantization of deep networks, ICLR 2018, arXiv 1802.08635.
Shows: a network with one hidden layer, or CifarNet, whose weights have `optim.bits` bits (3:
seven levels) and whose workers send gradients of `workers.bits` bits; `loss` and `accuracy` are
means over an epoch's batches, `test_*` are measured after it.

    python launch.py --config=configs/laq_networks.py
    python launch.py --config=configs/laq_networks.py:cifarnet --config.optim.bits=2
    python launch.py --config=configs/laq_networks.py --config.workers.bits=2
    python launch.py --config=configs/laq_networks.py --sweep   (bits of the weights)
    python launch.py --config=configs/laq_networks.py:cifarnet,paper --config.data.dir=DATA

Expected: on digits 95 % of the test digits right with weights of 3 bits.
Takes 20 s on two CPU cores. Variants: a size and a network (mlp, cifarnet, each also `_float`,
with weights in full precision). At sizes tiny and default they learn digits; paper is MNIST for
mlp and CIFAR-10 in crops of 24 x 24 for cifarnet, two workers of 64 samples.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.variants import parse

NETWORKS = ("mlp", "cifarnet")
METHODS = (*NETWORKS, *(f"{name}_float" for name in NETWORKS))


def get_config(variant=""):
    """See the module's docstring."""
    size, method = parse(variant, methods=METHODS)
    network = method.removesuffix("_float")
    paper = size == "paper"
    workers = 2 if paper else 1
    batch_size = 64 * workers

    config = ConfigDict()
    config.seed = 1
    config.precision = "float32"
    config.data, samples = _data(network, size)
    config.data.dir = placeholder(str)
    config.model = _model(network, size)
    epoch = samples // batch_size
    epochs = {"tiny": 4, "default": 30, "paper": 20 if network == "mlp" else 600}[size]
    config.optim = dict(
        name="loss_aware",
        inner="rmsprop" if network == "mlp" else "adam",
        learning_rate=_rate(network, size),
        schedule="sqrt" if network == "mlp" else "constant",
        milestones=(200 * epoch, 400 * epoch) if paper and network == "cifarnet" else (),
        b2=0.999 if network == "cifarnet" else 0.99,
        bits=3 if method == network else placeholder(int),
        levels="linear",
        solver=placeholder(str),
        per=placeholder(str),
        exempt=(),  # layers whose kernels stay in full precision
        clip=1.0,
    )
    config.workers = dict(
        count=workers,
        bits=placeholder(int),
        clip=placeholder(float),
        exempt_below=placeholder(int),
        norms=False,
    )
    config.train = dict(
        steps=epochs * epoch,
        batch_size=batch_size,
        sampling="shuffle",
        log_every=epoch,
        checkpoint_every=5 * epoch,
        objective="batch",
        start_from=placeholder(str),
    )
    return config


def _data(network, size):
    """The section, and the samples of an epoch."""
    if size == "paper" and network == "mlp":
        return ConfigDict(dict(name="mnist", seed=0)), 60000
    if size == "paper":
        return ConfigDict(dict(name="cifar10", seed=0)), 50000
    samples = 128 if size == "tiny" else 1024
    flat = network == "mlp"
    return ConfigDict(dict(name="digits", train_samples=samples, flat=flat, seed=0)), samples


def _model(network, size):
    if network == "mlp":
        hidden = {"tiny": 16, "default": 64, "paper": 256}[size]
        return ConfigDict(dict(name="mlp", hidden=(hidden,), activation="relu", l2=0.0))
    model = ConfigDict(dict(name="cifarnet", l2=0.0))
    model.width, model.hidden = {
        "tiny": (4, (16, 12)),
        "default": (8, (64, 32)),
        "paper": (64, (384, 192)),
    }[size]
    model.crop = 24 if size == "paper" else 8
    model.augment = "crop_flip" if size == "paper" else placeholder(str)
    return model


def _rate(network, size):
    if network == "mlp":
        return 0.1 if size == "paper" else 0.03
    return 2e-4 if size == "paper" else 2e-3


def sweep():
    """Bits of the weights, and full precision; three seeds."""
    for seed in (1, 2, 3):
        yield {"variant": "mlp_float", "seed": seed}
        for bits in (1, 2, 3, 4):
            yield {"variant": "mlp", "optim.bits": bits, "seed": seed}
