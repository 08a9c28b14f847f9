"""A whole recipe of training in few bits: five roles of tensors, a format for each.

Paper: Micikevicius et al., FP8 formats for deep learning, arXiv 2209.05433; Rouhani et al.,
Microscaling data formats for deep learning, arXiv 2310.10537; Dettmers et al., 8-bit
optimizers via block-wise quantization, ICLR 2022, arXiv 2110.02861 (the state).
Shows: a network whose weights (W), activations (A) and gradients (G) are rounded in the
products of all its layers (not in q k^T and softmax times v of attention, which stay in
float32), and whose optimizer's state (S) and master weights (M) are stored as codes, rounded
stochastically; `state_bytes` and `master_bytes` are what these take per weight.

    python launch.py --config=configs/recipe.py
    python launch.py --config=configs/recipe.py:resnet20
    python launch.py --config=configs/recipe.py --config.model.quant.gradients=mxfp8e5m2
    python launch.py --config=configs/recipe.py --config.optim.state_format=vsq8v64m8t
    python launch.py --config=configs/recipe.py --sweep       (float32 and three recipes)
    python launch.py --experiment=recipe_table                (all of them, the table)

As it stands the recipe is FP8 with bfloat16 beside it: W and A in E4M3, G in E5M2, S and M in
bfloat16. The five fields of FORMATS are the recipe; "float32" as S or M keeps floats, as codes.
Expected: the Transformer of size tiny has a test loss of 1.71 nats, within 0.01 of float32's
(seeds 1 and 2), with 6 bytes of state and masters per weight, not 12.
Variants: a size (tiny, default; paper is Tiny Shakespeare from --config.data.dir=DATA with
DATA/tinyshakespeare, CIFAR-10 for resnet20) and a network: transformer (of characters, Adam) or
resnet20 (thin, on digits; momentum).
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.variants import parse

FORMATS = dict(
    weights="e4m3fn",
    activations="e4m3fn",
    gradients="e5m2",
    state="bfloat16",
    master="bfloat16",
)


def get_config(variant=""):
    """See the module's docstring."""
    size, network = parse(variant, methods=("transformer", "resnet20"))
    config = ConfigDict()
    config.seed = 1
    config.precision = "float32"
    parts = _resnet20 if network == "resnet20" else _transformer
    config.data, config.model, config.optim, config.train = map(ConfigDict, parts(size))
    config.data.dir = placeholder(str)
    config.model.quant = dict(
        weights=FORMATS["weights"],
        activations=FORMATS["activations"],
        gradients=FORMATS["gradients"],
        gradient_rounding="nearest",
    )
    config.optim.state_format = FORMATS["state"]
    config.optim.master_format = FORMATS["master"]
    config.optim.state_rounding = "stochastic"
    config.train.update(sampling="shuffle", objective="batch", start_from=placeholder(str))
    return config


def _transformer(size):
    width, layers, batch_size, steps = {
        "tiny": (16, 1, 16, 40),
        "default": (32, 1, 16, 400),
        "paper": (128, 2, 32, 1000),
    }[size]
    tiny = size == "tiny"
    data = dict(
        name="markov_text",
        samples=256 if tiny else 4096,
        test_samples=64 if tiny else 256,
        context=16 if tiny else 32,
        classes=12 if tiny else 32,  # a table of classes^2 chances is to be learned
        branching=2.0 if tiny else 4.0,
        seed=0,
    )
    if size == "paper":
        data = dict(name="tinyshakespeare", context=32, stride=8, seed=0)
    model = dict(
        name="character_transformer",
        layers=layers,
        width=width,
        heads=4,
        norm="pre",
        positions="learned",
        dropout=0.0,
    )
    optim = dict(
        name="adam",
        learning_rate=3e-3 if size == "paper" else 1e-2,
        warmup_steps=steps // 20,
        decay="cosine",
        decay_steps=steps,
        weight_decay=0.0,
    )
    train = dict(steps=steps, batch_size=batch_size, log_every=steps // 10)
    return data, model, optim, train | dict(checkpoint_every=steps)


def _resnet20(size):
    samples, batch_size, epochs = {
        "tiny": (128, 32, 3),
        "default": (1024, 32, 8),
        "paper": (50000, 128, 200),
    }[size]
    data = dict(name="digits", train_samples=samples, flat=False, seed=0)
    if size == "paper":
        data = dict(name="cifar10", limit=placeholder(int), seed=0)
    model = dict(
        name="resnet20",
        width={"tiny": 4, "default": 8, "paper": 16}[size],
        depth=8 if size == "tiny" else 20,
        l2=0.0,
        augment="crop_flip" if size == "paper" else placeholder(str),
    )
    epoch = samples // batch_size
    optim = dict(
        name="momentum",
        learning_rate=0.05,
        momentum=0.9,
        weight_decay=1e-4,
        decay="cosine",
        decay_steps=epochs * epoch,
    )
    train = dict(steps=epochs * epoch, batch_size=batch_size, log_every=epoch)
    return data, model, optim, train | dict(checkpoint_every=epochs * epoch)


def sweep():
    """Float32 throughout, FP8 with bfloat16, MXFP8, 4 bits with 8-bit state; three seeds."""
    recipes = (
        ("none", "none", "none", "float32", "float32"),
        ("e4m3fn", "e4m3fn", "e5m2", "bfloat16", "bfloat16"),
        ("mxfp8e4m3", "mxfp8e4m3", "mxfp8e4m3", "float32", "float32"),
        ("nvfp4", "nvfp4", "nvfp4", "vsq8v64m8t", "bfloat16"),
    )
    for seed in (1, 2, 3):
        for weights, activations, gradients, state, master in recipes:
            yield {
                "model.quant.weights": weights,
                "model.quant.activations": activations,
                "model.quant.gradients": gradients,
                "optim.state_format": state,
                "optim.master_format": master,
                "seed": seed,
            }
