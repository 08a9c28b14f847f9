"""Formats by name, as configs and commands spell them."""

import dataclasses
import re
from collections.abc import Callable

from lpml.formats import minifloat, presets
from lpml.formats.block_scales import POWERS
from lpml.formats.fixed import Fixed
from lpml.formats.integers import Symmetric
from lpml.formats.minifloat import Minifloat
from lpml.formats.posit import Posit
from lpml.formats.protocol import Format
from lpml.formats.scaled import Scaled

_NAMED: dict[str, Format | Scaled] = {
    "e4m3fn": minifloat.E4M3FN,
    "e5m2": minifloat.E5M2,
    "e4m3": minifloat.E4M3,
    "e3m4": minifloat.E3M4,
    "e2m3": minifloat.E2M3,
    "e3m2": minifloat.E3M2,
    "e2m1": minifloat.E2M1,
    "float16": minifloat.FLOAT16,
    "bfloat16": minifloat.BFLOAT16,
    "float32": Minifloat(8, 23),
    "mxfp8e4m3": presets.MXFP8(),
    "mxfp8e5m2": presets.MXFP8(minifloat.E5M2),
    "mxfp6e2m3": presets.MXFP6(),
    "mxfp6e3m2": presets.MXFP6(minifloat.E3M2),
    "mxfp4": presets.MXFP4(),
    "mxint8": presets.MXINT8(),
    "nvfp4": presets.NVFP4(),
    "fp8tensor": presets.tensor_scaled(minifloat.E4M3FN),
}
# The other scale rules of the MX formats, spelled behind their names: "mxfp4rceil".
_RULED = {
    f"{name}{rule}": dataclasses.replace(fmt, rule=rule)
    for name, fmt in _NAMED.items()
    if isinstance(fmt, Scaled) and fmt.rule in POWERS
    for rule in POWERS
    if rule != fmt.rule
}
_ALIASES = {
    "fp16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
    "fp32": "float32",
    "float8_e4m3fn": "e4m3fn",
    "float8_e4m3": "e4m3",
    "float8_e5m2": "e5m2",
    "float8_e3m4": "e3m4",
    "float6_e2m3fn": "e2m3",
    "float6_e3m2fn": "e3m2",
    "float4_e2m1fn": "e2m1",
}
# A family: its pattern, how it is written, and the format made of the pattern's numbers.
_FAMILIES: list[tuple[str, str, Callable[..., Format | Scaled]]] = [
    (r"fixed(\d+)", "fixed<bits>", lambda bits: Fixed.spanning(1.0, bits)),
    (r"int(\d+)", "int<bits>", lambda bits: Fixed(1.0, bits)),
    (r"int(\d+)channel", "int<bits>channel", presets.int_channel),
    (
        r"int(\d+)tensor",
        "int<bits>tensor",
        lambda bits: presets.tensor_scaled(Symmetric(1.0, bits)),
    ),
    (r"vsq(\d+)", "vsq<bits>", presets.VSQ),
    (r"vsq(\d+)v(\d+)m(\d+)", "vsq<bits>v<block>m<scale bits>", presets.VSQ),
    (r"e(\d+)m(\d+)", "e<exponent bits>m<mantissa bits>", Minifloat),
    (r"posit(\d+)", "posit<bits>", Posit),
    (r"posit(\d+)es(\d+)", "posit<bits>es<exponent bits>", Posit),
]


def by_name(name: str) -> Format | Scaled:
    """The format that `name` stands for.

    Args:
      name: one of the standard names ("e4m3fn", "e2m1", "bfloat16", also as NumPy spells
        them: "float8_e4m3fn") or of a family: "fixed8" (fixed point whose largest value is
        1), "int8" (the integers), "e4m3" (IEEE-like, unless OCP defines it without infinity:
        "e2m3", "e3m2", "e2m1"). Scaled formats: "vsq4" (blocks of 16, 4-bit scales),
        "vsq4v64m8", "mxfp8e4m3", "mxfp6e2m3", "mxfp4", "mxint8", "nvfp4", "int8channel" (one
        scale along the axis), "int8tensor" (one scale), "fp8tensor" (E4M3FN, one scale). MX
        names may end in a scale rule other than OCP's floor: "mxfp8e4m3rceil".

    Raises:
      ValueError: no such format, with the names there are; or a width out of range.
    """
    wanted = name.lower()
    wanted = _ALIASES.get(wanted, wanted)
    for known in (_NAMED, _RULED):
        if wanted in known:
            return known[wanted]
    for pattern, _, make in _FAMILIES:
        if found := re.fullmatch(pattern, wanted):
            return make(*map(int, found.groups()))
    raise ValueError(f"number format {name!r} does not exist; known are {', '.join(names())}")


def names() -> list[str]:
    """All names that `by_name` knows, families as patterns; no other spellings or rules."""
    return [*_NAMED, *(written for _, written, _ in _FAMILIES)]
