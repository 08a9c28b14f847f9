"""Inverse roots measured: the matrix against exact rationals, the solvers, refusals."""

from fractions import Fraction

import jax
import numpy as np
import pytest

from lpml.measurements import root_accuracy
from lpml.measurements.root_accuracy import METHODS, METRICS, known_root


def final(**settings):
    with jax.enable_x64(True):
        *_, line = root_accuracy(size=16, rounds=1, **settings).lines(3)
    return line


@pytest.mark.parametrize("n", [4, 16])
def test_the_matrix_is_what_its_root_says_without_rounding(n):
    """Of p = 1 and integers as eigenvectors, A A^-1 = I holds to the rounding of A^-1."""
    a, inverse = known_root(n, 1e4, 1, 0.0, seed=2)
    product = [
        [
            sum(Fraction(a[i, k]) * Fraction(inverse[k, j]) for k in range(n)) - (i == j)
            for j in range(n)
        ]
        for i in range(n)
    ]
    # entries of the inverse are up to 1e4 with 53 bits each; A's own would be 1e4 times that
    assert max(abs(float(v)) for row in product for v in row) < n * 1e4 * 2.0**-53


def test_eigenvalues_are_on_the_grid_that_keeps_sums_exact():
    a, _ = known_root(64, 1e6, 4, 0.0, seed=0)
    step = Fraction(1, 2**52)
    assert all((Fraction(v) / step).denominator == 1 for v in a.ravel())
    assert np.linalg.eigvalsh(a)[[0, -1]] == pytest.approx([1e-6, 1.0], rel=1e-8)


@pytest.mark.parametrize("p", [2, 4])
def test_the_root_is_of_the_ridged_matrix(p):
    a, root = known_root(16, 100.0, p, 0.5, seed=1)
    power = np.linalg.matrix_power(root, p) @ (a + 0.5 * np.eye(16))
    assert np.abs(power - np.eye(16)).max() < 1e-13
    assert not np.array_equal(root, known_root(16, 100.0, p, 0.5, seed=2)[1])


def test_in_float64_all_methods_find_it():
    line = final(condition=1e4)
    assert line.keys() == {*METRICS}
    for method in METHODS:
        assert line[f"error_{method}"] < (1e-5 if method == "newton" else 1e-11)
        assert line[f"residual_{method}"] < (1e-5 if method == "newton" else 1e-11)
        assert line[f"seconds_{method}"] > 0
    assert abs(line["iterations_newton"] - 14) <= 1
    assert 0 < line["reported_newton"] < 1e-6


def test_in_float32_they_find_what_float32_allows():
    line = final(condition=1e4, dtype="float32", epsilon=1e-6)
    for method in METHODS:
        assert 1e-7 < line[f"error_{method}"] < 1e-3
    singular = final(condition=1e10, dtype="float32", epsilon=0.0)
    assert all(np.isfinite(list(singular.values())))
    assert min(singular[f"error_{method}"] for method in METHODS) > 0.05


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(size=100), "size = 100 must be a power of two from 4 to 4096"),
        (dict(condition=1e12), r"condition = 1000000000000\.0 must be above 1 and at most"),
        (dict(dtype="bfloat16"), "dtype 'bfloat16' must be float64 or float32"),
        (dict(rounds=0), "rounds = 0 and exponent = 4 must be positive"),
        (dict(epsilon=-1.0), r"epsilon = -1\.0 of the damping"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with jax.enable_x64(True), pytest.raises(ValueError, match=words):
        root_accuracy(**settings)


def test_the_reference_needs_float64():
    with pytest.raises(ValueError, match=r"needs config\.precision = 'float64'"):
        root_accuracy()
