"""A small network trained in posits, beside bfloat16, float16 and 8-bit floats.

Paper: Gustafson and Yonemoto, Beating floating point at its own game, Supercomputing Frontiers
and Innovations 4(2), 2017 (the numbers); training in them is a question of this project.
Shows: a ReLU network on digits, trained by SGD. Method `operands`: the operands of all products
(weights, activations, gradients) are rounded, the weights that SGD moves are float32. Method
`everything`: these too are held in the format, after every step. Method `float`: nothing is.

    python launch.py --config=configs/posit_training.py
    python launch.py --config=configs/posit_training.py:everything
    python launch.py --config=configs/posit_training.py --sweep   (formats, both methods)
    python launch.py --experiment=posit_training                  (all of them, the figure)

Setting the weights' format sets those of activations, gradients and iterate too, unless they
are set themselves. Expected: 97 % of the test digits right; see experiments/posit_training.py.
Takes 8 s on two CPU cores. Variants: a size (tiny, default; paper is as default) and a method:
operands, everything, float.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.variants import parse


def get_config(variant=""):
    """See the module's docstring."""
    size, method = parse(variant, methods=("operands", "everything", "float"))
    tiny = size == "tiny"
    samples, epochs = (128, 6) if tiny else (1024, 30)
    batch_size = 16
    epoch = samples // batch_size

    config = ConfigDict()
    config.seed = 1
    config.precision = "float32"
    config.data = dict(name="digits", train_samples=samples, seed=0, dir=placeholder(str))
    config.model = dict(name="mlp", hidden=(64, 64), activation="relu", l2=0.0)
    if method != "float":
        quant = config.model.quant = ConfigDict(dict(weights="posit16"))
        quant.activations = quant.get_oneway_ref("weights")
        quant.gradients = quant.get_oneway_ref("weights")
        quant.gradient_rounding = "nearest"
    config.optim = dict(name="sgd", learning_rate=0.1)
    if method == "everything":
        config.optim.name = "lp_sgd"
        config.optim.format = quant.get_oneway_ref("weights")
        config.optim.rounding = "nearest"
    config.train = dict(
        steps=epochs * epoch,
        batch_size=batch_size,
        sampling="shuffle",
        log_every=epoch,
        checkpoint_every=10 * epoch,
        objective="full",
        full_batch_size=1024,
    )
    return config


def sweep():
    """Formats of operands, and of everything; float32 beside them; three seeds."""
    for seed in (1, 2, 3):
        yield {"variant": "float", "seed": seed}
        for method in ("operands", "everything"):
            for name in ("posit16", "bfloat16", "posit8", "e4m3fn"):
                yield {"variant": method, "model.quant.weights": name, "seed": seed}
