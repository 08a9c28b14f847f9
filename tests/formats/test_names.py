"""Formats by name."""

import re

import pytest

from lpml import formats
from lpml.formats import Fixed, Minifloat, by_name


@pytest.mark.parametrize(
    ("name", "fmt"),
    [
        ("e4m3fn", formats.E4M3FN),
        ("E4M3FN", formats.E4M3FN),
        ("float8_e4m3fn", formats.E4M3FN),
        ("e4m3", formats.E4M3),
        ("e2m1", formats.E2M1),
        ("float4_e2m1fn", formats.E2M1),
        ("e2m3", Minifloat(2, 3, special="finite")),
        ("bf16", formats.BFLOAT16),
        ("float16", Minifloat(5, 10)),
        ("e6m9", Minifloat(6, 9)),
        ("fixed8", Fixed.spanning(1.0, 8)),
        ("int4", Fixed(1.0, 4)),
        ("vsq4", formats.VSQ(4, 16, 4)),
        ("vsq4t", formats.VSQ(4, outer="tensor")),
        ("uvsq4", formats.VSQ(4, signed=False)),
        ("uvsq4v16m8", formats.VSQ(4, 16, 8, signed=False)),
        ("UVSQ3v64m6t", formats.VSQ(3, 64, 6, signed=False, outer="tensor")),
        ("int4tensor", formats.Scaled(formats.Symmetric(1.0, 4), "tensor")),
        ("mxfp8e4m3rceil", formats.MXFP8(rule="rceil")),
        ("mxfp8e5m2even", formats.MXFP8(formats.E5M2, rule="even")),
        ("MXFP4ceil", formats.MXFP4("ceil")),
        ("uint4tensor", formats.Scaled(formats.Symmetric(1.0, 4, signed=False), "tensor")),
        ("uint8channel", formats.Scaled(formats.Symmetric(1.0, 8, signed=False))),
    ],
)
def test_names_stand_for_formats(name, fmt):
    assert by_name(name) == fmt


def test_every_listed_name_is_known():
    for name in formats.names():
        made = by_name(re.sub("<[^>]*>", "4", name))
        assert isinstance(made, formats.Format)


def test_an_unknown_name_is_refused_with_the_list():
    with pytest.raises(ValueError, match=r"'e4m3x' does not exist; known are e4m3fn, .*int"):
        by_name("e4m3x")
    for name in ("nvfp4rceil", "mxfp4floor", "mxfp4tensor"):
        with pytest.raises(ValueError, match=f"'{name}' does not exist"):
            by_name(name)
    with pytest.raises(ValueError, match="exponent_bits = 9"):
        by_name("e9m1")
    with pytest.raises(ValueError, match="bits = 64"):
        by_name("int64")
    with pytest.raises(ValueError, match="'uint4' does not exist"):
        by_name("uint4")


WRONG = [
    (lambda: formats.Posit(8, True), "es = True must be a whole number"),
    (lambda: Fixed(-1.0, 8), "scale = -1.0 must be a number of at least 0"),
    (lambda: Fixed(float("nan"), 8), "scale = nan"),
    (lambda: formats.Table(3.0), "points = 3.0 must be a list of numbers"),
    (lambda: formats.Scaled("e2m1", 16), "element = 'e2m1' must be a format of single numbers"),
    (lambda: formats.Scaled(formats.VSQ(), 16), "must be a format of single numbers"),
    (lambda: formats.MXFP8(rule="absmax"), "rule 'absmax' makes no MX format"),
]


@pytest.mark.parametrize(("make", "words"), WRONG)
def test_what_makes_no_format_is_refused_in_a_sentence(make, words):
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)
