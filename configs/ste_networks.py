"""Networks with activations of few bits, trained through a straight-through estimator.

Paper: Yin et al., Understanding straight-through estimator in training activation quantized
neural nets, ICLR 2019, arXiv 1903.05662, table 1 and figure 3.
Shows: LeNet-5, ResNet-20 or VGG-11 whose ReLUs are staircases of `bits` bits; `loss` and
`accuracy` are means over an epoch's batches, `test_*` are measured after it. `_float` is the
same network with ReLUs, the start of the quantised one: `--config.train.start_from=FOLDER`.
`_continued` goes on from a quantised network, some epochs at a small rate first.

    python launch.py --config=configs/ste_networks.py
    python launch.py --config=configs/ste_networks.py:resnet20 --config.model.activation.bits=4
    python launch.py --config=configs/ste_networks.py --sweep   (bits and estimators of LeNet-5)
    python launch.py --config=configs/ste_networks.py:resnet20,paper --config.data.dir=DATA
    python launch.py --experiment=ste_table1                    (all of them, the table)
    python launch.py --experiment=ste_instability               (continued ones, the figure)

Expected: on digits, from a float start, a thin ResNet-20 with 2 bits gets 95 % of the test
digits right through clipped ReLU, 84 % through the identity, 60 % through ReLU (one seed).
Takes 30 s on two CPU cores. Variants: a size and a network (lenet5, resnet20, vgg11, each also
`_float`; resnet20_continued). At sizes tiny and default thin networks learn digits (for vgg11
enlarged to 32 x 32 pixels, which it needs); paper is MNIST for LeNet-5, else CIFAR-10, with the
paper's schedules; --config.data.limit=N keeps N of its images.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.variants import parse

NETWORKS = ("lenet5", "resnet20", "vgg11")
METHODS = (*NETWORKS, *(f"{name}_float" for name in NETWORKS), "resnet20_continued")

PUBLISHED = {
    "lenet5": ("mnist", 60000, 64),
    "resnet20": ("cifar10", 50000, 128),
    "vgg11": ("cifar10", 50000, 128),
}


def get_config(variant=""):
    """See the module's docstring."""
    size, method = parse(variant, methods=METHODS)
    network = method.removesuffix("_float").removesuffix("_continued")

    config = ConfigDict()
    config.seed = 1
    config.precision = "float32"
    config.data, samples, batch_size = _data(network, size)
    config.data.dir = placeholder(str)
    config.model = _model(network, size)
    if not method.endswith("_float"):
        config.model.activation = dict(
            bits=2, estimator="clipped_relu", rounding="ceil", alpha="half_gaussian"
        )
    epoch = samples // batch_size
    rate, epochs, milestones = _schedule(network, size)
    small_rate, warmup = _warmup(size) if method.endswith("_continued") else (0.0, 0)
    config.optim = dict(
        name="momentum",
        learning_rate=rate,
        momentum=0.9,
        weight_decay=0.0 if network == "lenet5" else 1e-4,
        milestones=tuple((warmup + at) * epoch for at in milestones),
        warmup_steps=warmup * epoch,
        warmup_rate=small_rate,
    )
    config.train = dict(
        steps=(warmup + epochs) * epoch,
        batch_size=batch_size,
        sampling="shuffle",
        log_every=epoch,
        checkpoint_every=5 * epoch,
        objective="batch",
        start_from=placeholder(str),
    )
    return config


def _data(network, size):
    """The section, the samples of an epoch, the samples of a step."""
    if size == "paper":
        name, samples, batch_size = PUBLISHED[network]
        return ConfigDict(dict(name=name, seed=0, limit=placeholder(int))), samples, batch_size
    samples = 128 if size == "tiny" else 1024
    digits = ConfigDict(dict(name="digits", train_samples=samples, flat=False, seed=0))
    if network == "vgg11":
        digits.enlarge = 4
    return digits, samples, 32


def _model(network, size):
    thin = {"tiny": 4, "default": 8, "paper": None}[size]
    model = ConfigDict(dict(name=network, l2=0.0))
    if network == "lenet5":
        # the float network has the quantised one's layers, so that it can be its start
        model.normalise = True
        model.widths = (2, 4, 16, 12) if size == "tiny" else (6, 16, 120, 84)
    else:
        model.width = thin or {"resnet20": 16, "vgg11": 64}[network]
        if network == "resnet20":
            model.depth = 8 if size == "tiny" else 20
        model.augment = "crop_flip" if size == "paper" else placeholder(str)
    return model


def _schedule(network, size):
    """Learning rate, epochs, and the epochs from which it is a tenth of before."""
    if size == "tiny":
        return 0.05, 3, ()
    if size == "default":
        return 0.1, 16, (8, 12)
    return (0.1, 50, (20, 40)) if network == "lenet5" else (0.01, 200, (80, 140))


def _warmup(size):
    """The small rate of a continued run, and its epochs before the normal schedule."""
    return {"tiny": (1e-3, 2), "default": (1e-3, 6), "paper": (1e-5, 20)}[size]


def sweep():
    """Bits and estimators of LeNet-5, and its float form; three seeds."""
    for seed in (1, 2, 3):
        yield {"variant": "lenet5_float", "seed": seed}
        for bits in (2, 4):
            for estimator in ("identity", "relu", "clipped_relu"):
                yield {
                    "variant": "lenet5",
                    "model.activation.bits": bits,
                    "model.activation.estimator": estimator,
                    "seed": seed,
                }
