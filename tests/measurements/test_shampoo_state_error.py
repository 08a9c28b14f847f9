"""A state in few bits measured beside floats: what is lost, of what size; refusals."""

import math

import pytest

from lpml.measurements import shampoo_state_error

TINY = dict(size=4, samples=4, steps=8, count=2, beta2=0.9)


def test_a_state_in_floats_loses_nothing():
    *_, line = shampoo_state_error(**TINY, statistics_format=None, roots_format=None).lines(1)
    assert line["direction_error"] == line["root_error"] == line["statistics_error"] == 0
    assert line["cosine"] == pytest.approx(1, abs=1e-6)
    assert line["bytes_per_parameter"] == 16


def test_a_state_in_few_bits_loses_something_and_takes_the_bytes_of_its_codes():
    measurement = shampoo_state_error(**TINY, roots_format="int4")
    first, last = measurement.lines(1)
    assert first.keys() == set(measurement.metrics)
    # a row of two: 4 codes of a byte, of half of one; floats of the diagonal and of pivots
    assert last["bytes_per_parameter"] == 2 * ((2 * 4 + 32) + (2 * 2 + 32)) / 16
    assert 1e-4 < last["statistics_error"] < 0.2
    assert last["statistics_error"] < last["root_error"] < 1
    # chord and angle between directions of length 1
    assert last["direction_error"] == pytest.approx(math.sqrt(2 - 2 * last["cosine"]), rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(size=1), "size = 1 must be at least 2"),
        (dict(condition=1.0), r"condition = 1\.0 must be above 1, beta2 = 0\.99 in"),
        (dict(steps=10), "steps = 10 must be a multiple of twice count = 4"),
        (dict(form="half"), "form 'half' does not exist"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        shampoo_state_error(**settings)
