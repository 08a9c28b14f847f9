"""LeNet-5, ResNet-20 and an LSTM by HALP, and by what it is to be compared with.

Paper: De Sa et al., High-accuracy low-precision training, arXiv 1803.03383, the experiments on
deep networks.
Shows: loss over the whole training set, and test accuracy, after every epoch, of weights in
few bits: HALP with one spacing per tensor, SVRG, LP-SVRG, LP-SGD and SGD at one rate.

    python launch.py --config=configs/halp_networks.py
    python launch.py --config=configs/halp_networks.py:resnet20,lp_sgd --config.optim.bits=4
    python launch.py --config=configs/halp_networks.py:lstm --config.optim.mu=3.0
    python launch.py --config=configs/halp_networks.py:resnet20,paper --config.data.dir=DATA
    python launch.py --config=configs/halp_networks.py --sweep      (bits of LeNet-5's methods)
    python launch.py --experiment=halp_networks                     (all of them, the figure)
    python launch.py --experiment=halp_recentering          (mu, and steps between recenterings)

ResNet-20 has group normalisation. Variance reduction needs a full gradient that is the mean
of the samples' gradients; under batch statistics a sample's gradient depends on its batch, and
with statistics frozen at the anchor the step is taken on another function than the one that is
measured. For the same reason there is no augmentation. Weight decay acts on the whole weight.

Expected: see experiments/halp_networks.py. Takes 15 s (ResNet-20: 60 s) on two cores.

Variants: a size, a network (lenet5, resnet20, lstm) and a method (halp, svrg, lp_svrg, lp_sgd,
sgd). Sizes tiny and default have thin networks on digits, and on a Markov chain of letters;
paper is MNIST (or `--config.data.name=fashion_mnist`), CIFAR-10 and Tiny Shakespeare.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.halp_methods import optimizer
from configs.variants import choices

NETWORKS = ("lenet5", "resnet20", "lstm")
METHODS = ("halp", "svrg", "lp_svrg", "lp_sgd", "sgd")
RATES = {"lenet5": 0.1, "resnet20": 0.1, "lstm": 1.0}
# of 8 bits; see experiments/halp_networks.py for how they were found, and for those of 4
MU = {"lenet5": 0.3, "resnet20": 1.0, "lstm": 0.3}
RADII = {"lenet5": 2.0, "resnet20": 2.0, "lstm": 1.0}


def get_config(variant=""):
    """See the module's docstring."""
    size, network, method = choices(variant, ("tiny", "default", "paper"), NETWORKS, METHODS)
    size, network, method = size or "default", network or NETWORKS[0], method or METHODS[0]

    config = ConfigDict()
    config.seed = 1
    config.precision = "float32"
    config.data, samples, batch_size = _data(network, size)
    config.data.dir = placeholder(str)
    config.model = _model(network, size)
    epoch = samples // batch_size
    config.optim = optimizer(
        method,
        learning_rate=RATES[network],
        inner_steps=epoch,
        radius=RADII[network],
        mu=MU[network],
        scale="leaf",
    )
    config.train = dict(
        steps=_epochs(network, size) * epoch,
        batch_size=batch_size,
        sampling="shuffle",
        log_every=epoch,
        checkpoint_every=10 * epoch,
        objective="full",
        full_batch_size=min(samples, 1000),
    )
    return config


def _data(network, size):
    """The section, the samples of an epoch, the samples of a step."""
    if network == "lstm":
        if size == "paper":
            data = dict(name="tinyshakespeare", context=64, stride=placeholder(int))
            return ConfigDict(data), 15685, 32
        tiny = size == "tiny"
        samples = 128 if tiny else 1024
        data = dict(
            name="markov_text", samples=samples, test_samples=256, context=16,
            classes=8 if tiny else 26, branching=3.0, seed=0,
        )  # fmt: skip
        return ConfigDict(data), samples, 16
    if size == "paper":
        name, samples = ("mnist", 60000) if network == "lenet5" else ("cifar10", 50000)
        return ConfigDict(dict(name=name, limit=placeholder(int))), samples, 128
    samples = 128 if size == "tiny" else 1024
    data = dict(name="digits", train_samples=samples, flat=False, seed=0)
    return ConfigDict(data), samples, 32


def _model(network, size):
    tiny = size == "tiny"
    if network == "lstm":
        width = {"tiny": 8, "default": 32, "paper": 128}[size]
        return ConfigDict(
            dict(name="character_lstm", layers=1 if tiny else 2, width=width, l2=0.0)
        )
    model = ConfigDict(dict(name=network, l2=0.0))
    if network == "lenet5":
        model.widths = (2, 4, 16, 12) if tiny else (6, 16, 120, 84)
    else:
        model.width = {"tiny": 4, "default": 8, "paper": 16}[size]
        model.depth = 8 if tiny else 20
        model.norm = "group"
    return model


def _epochs(network, size):
    if size == "tiny":
        return 4
    if size == "paper":
        return {"lenet5": 30, "resnet20": 150, "lstm": 30}[network]
    return {"lenet5": 24, "resnet20": 12, "lstm": 20}[network]


def sweep():
    """Bits of HALP and of the other methods with LeNet-5, SVRG and SGD; three seeds."""
    for seed in (1, 2, 3):
        for method in ("halp", "lp_svrg", "lp_sgd"):
            for bits in (2, 4, 8):
                yield {"variant": method, "optim.bits": bits, "seed": seed}
        yield {"variant": "svrg", "seed": seed}
        yield {"variant": "sgd", "seed": seed}
