"""Scaled formats by name, and the sentences that refuse the impossible."""

import jax.numpy as jnp
import pytest

from lpml import formats


@pytest.mark.parametrize(
    ("name", "fmt"),
    [
        ("vsq4", formats.VSQ()),
        ("VSQ3v64m6", formats.VSQ(3, 64, 6)),
        ("mxfp8e4m3", formats.MXFP8(formats.E4M3FN)),
        ("mxfp8e5m2", formats.MXFP8(formats.E5M2)),
        ("mxfp6e2m3", formats.MXFP6(formats.E2M3)),
        ("mxfp6e3m2", formats.MXFP6(formats.E3M2)),
        ("mxfp4", formats.MXFP4()),
        ("mxint8", formats.MXINT8()),
        ("nvfp4", formats.NVFP4()),
        ("int4channel", formats.int_channel(4)),
        ("fp8tensor", formats.tensor_scaled(formats.E4M3FN)),
    ],
)
def test_names(name, fmt):
    assert formats.by_name(name) == fmt
    assert hash(formats.by_name(name)) == hash(fmt)


def test_mxint8_is_two_to_the_minus_six():
    assert formats.MXINT8().element.largest == 127 / 64


INT4 = formats.Symmetric(1.0, 4)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: formats.Scaled(INT4, 0), "block = 0 must be a positive int"),
        (lambda: formats.Scaled(INT4, "row"), "block = 'row' must be"),
        (
            lambda: formats.Scaled(INT4, 16, "max"),
            "rule 'max' does not .* absmax",
        ),
        (lambda: formats.Scaled(INT4, 16, outer="all"), "outer 'all' .* None, row, tensor"),
        (lambda: formats.Scaled(INT4, 16, outer="row"), "need a scale_format"),
        (lambda: formats.MXFP4("floor", scale_format=INT4), "makes powers of two"),
        (lambda: formats.NVFP4("four_over_six", block=512), "at most 256"),
        (lambda: formats.VSQ(order="given"), "order 'given' .* requantise, paper"),
        (lambda: formats.VSQ(ragged="cut"), "ragged 'cut' .* refuse, pad"),
        (lambda: formats.VSQ(scale_mode="up"), "rounding mode 'up'"),
        (lambda: formats.VSQ(scale_mode="stochastic"), "not rounded stochastically"),
        (lambda: formats.VSQ(bits=1), "bits = 1 is outside"),
        (lambda: formats.Symmetric(1.0, 32, signed=False), "use at most 31"),
    ],
)
def test_what_makes_no_sense_is_refused(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()


def test_a_number_without_axes_has_no_blocks():
    with pytest.raises(ValueError, match="axis -1 is none"):
        formats.VSQ().round(jnp.float32(1.0))
    assert abs(formats.by_name("fp8tensor").round(jnp.float32(3.0)) - 3) < 1e-6
