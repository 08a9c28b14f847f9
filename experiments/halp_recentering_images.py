"""HALP with 8 bits on Fashion-MNIST: mu hardly matters, an anchor every epoch beats every 3.

What `halp_recentering` shows on digits, on real images and at the rate of `halp_images`: 2000
images, twelve epochs. Paper: De Sa et al., High-accuracy low-precision training, arXiv
1803.03383.

    python launch.py --experiment=halp_recentering_images   (LPML_DATA names their folder)

Seen at the default size (geometric means of three seeds): with 8 bits an anchor every epoch
ends at a training loss of 0.44, every three at 0.49, every half at 0.54, where one seed leapt
up at the end and decides nothing; every epoch against every three is decided barely, at the
end of the interval. From mu = 0.3 to 10 8 bits end at 0.42 to 0.45. With 4 bits the larger mu
the better, to the edge of the grid: 0.44 at 10, 0.50 at the 3 that `halp_networks` has of
digits, 1.4 at 1, and no training below.

The size tiny is LeNet-5 on scikit-learn's digits, which needs no file; paper is MNIST and
Fashion-MNIST, all 60 000 images of either.
"""

from matplotlib.figure import Figure

from experiments import halp_recentering, papers
from experiments.halp_images import EPOCH, LIMITED, NAMES, RATE
from experiments.halp_networks import CONFIG, MUS
from experiments.halp_recentering import BITS, Ends
from lpml.runs import Point, Run, Verdict

PAPER = papers.HALP
MINUTES = 40  # of two CPU cores, default size

SETS = {
    "tiny": ("digits",),
    "default": ("fashion_mnist",),
    "paper": ("mnist", "fashion_mnist"),
}
SEEDS = {"tiny": (1, 2), "default": (1, 2, 3), "paper": (1, 2, 3)}
STEPS_OF_EPOCH = {"tiny": 4, "default": EPOCH, "paper": 468}
STEPS = 12 * EPOCH


def runs(size: str) -> list[Point]:
    """Three distances of anchors, and five mu, on every set."""
    return [
        Point(
            f"{of}-{bits}bits-{what}-seed{seed}",
            f"{CONFIG}:lenet5,halp,{'tiny' if size == 'tiny' else 'paper'}",
            {"optim.bits": bits, "seed": seed, **_settings(size, of), **box},
        )
        for of in SETS[size]
        for bits in BITS
        for what, box in halp_recentering.boxes(STEPS_OF_EPOCH[size], MUS["lenet5", bits])
        for seed in SEEDS[size]
    ]


def _settings(size, of):
    if size == "tiny":
        return {}
    settings = {"data.name": of, "optim.learning_rate": RATE}
    if size == "default":
        settings |= LIMITED | {"train.steps": STEPS, "train.checkpoint_every": STEPS}
    return settings


def load(finished: dict[str, Run]) -> Ends:
    """As `halp_recentering`, by set."""
    return halp_recentering.load_ends(finished, dict.fromkeys(NAMES, "lenet5"))


def draw(ends: Ends) -> dict[str, Figure]:
    """Left: by the epochs between anchors. Right: by mu. A row for every set."""
    return halp_recentering.draw(ends, NAMES)


def check(ends: Ends, size: str) -> list[Verdict]:
    """The order of the three distances, and how wide the optimum of mu is."""
    names = {of: NAMES[of] for of in SETS[size]}
    return halp_recentering.judged(ends, SEEDS[size], names)
