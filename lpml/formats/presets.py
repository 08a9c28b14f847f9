"""The scaled formats that have names."""

from typing import Any

from lpml.formats.block_scales import POWERS
from lpml.formats.integers import Symmetric
from lpml.formats.minifloat import E2M1, E2M3, E4M3FN, Minifloat
from lpml.formats.scaled import Scaled


def VSQ(bits: int = 4, block: int = 16, scale_bits: int = 4, **options: Any) -> Scaled:
    """Per-vector scaled integers with integer scales (Dai et al., VS-Quant, MLSys 2021).

    Args:
      bits: of an element.
      block: numbers per vector, 16 to 64 in the paper.
      scale_bits: of the unsigned integer that scales a vector.
      **options: `signed=False` for activations after a ReLU; `outer`: the float above the
        integer scales, "row" (default: one per line along the axis, so per output channel)
        or "tensor"; else as of `Scaled` (order, scale_mode, ragged).
    """
    element = Symmetric(1.0, bits, signed=options.pop("signed", True))
    outer = options.pop("outer", "row")
    scales = Symmetric(1.0, scale_bits, signed=False)
    return Scaled(element, block, "absmax", scales, outer, **options)


def MXFP8(element: Minifloat = E4M3FN, rule: str = "floor", **options: Any) -> Scaled:
    """OCP microscaling of E4M3FN or E5M2: blocks of 32 with a power of two.

    Args:
      element: of the elements.
      rule: "floor" (OCP's), "ceil", "rceil" (cuBLAS and Transformer Engine) or "even".
      **options: as of `Scaled`, and `block`.
    """
    return _microscaled(element, rule, options)


def MXFP6(element: Minifloat = E2M3, rule: str = "floor", **options: Any) -> Scaled:
    """OCP microscaling of E2M3 or E3M2; arguments as of `MXFP8`."""
    return _microscaled(element, rule, options)


def MXFP4(rule: str = "floor", **options: Any) -> Scaled:
    """OCP microscaling of E2M1; arguments as of `MXFP8`."""
    return _microscaled(E2M1, rule, options)


def MXINT8(rule: str = "floor", **options: Any) -> Scaled:
    """OCP microscaling of integers of 1/64, -2 left unused; arguments as of `MXFP8`."""
    return _microscaled(Symmetric(2.0**-6, 8), rule, options)


def NVFP4(rule: str = "absmax", **options: Any) -> Scaled:
    """E2M1 in blocks of 16, their scales in E4M3, one float scale per tensor.

    Args:
      rule: "absmax" or "four_over_six".
      **options: as of `Scaled`.
    """
    return Scaled(E2M1, options.pop("block", 16), rule, E4M3FN, "tensor", **options)


def int_channel(bits: int = 8) -> Scaled:
    """Symmetric integers with one float scale for everything along the axis."""
    return Scaled(Symmetric(1.0, bits), "axis")


def tensor_scaled(element: Any) -> Scaled:
    """Any format with one float scale per tensor: FP8 as accelerators train with it."""
    return Scaled(element, "tensor")


def _microscaled(element, rule, options):
    if rule not in POWERS:
        raise ValueError(f"rule {rule!r} makes no MX format; choose from {', '.join(POWERS)}")
    return Scaled(element, options.pop("block", 32), rule, **options)
