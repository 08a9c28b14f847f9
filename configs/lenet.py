"""LeNet-5 on images: digits by default, MNIST at paper size; any method of the HALP family.

Paper: LeCun et al., Gradient-based learning applied to document recognition, 1998 (the net);
De Sa et al., arXiv 1803.03383 (low-precision training of small networks).
Shows: how the methods train a convolutional network; `loss` and `grad_norm` are means over the
mini-batches of an epoch (`train.objective = "batch"`), `test_*` are measured after each.

    python launch.py --config=configs/lenet.py
    python launch.py --config=configs/lenet.py:halp --config.optim.bits=4
    python launch.py --config=configs/lenet.py --config.model.quant.weights=vsq4
    python launch.py --config=configs/lenet.py --sweep        (bits of HALP against sgd)
    python launch.py --config=configs/lenet.py:paper --config.data.dir=DATA   (DATA/mnist)

Expected: of sgd, 98.6 % of the test digits right after 20 epochs, 98.8 % of MNIST's after 10.
Takes 12 s on two CPU cores; MNIST 2 minutes. Variants: a size (tiny, default, paper)
and a method: sgd, halp, svrg, lp_svrg, lp_sgd.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.halp_methods import optimizer
from configs.variants import parse


def get_config(variant=""):
    """See the module's docstring."""
    size, method = parse(variant, methods=("sgd", "halp", "svrg", "lp_svrg", "lp_sgd"))
    samples, batch_size, epochs = {
        "tiny": (100, 25, 2),
        "default": (1500, 25, 20),
        "paper": (60000, 100, 10),
    }[size]
    epoch = samples // batch_size

    config = ConfigDict()
    config.seed = 1
    config.precision = "float32"
    if size == "paper":
        config.data = dict(name="mnist", limit=samples, verify=True)
    else:
        config.data = dict(name="digits", train_samples=samples, flat=False)
    config.data.seed = 0
    config.data.dir = placeholder(str)
    config.model = dict(name="lenet5", widths=(6, 16, 120, 84), l2=0.0)
    config.model.quant = dict.fromkeys(("weights", "activations", "gradients"), "none")
    config.optim = optimizer(
        method, learning_rate=0.1, inner_steps=epoch, radius=1.0, mu=0.3, scale="leaf"
    )
    config.train = dict(
        steps=epochs * epoch,
        batch_size=batch_size,
        sampling="shuffle",
        log_every=epoch,
        checkpoint_every=5 * epoch,
        objective="batch",
    )
    return config


def sweep():
    """Bit widths of HALP and, in full precision, SGD; three seeds each."""
    for seed in (1, 2, 3):
        for bits in (4, 6, 8):
            yield {"variant": "halp", "optim.bits": bits, "seed": seed}
        yield {"variant": "sgd", "seed": seed}
