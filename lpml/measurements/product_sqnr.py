"""How much noise a matrix product has whose operands are rounded: W4A4 and its like."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lpml import formats
from lpml.formats import Scaled, Symmetric
from lpml.measurements.distributions import check_distribution, drawn
from lpml.measurements.measurement import Lines, Measurement
from lpml.measurements.sqnr import check_sizes, decibels


def product_sqnr(
    *, activations: str = "vsq4v16m4", weights: str = "vsq4v16m4",
    product_bits: int | None = None, distribution: str = "gaussian", rows: int = 128,
    contracted: int = 1024, columns: int = 128,
) -> Measurement:  # fmt: skip
    """Signal to noise in dB of a product, against float64 of the numbers before rounding.

    Two-level integers (VSQ) are multiplied as an accelerator would, in integers
    (`lpml.formats.vsq_matmul`), which adds two metrics: `float_difference`, the largest
    difference to the float32 product of the same rounded operands, in units of that product's
    largest magnitude (what simulating with floats misses); `sum_bits`, log2 of the largest
    integer sum, what an accumulator must hold beside the sign. Other formats are multiplied
    as float32 of rounded operands.

    Args:
      activations: format of the left operand, by its name, blocks along the contracted axis.
      weights: format of the right one; per channel is per column of the result.
      product_bits: width that products of two scales are rounded to; None: all bits. VSQ only.
      distribution: of both operands (see `distributions.drawn`); rows of the left one, columns
        of the right one.
      rows: of the left operand.
      contracted: length of the sums, a multiple of the blocks.
      columns: of the right operand.

    Raises:
      ValueError: an unknown name, formats or sizes that do not go together.
    """
    fa, fb = formats.by_name(activations), formats.by_name(weights)
    check_distribution(distribution)
    check_sizes(rows=rows, contracted=contracted, columns=columns)
    integers = _is_two_level(fa) and _is_two_level(fb)
    if product_bits is not None and not integers:
        raise ValueError(
            f"product_bits is for two VSQ formats, not {activations} and {weights}; "
            "leave it away"
        )
    multiply = functools.partial(_integer_product, product_bits=product_bits)
    # refused here rather than in the run: blocks that do not divide or match, formats for x64
    shapes = (rows, contracted), (contracted, columns)
    jax.eval_shape(
        functools.partial(multiply if integers else _float_product, fa, fb),
        *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes),
    )

    def lines(seed: int) -> Lines:
        operands = drawn(distribution, (rows + columns, contracted), seed)
        a, b = operands[:rows], operands[rows:].T
        wanted = a.astype(np.float64) @ b.astype(np.float64)
        simulated = np.asarray(_float_product(fa, fb, a, b), np.float64)
        if not integers:
            yield {"sqnr": decibels(wanted, simulated)}
            return
        found, unit = (np.asarray(x, np.float64) for x in multiply(fa, fb, a, b))
        difference = np.max(np.abs(found - simulated)) / np.max(np.abs(simulated))
        most = np.max(np.abs(found / unit))
        yield {
            "sqnr": decibels(wanted, found),
            "float_difference": difference,
            "sum_bits": np.log2(most),
        }

    more = ("float_difference", "sum_bits") if integers else ()
    return Measurement(lines, 1, ("sqnr", *more))


def _is_two_level(fmt: Any) -> bool:
    return isinstance(fmt, Scaled) and isinstance(fmt.scale_format, Symmetric)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _float_product(fa, fb, a, b):
    left, right = _rounded(fa, a, axis=-1), _rounded(fb, b, axis=-2)
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


def _rounded(fmt, x, *, axis):
    return fmt.round(x, axis=axis) if isinstance(fmt, Scaled) else fmt.round(x)


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames="product_bits")
def _integer_product(fa, fb, a, b, *, product_bits):
    """The product, and what one unit of its integer sums is worth, (rows, columns) or less."""
    left, right = fa.encode(a, axis=-1), fb.encode(b, axis=-2)
    product = formats.vsq_matmul(left, right, fa, fb, product_bits=product_bits)
    whole = fa.scale_format.static_bits + fb.scale_format.static_bits
    drop = max(0, whole - (product_bits or whole))
    return product, left.outer * right.outer * 2.0**drop
