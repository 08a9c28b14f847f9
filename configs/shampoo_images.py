"""Shampoo, Adam, AdaGrad, momentum SGD and Muon on images.

Paper: Anil et al., Scalable Second Order Optimization for Deep Learning, arXiv 2002.09018, whose
Shampoo trains ResNet-50 in fewer steps than SGD with momentum.
Shows: ResNet-20 by any of five optimizers; `loss` and `accuracy` are means over an epoch's
batches, `test_*` are measured after it. Lengths of Shampoo's updates are those of SGD (grafting)
and go through momentum, so its rates are momentum SGD's.

    python launch.py --config=configs/shampoo_images.py
    python launch.py --config=configs/shampoo_images.py:adam --config.optim.learning_rate=3e-3
    python launch.py --config=configs/shampoo_images.py:mlp_adagrad   (dense layers, seconds)
    python launch.py --config=configs/shampoo_images.py --sweep       (rates of all methods)
    python launch.py --config=configs/shampoo_images.py:paper --config.data.dir=DATA
    python launch.py --experiment=shampoo_images                      (the figures, the claims)

Expected: TODO
Variants: a size (tiny, default, paper) and a method: shampoo, adam,
adagrad, momentum or muon; the same behind `mlp_` train dense layers, behind `resnet50_` a ResNet-50 with the stem for
small images. Sizes tiny and default have thin networks and scikit-learn's digits; paper is
CIFAR-10, cropped and mirrored, batches of 1024, with a rate that rises and falls.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.variants import parse

OPTIMIZERS = ("shampoo", "adam", "adagrad", "momentum", "muon")
NETWORKS = ("resnet20", "resnet50", "mlp")
METHODS = (*OPTIMIZERS, *(f"{n}_{o}" for n in NETWORKS[1:] for o in OPTIMIZERS))
# epochs, samples of an epoch, samples of a step
LENGTHS = {"tiny": (3, 128, 32), "default": (12, 1024, 64), "paper": (100, 50000, 1024)}
RATES = {"shampoo": 0.1, "adam": 1e-2, "adagrad": 3e-2, "momentum": 0.1, "muon": 1e-2}


def get_config(variant=""):
    """See the module's docstring."""
    size, method = parse(variant, methods=METHODS)
    network, _, optimizer = f"resnet20_{method}".rpartition("_")
    network = network.rpartition("_")[2]
    epochs, samples, batch_size = LENGTHS[size]
    epoch = samples // batch_size
    steps = epochs * epoch

    config = ConfigDict()
    config.seed = 1
    config.precision = "float32"
    config.data = _data(network, size, samples)
    config.model = _model(network, size)
    config.optim = dict(
        name=optimizer,
        learning_rate=RATES[optimizer],
        weight_decay=0.0,
        warmup_steps=(5 if size == "paper" else 1) * epoch,
        decay="cosine",
        decay_steps=steps,
        **_settings(optimizer, size),
    )
    config.train = dict(
        steps=steps,
        batch_size=batch_size,
        sampling="shuffle",
        log_every=epoch,
        checkpoint_every=10 * epoch,
        objective="batch",
    )
    return config


def _data(network, size, samples):
    if size == "paper":
        return ConfigDict(dict(name="cifar10", seed=0, limit=placeholder(int), dir=placeholder(str)))
    flat = network == "mlp"
    return ConfigDict(
        dict(name="digits", train_samples=samples, flat=flat, seed=0, dir=placeholder(str))
    )


def _model(network, size):
    if network == "mlp":
        hidden = {"tiny": (16,), "default": (64, 64), "paper": (512, 512)}[size]
        return ConfigDict(dict(name="mlp", hidden=hidden, activation="relu", l2=0.0))
    model = ConfigDict(dict(name=network, l2=0.0))
    if network == "resnet20":
        model.width = {"tiny": 4, "default": 8, "paper": 16}[size]
        model.depth = 8 if size == "tiny" else 20
    else:
        model.width = {"tiny": 2, "default": 4, "paper": 64}[size]
        model.blocks = (1, 1) if size == "tiny" else (3, 4, 6, 3)
        model.large_images = False
    model.augment = "crop_flip" if size == "paper" else placeholder(str)
    return model


def _settings(optimizer, size):
    """Besides the rate: those of the paper's ResNet-50 for Shampoo, usual ones for the others."""
    if optimizer == "shampoo":
        return dict(
            block_size=128,
            beta2=0.95,
            epsilon=1.5e-5,
            root="newton",
            refresh_every=2 if size == "tiny" else 8,
            start_at=2 if size == "tiny" else 8,
            grafting="sgd",
            b1=0.9,
            averaged=False,
            nesterov=True,
        )
    return {"momentum": dict(momentum=0.9, nesterov=True, warmup="linear")}.get(optimizer, {})
