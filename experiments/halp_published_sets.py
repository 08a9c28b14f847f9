"""HALP begins better than LP-SGD on CIFAR-10, and on Tiny Shakespeare with 4 bits.

What `halp_networks` claims, on the paper's own kinds of data: a thin ResNet-20 on 1000 images
of CIFAR-10, and an LSTM on 1000 windows of 64 characters of Tiny Shakespeare, each with its
whole test set. Paper: De Sa et al., High-accuracy low-precision training, arXiv 1803.03383.

    python launch.py --experiment=halp_published_sets   (LPML_DATA names their folder)

Rates and boxes are those of `halp_networks`, found on digits and on a synthetic language. The
end is the mean of the last three lines, two epochs apart. These are beginnings: 8 epochs leave
the ResNet at a training loss of 2 nats (guessing has 2.3), 24 the LSTM at 1.8 (4.2).

Seen at the default size: ResNet-20 validates 7 points better by HALP than by LP-SGD with 8
bits, 8 points with 4, and HALP is near SVRG. What helps there is less variance as much as bits:
full-precision SGD is behind both. The LSTM is 1.3 points ahead with 4 bits; with 8 bits nothing
is told apart.

The size tiny is the LSTM of `halp_networks`, which needs no file; paper is both sets whole,
which `--experiment=halp_networks --size=paper` runs with 2 bits and LP-SVRG as well.
"""

from matplotlib.figure import Figure

from experiments import halp_networks, papers
from experiments.halp_networks import CONFIG, RECENTRED, Trained
from lpml.runs import Point, Run, Verdict

PAPER = papers.HALP
MINUTES = 40  # of two CPU cores, default size

NAMES = {"resnet20": "ResNet-20, CIFAR-10", "lstm": "LSTM, Tiny Shakespeare"}
NETWORKS = {"tiny": ("lstm",), "default": tuple(NAMES), "paper": tuple(NAMES)}
SEEDS = {"tiny": (1, 2), "default": (1, 2, 3), "paper": (1, 2, 3)}
# of halp_networks, but for LP-SVRG and 2 bits: a ResNet of two cores takes its time
CURVES = tuple(c for c in halp_networks.CURVES if c.method != "lp_svrg" and c.bits != 2)
SAMPLES, BATCH = 1000, 32
EPOCH, EPOCHS = SAMPLES // BATCH, {"resnet20": 8, "lstm": 24}
BETWEEN = 2  # epochs of two lines: the whole test sets take as long as the training
DATA = {
    "resnet20": {"data.limit": SAMPLES, "model.width": 8},
    "lstm": {
        "data": {"name": "tinyshakespeare", "context": 64, "limit": SAMPLES, "dir": None},
        "model.width": 64,
    },
}


def runs(size: str) -> list[Point]:
    """Every curve of both networks."""
    return [
        Point(
            f"{network}-{curve.method}{curve.bits or ''}-seed{seed}",
            f"{CONFIG}:{network},{curve.method},{'tiny' if size == 'tiny' else 'paper'}",
            {"seed": seed, **_settings(size, network, curve)},
        )
        for network in NETWORKS[size]
        for curve in CURVES
        for seed in SEEDS[size]
    ]


def _settings(size, network, curve):
    settings = {}
    if size == "default":
        steps = EPOCH * EPOCHS[network]
        settings = {
            **DATA[network],
            "train.batch_size": BATCH,
            "train.steps": steps,
            "train.log_every": BETWEEN * EPOCH,
            "train.checkpoint_every": steps,
        }
        if curve.method in RECENTRED:
            settings["optim.inner_steps"] = EPOCH
    return settings | halp_networks.box(network, curve)


def load(finished: dict[str, Run]) -> Trained:
    """As `halp_networks`."""
    return halp_networks.load(finished)


def draw(trained: Trained) -> dict[str, Figure]:
    """Above: training losses. Below: test accuracies. A column for either network."""
    return halp_networks.draw(
        trained, CURVES, NAMES, title="Weights in few bits", from_epoch=2, epochs=BETWEEN
    )


def check(trained: Trained, size: str) -> list[Verdict]:
    """HALP against LP-SGD at the same bits, and against full precision."""
    return [
        verdict
        for network in NETWORKS[size]
        for verdict in (
            *halp_networks.against_lp_sgd(trained, network, NAMES[network]),
            *halp_networks.against_full_precision(trained, network, NAMES[network]),
        )
    ]
