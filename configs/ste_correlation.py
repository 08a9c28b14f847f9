"""All estimators point downhill on average; what separates them is how they fade at a minimum.

Paper: Yin et al., Understanding straight-through estimator in training activation quantized
neural nets, ICLR 2019, arXiv 1903.05662 (lemmas 5, 8 and 9, bound 12).
Shows: inner products of the expected coarse gradient and the true one, and the ratio that the
descent needs bounded, at points ever nearer to a spurious minimum. Nothing is trained.

    python launch.py --config=configs/ste_correlation.py
    python launch.py --config=configs/ste_correlation.py --config.measurement.estimator=identity
    python launch.py --config=configs/ste_correlation.py --sweep   (estimators, three seeds)
    python launch.py --experiment=ste_correlation                  (the figure)

Expected: over each tenth of the distance the ratio grows tenfold with the identity and falls to
a tenth with the others. Takes 3 s on two CPU cores.
Variants: a size (tiny, default; paper is as default).
"""

from ml_collections import ConfigDict

from configs.variants import parse


def get_config(variant=""):
    """See the module's docstring."""
    size, _ = parse(variant)

    config = ConfigDict()
    config.seed = 1
    config.precision = "float64"
    config.measurement = dict(
        name="coarse_correlation",
        estimator="relu",
        nearest=1e-6,
        points=13,
        samples=2000 if size == "tiny" else 50_000,
        hidden=8,
        inputs=16,
    )
    return config


def sweep():
    """The three estimators; three seeds."""
    for seed in (1, 2, 3):
        for estimator in ("identity", "relu", "clipped_relu"):
            yield {"measurement.estimator": estimator, "seed": seed}
