"""Accuracy along the number line against NumPy's casts and closed forms."""

import jax
import ml_dtypes
import numpy as np
import pytest

from lpml import formats
from lpml.measurements import decimal_accuracy

SEED = 5


@pytest.fixture(autouse=True)
def wide():
    with jax.enable_x64(True):
        yield


def measured(**settings):
    return list(decimal_accuracy(**settings).lines(SEED))


def test_lines_are_those_of_numpy_s_rounding():
    samples, exponents = 300, range(-3, 3)
    found = measured(format="float16", lowest=-3, highest=3, samples=samples)
    random, decimals = np.random.default_rng(SEED), []
    for line, exponent in zip(found, exponents, strict=True):
        x = 2.0 ** (exponent + (np.arange(samples) + random.uniform(size=samples)) / samples)
        ratio = x.astype(np.float16).astype(float) / x
        decimals.append(-np.log10(np.sqrt(np.mean(np.log10(ratio) ** 2))))
        wanted = {
            "mean_decimal_accuracy": np.mean(decimals),
            "exponent": exponent,
            "rms_relative_error": np.sqrt(np.mean((ratio - 1) ** 2)),
            "worst_relative_error": np.abs(ratio - 1).max(),
            "decimal_accuracy": decimals[-1],
        }
        assert line == pytest.approx(wanted, rel=1e-9)


def test_the_worst_error_comes_close_to_half_a_gap():
    (line,) = measured(format="posit8", lowest=0, highest=1, samples=4096)
    values = formats.by_name("posit8").values()
    below, above = values[:-1], values[1:]
    gaps = (below >= 1) & (above <= 2)
    bound = np.max((above - below)[gaps] / (above + below)[gaps])
    assert bound == pytest.approx(1 / 17)
    assert 0.99 * bound < line["worst_relative_error"] <= bound


def test_the_rms_error_is_that_of_uniform_errors():
    samples = 20_000
    for line in measured(format="bfloat16", lowest=5, highest=7, samples=samples):
        wanted = 2.0**-7 * np.sqrt(3 / (96 * np.log(2)))
        # errors squared deviate by sqrt(4/5) of their mean
        assert line["rms_relative_error"] == pytest.approx(wanted, rel=4 * 0.45 / samples**0.5)


def test_numbers_out_of_range_have_no_decimals_but_finite_errors():
    lines = {
        line["exponent"]: line for line in measured(format="e4m3fn", lowest=-12, highest=20)
    }
    assert lines[-12]["rms_relative_error"] == lines[-12]["worst_relative_error"] == 1
    assert lines[-12]["decimal_accuracy"] == 0
    most = float(ml_dtypes.finfo(ml_dtypes.float8_e4m3fn).max)
    assert lines[19]["decimal_accuracy"] == 0
    assert lines[19]["worst_relative_error"] == pytest.approx(1 - most / 2**20, rel=1e-6)
    assert lines[9]["decimal_accuracy"] > 0, "448 is of the order of magnitude of 600"
    assert all(np.isfinite(list(line.values())).all() for line in lines.values())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"format": "mxfp4"}, "mxfp4 share scales"),
        ({"lowest": 3, "highest": 3}, "must ascend"),
        ({"highest": 1001}, "within -1000 to 1000"),
        ({"samples": 0}, "samples = 0 must be positive"),
    ],
)
def test_refuses(settings, said):
    with pytest.raises(ValueError, match=said):
        decimal_accuracy(**settings)


def test_refuses_samples_that_are_no_float64():
    with jax.enable_x64(False), pytest.raises(ValueError, match="needs config"):
        decimal_accuracy()
