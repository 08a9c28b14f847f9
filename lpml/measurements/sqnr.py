"""How much noise rounding adds to an array: signal to quantisation noise by format.

There are two measurements of the same number: `sqnr` takes any format by its name, `vsq_sqnr`
takes the numbers that a VSQ format is made of, so that sweeps may vary each of them. One with
both would have settings that a name makes void.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lpml import formats
from lpml.formats import Scaled, Symmetric
from lpml.measurements.distributions import check_distribution, drawn
from lpml.measurements.measurement import Lines, Measurement

FLOAT_SCALE = 32  # bits of a scale that stays a float


def sqnr(
    *, format: str = "vsq4v16m4", distribution: str = "gaussian", rows: int = 512,
    columns: int = 4096,
) -> Measurement:  # fmt: skip
    """Signal to quantisation noise of an array rounded into a format, and what it costs.

    SQNR = 10 log10(sum x^2 / sum (x - round(x))^2) in dB, summed in float64. The second
    metric is `bits_per_element`: codes and scales.

    Args:
      format: by its name (see `lpml.formats.by_name`). Blocks lie along the columns.
      distribution: see `distributions.drawn`; the seed of the run draws.
      rows: >= 1; "per channel" is one scale per row.
      columns: >= 1, a multiple of the block.

    Raises:
      ValueError: an unknown name, or a block that does not divide the columns.
    """
    return _measurement(formats.by_name(format), distribution, (rows, columns))


def vsq_sqnr(
    *, bits: int = 4, block: int = 16, scale_bits: int = 4, order: str = "requantise",
    outer: str = "row", distribution: str = "gaussian", rows: int = 512, columns: int = 4096,
) -> Measurement:  # fmt: skip
    """What `sqnr` measures, of the VSQ format that has these numbers.

    Args:
      bits: of an element, >= 2.
      block: numbers per vector.
      scale_bits: of a vector's integer scale, >= 2; 32: float32 scales, without an outer one.
      order: "requantise" or "paper" (see `lpml.formats.Scaled`).
      outer: the float above integer scales, one per "row" or "tensor".
      distribution: as of `sqnr`.
      rows: as of `sqnr`.
      columns: as of `sqnr`.

    Raises:
      ValueError: a width, block, order or outer that no format has.
    """
    if not 2 <= scale_bits <= FLOAT_SCALE:
        raise ValueError(
            f"scale_bits = {scale_bits} must be 2 to {FLOAT_SCALE - 1}, or {FLOAT_SCALE} for "
            "float32 scales"
        )
    if scale_bits == FLOAT_SCALE:
        if outer != "row":
            raise ValueError(
                f"scale_bits = {FLOAT_SCALE} has no outer scale; leave outer at 'row'"
            )
        fmt = Scaled(Symmetric(1.0, bits), block, order=order)
    else:
        fmt = formats.VSQ(bits, block, scale_bits, order=order, outer=outer)
    return _measurement(fmt, distribution, (rows, columns))


# The format is an argument: one program serves all widths of elements and of scales.
@jax.jit
def rounded(fmt: Any, x: jax.Array) -> jax.Array:
    """`x` rounded to `fmt`, compiled."""
    return fmt.round(x)


def decibels(wanted: np.ndarray, found: np.ndarray) -> float:
    """10 log10 of the power of `wanted` over that of the difference, in float64.

    Infinite where there is no difference.
    """
    wanted = np.asarray(wanted, np.float64)
    noise = np.sum((wanted - found) ** 2)
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(np.sum(wanted**2) / noise))


def check_sizes(**sizes: int) -> None:
    """ValueError for a size below 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} = {size} must be at least 1")


def _measurement(fmt, distribution, shape):
    check_distribution(distribution)
    check_sizes(rows=shape[0], columns=shape[1])
    # refused here rather than in the run: blocks that do not divide, formats that need x64
    jax.eval_shape(rounded, fmt, jax.ShapeDtypeStruct(shape, jnp.float32))
    cost = fmt.bits_per_element(shape) if isinstance(fmt, Scaled) else fmt.static_bits

    def lines(seed: int) -> Lines:
        x = drawn(distribution, shape, seed)
        noise = decibels(x, np.asarray(rounded(fmt, jnp.asarray(x))))
        yield {"sqnr": noise, "bits_per_element": float(cost)}

    return Measurement(lines, 1, ("sqnr", "bits_per_element"))
