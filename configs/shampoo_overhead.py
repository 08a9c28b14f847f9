"""What Shampoo's inverse roots cost a training step: in it, before it, or beside it.

Paper: Anil et al., Scalable Second Order Optimization for Deep Learning, arXiv 2002.09018,
where the host's processors renew the roots while the accelerator goes on with old ones.
Shows: seconds of a step of a character Transformer relative to Shampoo whose roots are never
renewed: renewed in the program, by the host while the step waits, by the host meanwhile, and
Adam; medians and quartiles of segments that take turns. Nothing is logged of the training.

    python launch.py --config=configs/shampoo_overhead.py
    python launch.py --config=configs/shampoo_overhead.py --config.measurement.refresh_every=5
    python launch.py --config=configs/shampoo_overhead.py --sweep   (intervals)
    python launch.py --experiment=shampoo_overhead                  (figures and claims)

Expected: on two CPU cores, both busy with the step and with nothing else, roots beside it cost
about a tenth of a step's time, waiting for them a third (N = 20). Workers let other programs go
first, so on a busy machine both wait. Takes two minutes on two CPU cores. Variants: a size
(tiny, default; paper is three layers of width 512 with batches of 128, for a GPU).
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.variants import parse


def get_config(variant=""):
    """See the module's docstring."""
    size, _ = parse(variant)
    layers, width, batch_size = {
        "tiny": (1, 16, 4),
        "default": (1, 128, 32),
        "paper": (3, 512, 128),
    }[size]
    tiny = size == "tiny"

    config = ConfigDict()
    config.seed = 1
    config.precision = "float32"
    config.measurement = dict(
        name="refresh_overhead",
        layers=layers,
        width=width,
        context=8 if tiny else 32,
        batch_size=batch_size,
        block_size=16 if tiny else 128,
        refresh_every=4 if tiny else 20,
        refreshes=2 if tiny else 10,  # of a segment
        rounds=2 if tiny else 4,
        host_workers=placeholder(int) if size == "paper" else 1,
    )
    return config


def sweep():
    """Intervals between refreshes; three seeds."""
    for seed in (1, 2, 3):
        for every in (5, 20, 100):
            yield {"measurement.refresh_every": every, "seed": seed}
