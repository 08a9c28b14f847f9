"""Pictures of number formats: what lies between their values, along the number line."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure

POINTS = 4000
WIDEST = 40.0  # powers of ten either way


def gaps(fmt: Any, magnitudes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of a format next below and next above positive magnitudes, float64.

    NaN where a magnitude is not within the format's positive values.
    """
    with jax.enable_x64(True):
        x = jnp.asarray(magnitudes, jnp.float64)
        below, above = (np.asarray(fmt.round(x, mode)) for mode in ("zero", "away"))
        largest, smallest = float(fmt.largest), float(fmt.smallest)
    inside = (magnitudes >= smallest) & (magnitudes < largest) & (below < above)
    return np.where(inside, below, np.nan), np.where(inside, above, np.nan)


def decimal_accuracy(below: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Decimals that are right in the worst case between two values: -log10 of log10's error."""
    return -np.log10(np.log10(above / below) / 2)


def draw(formats: Mapping[str, Any], path: str) -> None:
    """Writes a picture: spacing and decimal accuracy against magnitude, a line per format."""
    with jax.enable_x64(True):
        ends = [(float(fmt.smallest), float(fmt.largest)) for fmt in formats.values()]
    low = max(min(math.log10(least) for least, _ in ends), -WIDEST)
    high = min(max(math.log10(most) for _, most in ends), WIDEST)
    # irrational steps, so that no magnitude is a value itself
    magnitudes = 10.0 ** np.linspace(low - 0.001 * math.pi, high + 0.001 * math.e, POINTS)
    with matplotlib.rc_context({"font.size": 9, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(9, 4), layout="constrained")
        spacing, accuracy = figure.subplots(1, 2)
        for name, fmt in formats.items():
            below, above = gaps(fmt, magnitudes)
            spacing.loglog(magnitudes, above - below, label=name, lw=1)
            accuracy.semilogx(magnitudes, decimal_accuracy(below, above), label=name, lw=1)
        spacing.set(xlabel="magnitude", ylabel="distance of neighbouring values")
        accuracy.set(xlabel="magnitude", ylabel="decimal accuracy (worst case)")
        accuracy.legend()
        figure.savefig(path, dpi=150)
