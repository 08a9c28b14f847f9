"""The loss of few samples is ragged along the coarse gradient, and falls all the same.

Paper: Yin et al., Understanding straight-through estimator in training activation quantized
neural nets, ICLR 2019, arXiv 1903.05662 (figure 1).
Shows: the loss of a two-layer model with step activations as it moves along the negative coarse
gradient of a sample, by step size and by the size of the sample. Nothing is trained.

    python launch.py --config=configs/ste_landscape.py
    python launch.py --config=configs/ste_landscape.py --config.measurement.samples=10
    python launch.py --config=configs/ste_landscape.py --sweep   (sample sizes, three seeds)
    python launch.py --experiment=ste_landscape                  (the figure)

Expected: before the least loss, rises of 36 % of the fall with 10 samples, 1 % with 1000, below
0.1 % with 20 000. Takes 1 s on two CPU cores.
Variants: a size (tiny, default; paper is as default).
"""

from ml_collections import ConfigDict

from configs.variants import parse


def get_config(variant=""):
    """See the module's docstring."""
    size, _ = parse(variant)
    tiny = size == "tiny"

    config = ConfigDict()
    config.seed = 1
    config.precision = "float64"
    config.measurement = dict(
        name="coarse_line",
        samples=1000,
        estimator="relu",
        longest=1.0,
        points=50 if tiny else 100,
        repeats=4 if tiny else 10,
        length=4.0,
        hidden=8,
        inputs=16,
    )
    return config


def sweep():
    """Sample sizes; three seeds."""
    for seed in (1, 2, 3):
        for samples in (10, 50, 1000, 20_000):
            yield {"measurement.samples": samples, "seed": seed}
