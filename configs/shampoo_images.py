"""Shampoo, Adam, AdaGrad, momentum SGD and Muon on images.

Paper: Anil et al., Scalable Second Order Optimization for Deep Learning, arXiv 2002.09018,
whose Shampoo trains ResNet-50 in fewer steps than SGD with momentum.
Shows: a network by any of five optimizers, with a rate that warms up and falls to 0; `loss`
and `accuracy` are means over an epoch's batches, `test_*` are measured after it.

    python launch.py --config=configs/shampoo_images.py
    python launch.py --config=configs/shampoo_images.py:adam --config.optim.learning_rate=3e-3
    python launch.py --config=configs/shampoo_images.py:paper --config.data.dir=DATA
    python launch.py --config=configs/shampoo_images.py --sweep    (methods, and few bits)
    python launch.py --experiment=shampoo_images                   (the figure, the claims)

Expected: with eight layers (--config.model.depth=8) Shampoo ends at a training loss of 0.003
and momentum SGD at 0.002, 99 and 98 % of the test digits right. Those take 30 s and 15 s of
two CPU cores. Variants: a size and a method (shampoo, adam, adagrad, momentum, muon for
ResNet-20; resnet50, with the stem for small images, by Shampoo). At size tiny dense layers
stand in for both; at size default thin networks learn scikit-learn's digits. At both Shampoo
sums its statistics and has the lengths of AdaGrad's updates. Size paper is CIFAR-10, cropped
and mirrored, in batches of 1024, and Shampoo's settings are the published ones of ResNet-50
(lengths of SGD's updates, new roots in every step, p = 4 for every axis), but for the rate.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.variants import compared, parse

OPTIMIZERS = ("shampoo", "adam", "adagrad", "momentum", "muon")
METHODS = (*OPTIMIZERS, "resnet50")
# epochs, samples of an epoch, samples of a step
LENGTHS = {"tiny": (3, 128, 32), "default": (12, 1024, 64), "paper": (100, 50000, 1024)}
RATES = {"shampoo": 0.3, "adam": 1e-2, "adagrad": 0.03, "momentum": 0.3, "muon": 0.03}
PUBLISHED_RATES = {**RATES, "shampoo": 0.4, "adam": 3e-3, "momentum": 0.4}


def get_config(variant=""):
    """See the module's docstring."""
    size, method = parse(variant, methods=METHODS)
    optimizer = "shampoo" if method == "resnet50" else method
    network = "mlp" if size == "tiny" else method if method == "resnet50" else "resnet20"
    epochs, samples, batch_size = LENGTHS[size]
    epoch = samples // batch_size
    config = ConfigDict()
    config.seed = 1
    config.precision = "float32"
    config.data = _data(network, size, samples)
    config.model = _model(network, size)
    config.train = dict(
        steps=epochs * epoch,
        batch_size=batch_size,
        sampling="shuffle",
        log_every=epoch,
        checkpoint_every=10 * epoch,
        objective="batch",
    )
    config.optim = dict(
        name=optimizer,
        learning_rate=(PUBLISHED_RATES if size == "paper" else RATES)[optimizer],
        weight_decay=1e-4 if size == "paper" else 0.0,
        warmup_steps=(5 if size == "paper" else 1) * epoch,
        decay="quadratic" if size == "paper" else "cosine",
        decay_steps=config.train.get_oneway_ref("steps"),
        **_settings(optimizer, size),
    )
    return config


def _data(network, size, samples):
    if size == "paper":
        return ConfigDict(
            dict(name="cifar10", seed=0, limit=placeholder(int), dir=placeholder(str))
        )
    flat = network == "mlp"
    return ConfigDict(
        dict(name="digits", train_samples=samples, flat=flat, seed=0, dir=placeholder(str))
    )


def _model(network, size):
    model = ConfigDict(dict(name=network, l2=0.0))
    model.quant = dict(weights="none", activations="none", gradients="none")
    if network == "mlp":
        model.hidden = (16,)
        model.activation = "relu"
        return model
    if network == "resnet20":
        model.width = 16 if size == "paper" else 8
        model.depth = 20
    else:
        model.width = 64 if size == "paper" else 4
        model.blocks = (3, 4, 6, 3)
        model.large_images = False
    model.augment = "crop_flip" if size == "paper" else placeholder(str)
    return model


def _settings(optimizer, size):
    """Besides the rate and its course."""
    if optimizer == "shampoo":
        return _published_shampoo() if size == "paper" else _summing_shampoo(size)
    return {
        "momentum": dict(momentum=0.9, nesterov=True, warmup="linear"),
        "adagrad": dict(initial=0.0),  # gradients here are so small that 0.1 would hold it back
    }.get(optimizer, {})


def _summing_shampoo(size):
    every = 2 if size == "tiny" else 8
    return dict(
        block_size=128,
        exponent=placeholder(int),
        beta2=1.0,
        epsilon=1e-5,
        root="newton",
        refresh_every=every,
        start_at=every,
        grafting="adagrad",
        b1=0.9,
        averaged=True,
        nesterov=False,
    )


def _published_shampoo():
    return dict(
        block_size=128,
        exponent=4,
        beta2=0.85,
        epsilon=1.5e-5,
        root="newton",
        refresh_every=1,
        start_at=25,
        grafting="sgd",
        b1=0.95,
        averaged=False,
        nesterov=True,
    )


def sweep():
    """Every method in full precision, Shampoo and Adam in 4 bits too; three seeds."""
    return compared(OPTIMIZERS, dict(weights="vsq4", activations="vsq4"))
