"""Staircases and the step sizes that fit normal inputs: quadrature, samples, a minimiser."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from lpml.theory import ROUNDINGS, best_alpha, quantisation_error, staircase, thresholds

# The best alpha for 1 to 4 bits, by rule, and the mean squared error at 2 bits.
TABLE = {
    "ceil": ((0.7979, 0.4866, 0.2893, 0.1666), 0.12316),
    "nearest_positive": ((0.7979, 0.5388, 0.3217, 0.1842), 0.08644),
    "nearest": ((1.2240, 0.6508, 0.3534, 0.1932), 0.04686),
}
every_rounding = pytest.mark.parametrize("rounding", ROUNDINGS)


def level_of(x, alpha, bits, rounding):
    """The level by its words, in numpy."""
    levels = alpha * np.arange(2**bits)
    if x <= 0:
        return 0.0
    if rounding == "ceil":
        return min(np.ceil(x / alpha) * alpha, levels[-1])
    near = levels[1:] if rounding == "nearest_positive" else levels
    return near[np.argmin(np.abs(near - x))]


@every_rounding
def test_staircases_are_what_their_words_say(rounding):
    x = np.random.default_rng(0).normal(size=300)
    for bits in (1, 2, 4):
        wanted = [level_of(each, 0.37, bits, rounding) for each in x]
        found = staircase(jnp.asarray(x), 0.37, bits=bits, rounding=rounding)
        np.testing.assert_allclose(found, wanted, atol=1e-12)


@every_rounding
@pytest.mark.parametrize(("bits", "alpha"), [(1, 0.6), (2, 0.5), (3, 0.7)])
def test_the_error_is_the_integral(rounding, bits, alpha):
    def inside(x):
        return 2 * norm.pdf(x) * (level_of(x, alpha, bits, rounding) - x) ** 2

    jumps = [float(t) for t in alpha * thresholds(bits, rounding) if t > 0]
    ends = itertools.pairwise([0.0, *jumps, 12.0])
    wanted = sum(quad(inside, low, high)[0] for low, high in ends)
    found = quantisation_error(alpha, bits=bits, rounding=rounding)
    assert float(found) == pytest.approx(wanted, abs=1e-7)


@every_rounding
def test_the_best_alphas_are_the_tables(rounding):
    alphas, error = TABLE[rounding]
    found = [float(best_alpha(bits, rounding)) for bits in (1, 2, 3, 4)]
    np.testing.assert_allclose(found, alphas, atol=5.1e-5)
    least = quantisation_error(found[1], bits=2, rounding=rounding)
    assert float(least) == pytest.approx(error, abs=5.1e-6)


@every_rounding
def test_no_alpha_is_better_by_another_minimiser(rounding):
    def error(alpha):
        return float(quantisation_error(alpha, bits=2, rounding=rounding))

    other = minimize_scalar(
        error, bounds=(0.1, 2.5), method="bounded", options={"xatol": 1e-10}
    )
    assert float(best_alpha(2, rounding)) == pytest.approx(other.x, abs=1e-6)
    grid = quantisation_error(jnp.linspace(0.05, 4, 3000), bits=2, rounding=rounding)
    assert float(jnp.min(grid)) >= error(float(best_alpha(2, rounding)))


@pytest.mark.parametrize("bits", [1, 8])
@every_rounding
def test_the_search_brackets_the_best_at_the_ends_of_the_widths(bits, rounding):
    best = float(best_alpha(bits, rounding))
    around = quantisation_error(best * jnp.array([0.99, 1, 1.01]), bits=bits, rounding=rounding)
    assert around[1] < around[0]
    assert around[1] < around[2]
    assert 0.79 < best * (2**bits - 1) < 4.4


def test_hwgqs_step_is_the_second_rule():
    assert float(best_alpha(2, "nearest_positive")) == pytest.approx(0.538, abs=1e-3)


def test_an_alpha_of_another_rule_costs_a_third_more():
    right = float(best_alpha(2, "ceil"))
    errors = quantisation_error(jnp.array([0.6511, right]), bits=2, rounding="ceil")
    assert float(errors[0]) == pytest.approx(0.16306, abs=5.1e-6)
    assert float(errors[0] / errors[1]) == pytest.approx(1.324, abs=5e-4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [((0, "ceil"), "bits = 0 must be 1 to 8"), ((9, "ceil"), "bits = 9"),
     ((2, "floor"), "rounding 'floor' does not exist; choose from ceil")],
)  # fmt: skip
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        best_alpha(*settings)
