"""Blow-ups of gradients, against closed forms and numpy's own draws."""

import numpy as np
import pytest
from scipy.stats import norm

from lpml.measurements import gradient_blow_up

# A mean of ours beside a number known exactly: 4.5 of its errors come once in 10^5.
ERRORS = 4.5


def only_line(seed=1, **settings):
    (line,) = gradient_blow_up(**{"sizes": (400,), "trials": 200, **settings}).lines(seed)
    return line


def expected(g, bits):
    """E ||Q(g)||^2 / ||g||^2 = 1 + (s / K)^2 sum f (1 - f) / ||g||^2, in float64."""
    step = np.max(np.abs(g)) / (2 ** (bits - 1) - 1)
    rest = np.abs(g) / step % 1
    return 1 + step**2 * np.sum(rest * (1 - rest)) / np.sum(g**2)


@pytest.mark.parametrize("bits", [2, 3])
def test_the_worst_gradient_blows_up_as_the_closed_form_says(bits):
    line = only_line(bits=bits, spike=True)
    spike = np.full(400, 1 / 21)
    spike[0] = 1
    assert expected(spike, 2) == pytest.approx(21 / 2, rel=1e-12)
    assert abs(line["blow_up"] - expected(spike, bits)) < ERRORS * line["error"]
    assert line["error"] < 0.03 * line["blow_up"]
    assert line["clip_bias"] == 0


@pytest.mark.parametrize("clip", [None, 1.0])
def test_normal_gradients_blow_up_as_in_numpy(clip):
    draws = np.random.default_rng(7).standard_normal((4000, 400))
    most = np.inf if clip is None else clip * draws.std(1, keepdims=True)
    cut = np.clip(draws, -most, most)
    shares = np.sum(cut**2, 1) / np.sum(draws**2, 1)
    theirs = np.array([expected(g, 3) for g in cut]) * shares
    line = only_line(bits=3, clip=clip)
    assert abs(line["blow_up"] - theirs.mean()) < ERRORS * np.hypot(
        line["error"], theirs.std() / np.sqrt(len(theirs))
    )
    assert line["error"] < 0.01
    assert line["size"] == 400


def test_what_is_cut_off_is_the_integral_over_the_tail():
    line = only_line(clip=1.5, sizes=(20_000,), trials=16)
    x = np.linspace(1.5, 9, 100_001)
    beyond = 2 * np.trapezoid((x - 1.5) ** 2 * norm.pdf(x), x)
    # of 320000 entries: the error of their mean is 0.6 %
    assert line["clip_bias"] == pytest.approx(beyond, rel=0.025)


def test_there_is_a_line_for_each_size_and_the_seed_decides():
    made = gradient_blow_up(sizes=(8, 4), trials=2)
    lines = list(made.lines(1))
    assert [line["size"] for line in lines] == [8, 4]
    assert made.count == 2
    assert lines == list(made.lines(1))
    assert lines != list(made.lines(2))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(bits=1), "bits = 1 must be a whole number from 2 to 8"),
        (dict(clip=0.0), r"clip = 0\.0 must be positive, or None for no clipping"),
        (dict(sizes=()), r"sizes = \[\] must be one or more numbers"),
        (dict(sizes=(4, 0)), r"sizes = \[4, 0\] must be one or more numbers, at least 1"),
        (dict(trials=1), "trials = 1 must be at least 2"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        gradient_blow_up(**settings)
