"""Quantised ReLU on normal inputs: its error by step size, and what it looks like."""

import jax
import jax.numpy as jnp
import numpy as np

from lpml import theory
from lpml.measurements.measurement import Lines, Measurement
from lpml.measurements.teachers import check_at_least, check_float64, check_positive


def staircase_error(
    *, rounding: str = "ceil", bits: int = 2, lowest: float = 0.2, highest: float = 1.2,
    points: int = 101, samples: int = 100_000,
) -> Measurement:  # fmt: skip
    """Mean squared error of a quantised ReLU on the positive half of a normal distribution.

    A line for each step size `alpha` gives `mse`, the exact error there; `sampled_mse` and
    `standard_error`, the mean over samples and its error; and the same on every line:
    `best_mse` and `best_alpha`, the least error of all step sizes and where it is.

    Args:
      rounding: "ceil", "nearest_positive" or "nearest" (see `lpml.theory.staircase`).
      bits: 1 to 8.
      lowest, highest: step sizes, > 0.
      points: how many, evenly spaced; 1: `lowest` alone.
      samples: >= 2.

    Raises:
      ValueError: an unknown rule, a number out of range, or a run without
        `precision = "float64"`.
    """
    theory.thresholds(bits, rounding)  # refuses what it does not know
    check_positive(lowest=lowest)
    check_at_least(1, points=points)
    check_at_least(2, samples=samples)
    if highest < lowest:
        raise ValueError(f"highest = {highest} must not be below lowest = {lowest}")
    check_float64()

    @jax.jit
    def measured(alpha, x):
        errors = (theory.staircase(x, alpha, bits=bits, rounding=rounding) - x) ** 2
        return {
            "alpha": alpha,
            "mse": theory.quantisation_error(alpha, bits=bits, rounding=rounding),
            "sampled_mse": jnp.mean(errors),
            "standard_error": jnp.std(errors, ddof=1) / jnp.sqrt(len(errors)),
        }

    def lines(seed: int) -> Lines:
        x = jnp.asarray(np.abs(np.random.default_rng(seed).normal(size=samples)))
        best = theory.best_alpha(bits, rounding)
        least = theory.quantisation_error(best, bits=bits, rounding=rounding)
        known = {"best_mse": float(least), "best_alpha": float(best)}
        for alpha in np.linspace(lowest, highest, points):
            found = {**known, **measured(alpha, x)}
            yield {key: float(found[key]) for key in metrics}

    metrics = ("best_mse", "best_alpha", "alpha", "mse", "sampled_mse", "standard_error")
    return Measurement(lines, points, metrics)


def staircase_curve(
    *, rounding: str = "ceil", bits: int = 2, lowest: float = -1.0, highest: float = 3.0,
    points: int = 801,
) -> Measurement:  # fmt: skip
    """A quantised ReLU at its best step size, and the estimators of its derivative.

    A line for each `input` gives the `output`, the derivatives `identity`, `relu` and
    `clipped_relu` that stand for its own, and, the same on every line, the step size `alpha`.
    The clipped one is 1 where the staircase rises: up to K alpha. Nothing is random.

    Args:
      rounding: "ceil", "nearest_positive" or "nearest".
      bits: 1 to 8.
      lowest, highest: inputs, ascending.
      points: how many, >= 2.

    Raises:
      ValueError: an unknown rule, or a number out of range.
    """
    theory.thresholds(bits, rounding)
    check_at_least(2, points=points)
    if not lowest < highest:
        raise ValueError(f"lowest = {lowest} and highest = {highest} must ascend")
    metrics = ("alpha", "input", "output", "identity", "relu", "clipped_relu")

    def lines(seed: int) -> Lines:
        del seed
        alpha = theory.best_alpha(bits, rounding)
        x = jnp.linspace(lowest, highest, points)
        clipped = theory.clipped_relu((2**bits - 1) * alpha)
        curves = [x, theory.staircase(x, alpha, bits=bits, rounding=rounding)]
        curves += [each.derivative(x) for each in (theory.IDENTITY, theory.RELU, clipped)]
        for values in np.array(curves).T:
            yield dict(zip(metrics, [float(alpha), *map(float, values)], strict=True))

    return Measurement(lines, points, metrics)
