"""The integer path of two-level scaled products: what a VSQ accelerator computes."""

from typing import Any

import jax
import jax.numpy as jnp

from lpml.formats.integers import Symmetric
from lpml.formats.scaled import Scaled, ScaledArray

HALF_WORD = 8
MOST = 2**31 - 1


def vsq_matmul(
    a: ScaledArray,
    b: ScaledArray,
    fa: Scaled,
    fb: Scaled,
    *,
    product_bits: int | None = None,
) -> jax.Array:
    """The product of two matrices of VSQ codes, accumulated in integers.

    Per block v of the contracted axis, an int8 x int8 -> int32 product of the elements, times
    the product of the two scales, summed in int32; the floats above the scales come last.

    Args:
      a: (m, k), encoded by `fa` along its last axis.
      b: (k, n), encoded by `fb` along its first axis, in blocks as long as those of `a`.
      fa: two-level integers: symmetric elements and symmetric unsigned scales, outer "row" or
        "tensor".
      fb: the same; element and scale bits may differ.
      product_bits: width that the scale products are rounded to (ties upwards) before they
        multiply; None keeps them whole.

    Returns:
      (m, n) float32: the integers' exact sum, rounded once or, where int32 cannot be promised
      to hold it and it is kept in two words, three times; then times the outer scales.

    Raises:
      ValueError: formats without integers, blocks or shapes that do not match.
    """
    _check(a, b, fa, fb)
    full = fa.scale_format.static_bits + fb.scale_format.static_bits
    drop = 0 if product_bits is None else max(0, full - product_bits)
    if product_bits is not None and product_bits < 1:
        raise ValueError(f"product_bits = {product_bits} must be at least 1")
    blocks = _by_block(a, b, fa.block)
    most = blocks[0].shape[0] * fa.block * int(fa.element.largest) * int(fb.element.largest)
    most_scale = ((1 << full) >> drop) + 1
    split = most * most_scale > MOST
    if split and most * max(2**HALF_WORD - 1, most_scale >> HALF_WORD) > MOST:
        raise ValueError(
            f"{a.codes.shape[1]} products of these widths may exceed two int32 words; use "
            "fewer bits, or product_bits"
        )
    total = _accumulated(blocks, drop=drop, split=split)
    outer = (jnp.asarray(x.outer, jnp.float32) for x in (a, b))
    return total * (2.0**drop * next(outer)) * next(outer)


def _by_block(a, b, block):
    """(v, m, block) and (v, block, n) codes, (v, m) and (v, n) scales: blocks in front."""
    k = a.codes.shape[1]
    count = a.scales.shape[1]
    missing = count * block - k
    left = jnp.pad(a.codes, ((0, 0), (0, missing))).reshape(-1, count, block)
    right = jnp.pad(b.codes, ((0, missing), (0, 0))).reshape(count, block, -1)
    return jnp.moveaxis(left, 1, 0), right, a.scales.T, b.scales


def _accumulated(blocks, *, drop, split):
    small = all(codes.dtype == jnp.int8 for codes in blocks[:2])
    operand = jnp.int8 if small else jnp.int32

    def step(sums, block):
        left, right, scale_a, scale_b = block
        products = jax.lax.dot_general(
            left.astype(operand),
            right.astype(operand),
            (((1,), (0,)), ((), ())),
            preferred_element_type=jnp.int32,
        )
        scale = scale_a.astype(jnp.int32)[:, None] * scale_b.astype(jnp.int32)[None, :]
        if drop:
            scale = (scale + (1 << (drop - 1))) >> drop
        if not split:
            return (sums[0] + products * scale, sums[1]), None
        low = scale & (2**HALF_WORD - 1)
        return (sums[0] + products * low, sums[1] + products * (scale >> HALF_WORD)), None

    zero = jnp.zeros((blocks[0].shape[1], blocks[1].shape[2]), jnp.int32)
    (low, high), _ = jax.lax.scan(step, (zero, zero), blocks)
    if not split:
        return low.astype(jnp.float32)
    return high.astype(jnp.float32) * 2.0**HALF_WORD + low.astype(jnp.float32)


def _check(a, b, fa, fb):
    for fmt in (fa, fb):
        if not _is_two_level(fmt):
            raise ValueError(
                "integer products take two-level integers with an outer scale, such as VSQ; "
                "multiply decoded values for other formats"
            )
    if fa.block != fb.block:
        raise ValueError(f"blocks of {fa.block} and {fb.block} differ; use one length for both")
    shapes = a.codes.shape, b.codes.shape
    if any(len(shape) != 2 for shape in shapes) or shapes[0][1] != shapes[1][0]:
        raise ValueError(f"shapes {shapes[0]} and {shapes[1]} are no (m, k) and (k, n)")
    if a.axis != -1 or b.axis != -2:
        raise ValueError(
            "encode the left matrix along its last axis, the right along its first"
        )


def _is_two_level(fmt: Any) -> bool:
    if not isinstance(fmt, Scaled) or not isinstance(fmt.block, int) or fmt.outer is None:
        return False
    parts = fmt.element, fmt.scale_format
    if not all(isinstance(part, Symmetric) for part in parts) or fmt.scale_format.signed:
        return False
    return all(part.static_bits is not None and part.scale == 1.0 for part in parts)
