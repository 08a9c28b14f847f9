"""Errors and curves of quantised ReLU as measured, against numpy."""

import jax
import numpy as np
import pytest

from lpml.measurements import staircase_curve, staircase_error


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def all_lines(measurement):
    found = list(measurement.lines(5))
    assert len(found) == measurement.count
    assert all(tuple(line) == measurement.metrics for line in found)
    return found


def test_errors_are_exact_and_sampled():
    settings = dict(bits=2, lowest=0.3, highest=0.7, points=3, samples=20_000)
    x = np.abs(np.random.default_rng(5).normal(size=20_000))
    for line, alpha in zip(
        all_lines(staircase_error(**settings)), (0.3, 0.5, 0.7), strict=True
    ):
        squares = (np.minimum(np.ceil(x / alpha), 3) * alpha - x) ** 2
        assert line["alpha"] == pytest.approx(alpha)
        assert line["sampled_mse"] == pytest.approx(squares.mean())
        assert line["standard_error"] == pytest.approx(squares.std(ddof=1) / np.sqrt(20_000))
        assert abs(line["mse"] - line["sampled_mse"]) < 4.5 * line["standard_error"]
        assert line["best_alpha"] == pytest.approx(0.4866, abs=5e-5)
        assert line["best_mse"] == pytest.approx(0.12316, abs=5e-6)
        assert line["best_mse"] <= line["mse"]


def test_curves_are_the_staircase_and_three_derivatives():
    lines = all_lines(staircase_curve(rounding="nearest", lowest=-1.0, highest=3.0, points=41))
    alpha = lines[0]["alpha"]
    assert alpha == pytest.approx(0.6508, abs=5e-5)
    for line in lines:
        x = line["input"]
        level = np.clip(np.round(x / alpha), 0, 3) * alpha
        assert line["output"] == pytest.approx(level)
        wanted = (1, x > 0, 0 < x < 3 * alpha)
        assert (line["identity"], line["relu"], line["clipped_relu"]) == wanted


@pytest.mark.parametrize(
    ("measure", "settings", "words"),
    [
        (
            staircase_error,
            dict(rounding="up"),
            "rounding 'up' does not exist; choose from ceil",
        ),
        (staircase_error, dict(bits=9), "bits = 9 must be 1 to 8"),
        (staircase_error, dict(lowest=0.5, highest=0.4), "highest = 0.4 must not be below"),
        (staircase_error, dict(samples=1), "samples = 1 must be at least 2"),
        (staircase_curve, dict(points=1), "points = 1 must be at least 2"),
        (staircase_curve, dict(lowest=1.0, highest=1.0), "must ascend"),
    ],
)
def test_bad_settings_are_refused(measure, settings, words):
    with pytest.raises(ValueError, match=words):
        measure(**settings)


def test_errors_in_float32_are_refused():
    with (
        jax.enable_x64(False),
        pytest.raises(ValueError, match=r"config\.precision = 'float64'"),
    ):
        staircase_error()
