"""The step size of a quantised ReLU belongs to its rounding rule.

Paper: Yin et al., Understanding straight-through estimator in training activation quantized
neural nets, ICLR 2019, arXiv 1903.05662 (figure 2); steps after Cai et al., HWGQ, CVPR 2017.
Shows: the error of b-bit ReLU on normal inputs by step size, for three rounding rules, and the
staircases with the derivatives that stand for theirs. Nothing is trained.

    python launch.py --config=configs/ste_quantised_relu.py
    python launch.py --config=configs/ste_quantised_relu.py --config.measurement.bits=4
    python launch.py --config=configs/ste_quantised_relu.py:curve
    python launch.py --config=configs/ste_quantised_relu.py --sweep   (rules, bits, three seeds)
    python launch.py --experiment=ste_quantised_relu                  (the figures)

Expected: at 2 bits the best step is 0.4866 with ceil, 0.5388 and 0.6508 with nearest levels
without and with 0. Takes 1 s on two CPU cores.
Variants: a size (tiny, default; paper is as default), and one of error, curve.
"""

from ml_collections import ConfigDict

from configs.variants import parse


def get_config(variant=""):
    """See the module's docstring."""
    size, kind = parse(variant, methods=("error", "curve"))
    tiny = size == "tiny"
    staircase = dict(rounding="ceil", bits=2)

    config = ConfigDict()
    config.seed = 1
    config.precision = "float64"
    config.measurement = {
        "error": dict(
            name="staircase_error",
            **staircase,
            lowest=0.2,
            highest=1.2,
            points=11 if tiny else 101,
            samples=10_000 if tiny else 100_000,
        ),
        "curve": dict(
            name="staircase_curve", **staircase, lowest=-1.0, highest=3.0, points=801
        ),
    }[kind]
    return config


def sweep():
    """Rounding rules and bits; three seeds."""
    for seed in (1, 2, 3):
        for rounding in ("ceil", "nearest_positive", "nearest"):
            for bits in (1, 2, 4):
                yield {
                    "measurement.rounding": rounding,
                    "measurement.bits": bits,
                    "seed": seed,
                }
