"""Scaled formats: blocks of few-bit elements that share a scale (VSQ, MX, NVFP4, channels)."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lpml.formats.block_scales import (
    POWERS,
    RULES,
    BlockScales,
    coded_scales,
    counted,
    decoded_powers,
    inverse,
    outer_scales,
    power_scales,
    room_for_both,
)
from lpml.formats.blocks import (
    block_maximum,
    block_sums,
    blocks_along,
    negative_axis,
    spread,
)
from lpml.formats.eager import one_program
from lpml.formats.float_bits import from_bits, opaque, to_bits
from lpml.formats.gradients import attach_gradient, check_gradient
from lpml.formats.protocol import check_floats, from_wide, to_wide, wide_dtype
from lpml.formats.rounding import check_mode, needed_bits

OUTER = (None, "row", "tensor")
ORDERS = ("requantise", "paper")
RAGGED = ("refuse", "pad")
LONGEST_WITH_CHOICE = 256  # its errors are summed in code of this length


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ScaledArray:
    """Codes of a scaled format: value = element(codes) * scale(scales) * outer."""

    codes: jax.Array  # of the element's code_dtype, shaped like the numbers
    scales: jax.Array  # codes of the scale format (uint8 for E8M0) or floats; one per block
    outer: jax.Array | None  # floats of shape 1 along what they span
    axis: int = dataclasses.field(metadata={"static": True})  # negative


def _static(default: Any) -> Any:
    return dataclasses.field(default=default, kw_only=True, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scaled:
    """Elements of one format, with a scale per block of them, and maybe one above these.

    A block's scale comes from its largest magnitude, exactly reduced: results are the same
    bits under eager, jit, vmap (each slice for itself) and sharding. NaN stays NaN. Under the
    power-of-two rules NaN or infinity make their block NaN, as OCP demands; under the others
    they do not enter the scale, and infinities saturate to the block's largest value. Scales
    are 2^-126 to 2^126; what is below 2^-126 (2^-1022 in float64) is flushed to zero, what
    powers of two round beyond the range of the numbers' dtype becomes infinity.

    Args:
      element: the elements' format, e.g. `Symmetric(1.0, 4)` or `E2M1`.
      block: numbers per scale, consecutive along the axis that is rounded; or "axis": all
        along it (per channel); or "tensor": all.
      rule: `"absmax"`: the block's largest magnitude becomes the element's largest value;
        `"four_over_six"`: that or the value below it, whichever has the smaller squared error
        (NVFP4's 6 or 4; blocks of at most 256); `"floor"`, `"ceil"`, `"rceil"`, `"even"`:
        powers of two, stored as E8M0 (see `power_exponents`).
      scale_format: what scales of the first two rules are rounded to, codes of 0 excepted:
        they would erase the block. None: float32 (float64 for float64 numbers).
      outer: float scale in whose units `scale_format` counts: one per "tensor", or one per
        "row" (all blocks along the axis); the largest scale gets the largest code. For
        "four_over_six" it gets the largest power of two with room for half as much again.
      order: `"requantise"`: elements are rounded in units of the scale that is stored;
        `"paper"`: of the scale before it was rounded (VS-Quant's own order, never better).
      scale_mode: how scales are rounded to `scale_format`; under "away" no maximum is
        clipped.
      ragged: a last block that is incomplete: "refuse", or "pad" as if zeros followed.
    """

    element: Any
    block: int | str = dataclasses.field(default="axis", metadata={"static": True})
    rule: str = dataclasses.field(default="absmax", metadata={"static": True})
    scale_format: Any = None
    outer: str | None = dataclasses.field(default=None, metadata={"static": True})
    order: str = _static("requantise")
    scale_mode: str = _static("nearest")
    ragged: str = _static("refuse")

    def __post_init__(self):
        if isinstance(self.element, (str, Scaled)):
            raise ValueError(
                f"element = {self.element!r} must be a format of single numbers, such as E2M1"
            )
        _check_among("rule", self.rule, RULES)
        _check_among("outer", self.outer, OUTER)
        _check_among("order", self.order, ORDERS)
        _check_among("ragged", self.ragged, RAGGED)
        length = self.block if isinstance(self.block, int) else None
        if self.block not in ("axis", "tensor") and (length is None or length < 1):
            raise ValueError(
                f'block = {self.block!r} must be a positive int, "axis" or "tensor"'
            )
        check_mode(self.scale_mode)
        if self.scale_mode == "stochastic":
            raise ValueError("scales are not rounded stochastically; choose another scale_mode")
        if self.rule in POWERS and (self.scale_format is not None or self.outer):
            raise ValueError(
                f'rule "{self.rule}" makes powers of two; leave scale_format and outer away'
            )
        if self.outer and self.scale_format is None:
            raise ValueError("outer scales need a scale_format; float32 scales need no outer")
        if self.rule == "four_over_six" and not 0 < (length or 0) <= LONGEST_WITH_CHOICE:
            raise ValueError(
                f'rule "four_over_six" takes blocks of at most {LONGEST_WITH_CHOICE}'
            )

    @property
    def static_bits(self) -> int | None:
        """Width of an element's code; see `bits_per_element` for what the scales add."""
        return self.element.static_bits

    @property
    def code_dtype(self) -> jnp.dtype:
        """Integer type of the elements' codes."""
        return self.element.code_dtype

    @property
    def largest(self) -> Any:
        """The largest element, in units of its block's scale."""
        return self.element.largest

    @property
    def smallest(self) -> Any:
        """The smallest positive element, in units of its block's scale."""
        return self.element.smallest

    def values(self) -> np.ndarray:
        """The elements' values, ascending, in units of their block's scale."""
        return self.element.values()

    @one_program
    def round(
        self,
        x: jax.Array,
        mode: str = "nearest",
        *,
        key: jax.Array | None = None,
        bits: jax.Array | None = None,
        gradient: str = "straight_through",
        axis: int = -1,
    ) -> jax.Array:
        """What `decode(encode(x))` gives, in the dtype of `x`, in two passes over the numbers.

        Args:
          x: floats of any shape; bfloat16 and float16 are computed in float32.
          mode: of the elements, as for every format.
          key: PRNG key of the stochastic mode.
          bits: uint32 words of the shape of `x` in place of a key.
          gradient: `"straight_through"`, `"clipped"` (0 where x is beyond what its block
            reaches, by more than rounding of the scale), `"none"`. Scales get no gradient.
          axis: along which blocks lie.

        Raises:
          ValueError: a block that does not divide the axis, unknown mode or gradient.
        """
        check_gradient(gradient)
        axis, wide, words = self._prepared(x, mode, key, bits, axis)
        scales = self._scales(wide, axis)
        steps = wide * self._inverses(scales, wide.shape, axis)
        applied = spread(scales.applied, wide.shape, self.block, axis)
        values = self.element.round(steps, mode, bits=words) * applied
        # The choice keeps compilers from fusing this product with a sum the caller takes next
        values = jnp.where(jnp.isnan(values), jnp.nan, values)
        y = from_wide(opaque(values), x.dtype)
        if gradient != "clipped":
            return attach_gradient(x, y, gradient)
        return attach_gradient(x, y, gradient, inside=self._inside(steps))

    @one_program
    def encode(
        self,
        x: jax.Array,
        mode: str = "nearest",
        *,
        key: jax.Array | None = None,
        bits: jax.Array | None = None,
        axis: int = -1,
    ) -> ScaledArray:
        """Codes of elements and scales; arguments as in `round`."""
        axis, wide, words = self._prepared(x, mode, key, bits, axis)
        scales = self._scales(wide, axis)
        steps = wide * self._inverses(scales, wide.shape, axis)
        codes = self.element.encode(steps, mode, bits=words)
        return ScaledArray(codes, scales.codes, scales.outer, axis)

    @one_program
    def decode(
        self, encoded: ScaledArray, dtype: jax.typing.DTypeLike = jnp.float32
    ) -> jax.Array:
        """The values of codes, as floats of `dtype`, shaped like the codes."""
        wide = wide_dtype(dtype)
        if self.rule in POWERS:
            scales = decoded_powers(encoded.scales, wide)
        elif self.scale_format is None:
            scales = encoded.scales.astype(wide)
        else:
            scales = self.scale_format.decode(encoded.scales, wide)
        if encoded.outer is not None:
            scales = scales * encoded.outer.astype(wide)
        # as in `round`: rounded before it is spread, and no part of a later sum
        scales = jax.lax.optimization_barrier(scales)
        codes = encoded.codes
        values = self.element.decode(codes, wide)
        values = values * spread(scales, codes.shape, self.block, encoded.axis)
        return from_wide(opaque(jnp.where(jnp.isnan(values), jnp.nan, values)), dtype)

    def bits_per_element(self, shape: tuple[int, ...], axis: int = -1) -> float:
        """Storage in bits per number for an array of `shape`: codes, scales and outer."""
        axis = negative_axis(axis, len(shape))
        rows = math.prod(shape) // shape[axis]
        if isinstance(self.block, int):
            scales = rows * blocks_along(shape[axis], self.block, axis, self.ragged)
        else:
            scales = rows if self.block == "axis" else 1
        width = 8 if self.rule in POWERS else 32
        if self.scale_format is not None:
            width = self.scale_format.static_bits
        outers = {None: 0, "tensor": 1, "row": rows}[self.outer]
        return self.element.static_bits + (scales * width + outers * 32) / math.prod(shape)

    def _prepared(self, x, mode, key, bits, axis):
        check_mode(mode)
        check_floats(x)
        words = needed_bits(mode, x.shape, key, bits)
        wide = opaque(to_wide(jax.lax.stop_gradient(x)))  # as in `protocol`
        if x.ndim == 0 and self.block == "tensor":
            return -1, wide, words
        return negative_axis(axis, x.ndim), wide, words

    def _scales(self, x, axis):
        signed = getattr(self.element, "signed", True)
        size = counted(x, self.rule, signed)
        size = block_maximum(size, self.block, axis, ragged=self.ragged)
        if self.rule in POWERS:
            return power_scales(size, self.rule, self.element)
        outer = None if self.outer is None else self._outer(size, axis)
        choose = {"scale_format": self.scale_format, "mode": self.scale_mode}
        six = coded_scales(size, outer, self.element.largest, **choose)
        if self.rule == "absmax":
            return six
        four = coded_scales(size, outer, self._next_to_largest(x.dtype), **choose)
        return self._better(x, six, four, axis)

    def _outer(self, size, axis):
        most = self.scale_format.largest
        if self.rule == "four_over_six":
            most = room_for_both(most)
        over = "tensor" if self.outer == "tensor" or self.block == "tensor" else "axis"
        return outer_scales(block_maximum(size, over, axis), self.element, most)

    def _next_to_largest(self, dtype):
        largest = jnp.asarray(self.element.largest, dtype)
        return self.element.round(from_bits(to_bits(largest) - 1), "zero")

    def _better(self, x, one, other, axis):
        """Block by block the scales with the smaller squared error, `one` on a tie."""
        errors = []
        for scales in (one, other):
            steps = x * self._inverses(scales, x.shape, axis)
            # in units of the scale, so that no square overflows; never fused into sums
            miss = jax.lax.optimization_barrier(self.element.round(steps) - steps)
            squares = jax.lax.optimization_barrier(jnp.where(jnp.isfinite(miss), miss**2, 0))
            errors.append(block_sums(squares, self.block, axis))
        ratio = jax.lax.optimization_barrier((other.applied / one.applied) ** 2)
        use = jax.lax.optimization_barrier(errors[1] * ratio) < errors[0]
        parts = (jnp.where(use, b, a) for a, b in zip(one[:3], other[:3], strict=True))
        return BlockScales(*parts, one.outer)

    def _inverses(self, scales, shape, axis):
        units = scales.applied if self.order == "requantise" else scales.unrounded
        return spread(inverse(units), shape, self.block, axis)

    def _inside(self, steps):
        slack = 1 + 2.0**-20  # of the product with a rounded scale's reciprocal
        low = -self.element.largest if getattr(self.element, "signed", True) else 0.0
        return (steps >= low * slack) & (steps <= self.element.largest * slack)


def _check_among(what, value, known):
    if value not in known:
        listed = ", ".join("None" if name is None else name for name in known)
        raise ValueError(f"{what} {value!r} does not exist; choose from {listed}")
