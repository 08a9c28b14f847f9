"""A translating Transformer has Adam's best loss after fewer steps with Shampoo.

Anil et al., Scalable Second Order Optimization for Deep Learning, arXiv 2002.09018: English to
French (WMT'14) in 1.95 times fewer steps and 1.67 times less time than the better of AdaGrad
and Adam.

    python launch.py --experiment=shampoo_translation
    python launch.py --experiment=shampoo_translation --size=paper   (Multi30k; a GPU)

Shampoo, Adam, AdaGrad, momentum SGD and Muon, each at the best of as many learning rates. The
default size translates a synthetic language; `shampoo_multi30k` is the same on real sentences.

Where it fails: fewer steps, but a step takes 1.6 to 1.7 times Adam's time, with roots in the
program on two cores and a network of a size at which they are most of a step. Roots from the
host (`shampoo_overhead`) would take a part of that away; this figure was not run with them.
"""

from matplotlib.figure import Figure

from experiments import papers, translations
from experiments.translations import Plan, Trained
from lpml.runs import Point, Verdict

PAPER = papers.SHAMPOO
MINUTES = 60  # of two CPU cores, default size

PLANS = {
    "tiny": Plan(
        "tiny",
        {
            "shampoo": (3e-3, 1e-2),
            "adam": (3e-3, 1e-2),
            "adagrad": (3e-2, 1e-1),
            "momentum": (3e-2, 1e-1),
            "muon": (3e-3, 1e-2),
        },
        (1, 2),
        timed_steps=40,
    ),
    "default": Plan(
        "default",
        {
            "shampoo": (1e-3, 3e-3, 1e-2, 3e-2),
            "adam": (1e-3, 3e-3, 1e-2, 3e-2),
            "adagrad": (1e-2, 3e-2, 1e-1, 3e-1),
            "momentum": (1e-2, 3e-2, 1e-1, 3e-1),
            "muon": (1e-3, 3e-3, 1e-2, 3e-2),
        },
        (1, 2, 3),
        timed_steps=200,
    ),
    "paper": Plan(
        "paper",
        {
            "shampoo": (1e-4, 3e-4, 1e-3, 3e-3),
            "adam": (1e-4, 3e-4, 1e-3, 3e-3),
            "adagrad": (3e-3, 1e-2, 3e-2, 1e-1),
            "momentum": (1e-2, 3e-2, 1e-1, 3e-1),
            "muon": (1e-4, 3e-4, 1e-3, 3e-3),
        },
        (1, 2, 3),
        timed_steps=400,
    ),
}

load = translations.load


def runs(size: str) -> list[Point]:
    """Every method at every rate with every seed, and timed ones."""
    return translations.points(PLANS[size])


def draw(trained: Trained) -> dict[str, Figure]:
    """Loss and BLEU against steps and seconds; losses at the end by rate."""
    return translations.draw(trained, title="Translation")


def check(trained: Trained, size: str) -> list[Verdict]:
    """See `translations.check`."""
    del size  # the claims are the same
    return translations.check(trained)
