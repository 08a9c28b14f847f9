"""Captions in French: a small Transformer has Adam's best loss after fewer steps with Shampoo.

What `shampoo_translation` claims, on real sentences: Multi30k, English to French, sub-words of
both languages, a network that two cores train.

    python launch.py --experiment=shampoo_multi30k   (LPML_DATA names the folder with multi30k/)

The validation set is Multi30k's own (`val`), pairs of more than 24 sub-words left out. The
size tiny is that of `shampoo_translation`, which needs no file, and paper is its as well.
Momentum SGD leaves the finite numbers at a rate of 1, so its grid ends at 0.6.

Where it fails: a step of Shampoo takes 1.6 times Adam's, as in `shampoo_translation`, and saves
6 to 8 % of the steps in 600, less than an epoch; longer training was not tried.
"""

from matplotlib.figure import Figure

from experiments import papers, shampoo_translation, translations
from experiments.translations import Plan, Trained
from lpml.runs import Point, Verdict

PAPER = papers.SHAMPOO
MINUTES = 60  # of two CPU cores, default size

SMALL = Plan(
    "default",
    {
        "shampoo": (1e-3, 3e-3, 1e-2),
        "adam": (1e-3, 3e-3, 1e-2),
        "adagrad": (1e-2, 3e-2, 1e-1),
        "momentum": (1e-1, 3e-1, 6e-1),
        "muon": (1e-3, 3e-3, 1e-2),
    },
    (1, 2, 3),
    timed_steps=200,
    settings={
        "data": {
            "name": "multi30k",
            "vocabulary": 4000,
            "length": 24,
            "seed": 0,
            "dir": None,
        },
        "model.width": 128,
        "optim.warmup_steps": 60,
        "train.steps": 600,
        "train.checkpoint_every": 300,
        "train.log_every": 30,
        "train.bleu": 128,
    },
)

load = translations.load


def runs(size: str) -> list[Point]:
    """Every method at every rate with every seed, and timed ones."""
    return translations.points(SMALL) if size == "default" else shampoo_translation.runs(size)


def draw(trained: Trained) -> dict[str, Figure]:
    """Loss and BLEU against steps and seconds; losses at the end by rate."""
    return translations.draw(trained, title="Multi30k, English to French")


def check(trained: Trained, size: str) -> list[Verdict]:
    """See `translations.check`."""
    return shampoo_translation.check(trained, size)
