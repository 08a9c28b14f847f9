"""How exact a number format is along the number line."""

import jax
import jax.numpy as jnp
import numpy as np

from lpml import formats
from lpml.measurements.measurement import Lines, Measurement

METRICS = (
    "mean_decimal_accuracy",
    "exponent",
    "rms_relative_error",
    "worst_relative_error",
    "decimal_accuracy",
)
# Exponents whose numbers and errors are normal float64.
LOWEST, HIGHEST = -1000, 1000


def decimal_accuracy(
    *, format: str = "posit16", lowest: int = -40, highest: int = 40, samples: int = 65536,
) -> Measurement:  # fmt: skip
    """Errors of rounding to a format, binade by binade from 2^lowest to 2^highest.

    A line for each binade [2^k, 2^(k+1)) gives, over numbers x whose logarithms are uniform:
      exponent: k.
      rms_relative_error, worst_relative_error: RMS and largest |rounded / x - 1|; the latter
        is at most the true one, which lies between the samples.
      decimal_accuracy: -log10 of the RMS of log10(rounded / x) (Gustafson's decimals, in the
        mean), or 0 where that is below 0: not even the order of magnitude is right.
      mean_decimal_accuracy: its mean over the binades so far, at the end over all.

    Rounding is to nearest and saturates: beyond its largest value a format has errors as of
    that value. What becomes 0 has a relative error of 1 and no decimals.

    Args:
      format: a format of numbers by its name (see `lpml.formats.by_name`), not a scaled one.
      lowest, highest: exponents of 2 between -1000 and 1000, ascending.
      samples: numbers for each binade, one in each of as many equal parts of its logarithm.

    Raises:
      ValueError: a format whose numbers share scales, a number out of range, or a run without
        `precision = "float64"`.
    """
    fmt = formats.by_name(format)
    if not isinstance(fmt, formats.Format) or isinstance(fmt, formats.Scaled):
        raise ValueError(
            f"numbers of {format} share scales, so none has an accuracy of its own; take a "
            "posit, a minifloat or a fixed-point format"
        )
    if not LOWEST <= lowest < highest <= HIGHEST:
        raise ValueError(
            f"lowest = {lowest} and highest = {highest} must ascend, within {LOWEST} to "
            f"{HIGHEST}"
        )
    if samples < 1:
        raise ValueError(f"samples = {samples} must be positive")
    if jnp.result_type(float) != jnp.float64:
        raise ValueError("samples are float64: this needs config.precision = 'float64'")

    def lines(seed: int) -> Lines:
        random, rounded = np.random.default_rng(seed), jax.jit(fmt.round)
        total = 0.0
        for count, exponent in enumerate(range(lowest, highest), start=1):
            within = (np.arange(samples) + random.uniform(size=samples)) / samples
            x = np.exp2(exponent + within)
            found = _accuracy(np.asarray(rounded(x)) / x)
            total += found["decimal_accuracy"]
            yield {
                "mean_decimal_accuracy": total / count,
                "exponent": float(exponent),
                **found,
            }

    return Measurement(lines, highest - lowest, METRICS)


def _accuracy(ratios):
    """Of rounded over exact numbers."""
    error = ratios - 1
    with np.errstate(divide="ignore"):
        decades = np.sqrt(np.mean(np.log10(ratios) ** 2))
        accuracy = max(-np.log10(decades), 0.0)
    return {
        "rms_relative_error": np.sqrt(np.mean(error**2)),
        "worst_relative_error": np.max(np.abs(error)),
        "decimal_accuracy": accuracy,
    }
