"""A small network in few bits: weights, activations and gradients per vector, or per tensor.

Paper: Dai et al., VS-Quant: per-vector scaled quantization for accurate low-precision neural
network inference, MLSys 2021, arXiv 2102.04503; training with 4-bit gradients goes beyond it.
Shows: a two-hidden-layer ReLU network on digits, in full precision, quantised after training
(`train.start_from` with no steps), fine-tuned (with some), or trained in few bits throughout.

    python launch.py --config=configs/vsq_networks.py
    python launch.py --config=configs/vsq_networks.py:float
    python launch.py --config=configs/vsq_networks.py --config.model.quant.gradients=int4tensor
    python launch.py --config=configs/vsq_networks.py --sweep   (formats of the whole training)
    python launch.py --experiment=vsq_networks                  (all of them, the figure)

Expected: 97 % of the test digits right in few bits as in many; see experiments/vsq_networks.py.
Takes 10 s on two CPU cores. Variants: a size (tiny, default; paper is 8000 digits of MNIST from
--config.data.dir=DATA with DATA/mnist) and a method: quantised, float.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.variants import parse


def get_config(variant=""):
    """See the module's docstring."""
    size, method = parse(variant, methods=("quantised", "float"))
    samples, width, batch_size, epochs = {
        "tiny": (128, 32, 32, 6),
        "default": (1024, 128, 32, 20),
        "paper": (8000, 256, 128, 15),
    }[size]
    epoch = samples // batch_size

    config = ConfigDict()
    config.seed = 1
    config.precision = "float32"
    if size == "paper":
        config.data = dict(name="mnist", limit=samples)
    else:
        config.data = dict(name="digits", train_samples=samples)
    config.data.seed = 0
    config.data.dir = placeholder(str)
    config.model = dict(name="mlp", hidden=(width, width), activation="relu", l2=0.0)
    if method == "quantised":
        config.model.quant = dict(
            weights="vsq4",
            activations="uvsq4t",  # of a ReLU, or pixels
            gradients="vsq4t",
            gradient_rounding="nearest",
            layers=dict(Dense_0=dict(activations="uvsq4t")),
        )
    config.optim = dict(name="adam", learning_rate=1e-3, weight_decay=0.0)
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


def sweep():
    """Formats of weights, activations and gradients in training; three seeds."""
    for seed in (1, 2, 3):
        yield {"variant": "float", "seed": seed}
        for name, activations, gradients in (
            ("vsq4", "uvsq4t", "vsq4t"),
            ("nvfp4", "nvfp4", "nvfp4"),
            ("mxfp4", "mxfp4", "mxfp4"),
        ):
            yield {
                "model.quant.weights": name,
                "model.quant.activations": activations,
                "model.quant.layers.Dense_0.activations": activations,
                "model.quant.gradients": gradients,
                "seed": seed,
            }
