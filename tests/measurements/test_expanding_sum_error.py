"""Errors of expanding sums against sums in NumPy, exact in float64 and rounded by its casts."""

import jax
import ml_dtypes
import numpy as np
import pytest

from lpml.measurements import expanding_sum_error

LENGTH, EVERY, TRIALS, SEED = 12, 6, 50, 7


@pytest.fixture(autouse=True)
def wide():
    with jax.enable_x64(True):
        yield


def measured(**settings):
    sizes = {"length": LENGTH, "every": EVERY, "trials": TRIALS, **settings}
    return list(expanding_sum_error(**sizes).lines(SEED))


def by_hand():
    """The lines for e5m2 into float16, whose sums of a few Gaussian products float64 holds."""
    random = np.random.default_rng(SEED)
    exact, fused, cascaded = np.zeros((3, TRIALS))
    squares = np.zeros((2, TRIALS))
    for count in range(EVERY, LENGTH + 1, EVERY):
        a, b = random.standard_normal((2, EVERY, TRIALS)).astype(ml_dtypes.float8_e5m2)
        products = a.astype(float) * b.astype(float)
        for i, product in enumerate(products):
            exact = exact + product
            wanted = cascaded + product
            cascaded = wanted.astype(np.float16).astype(float)
            squares[1] += (cascaded - wanted) ** 2
            if i % 2:
                wanted = fused + products[i - 1] + product
                fused = wanted.astype(np.float16).astype(float)
                squares[0] += (fused - wanted) ** 2
        reference = exact.astype(np.float16).astype(float)
        errors = np.abs([fused - reference, cascaded - reference])
        one, two = np.sqrt((errors**2).mean(1) / (reference**2).mean())
        walks = np.sqrt(squares.mean(1) / (reference**2).mean())
        yield {
            "exsdotp_error": one,
            "exfma_error": two,
            "ratio": one / two,
            "at_least_as_good": np.mean(errors[0] <= errors[1]),
            "three_times": np.mean((errors[1] >= 3 * errors[0]) & (errors[1] > 0)),
            "exsdotp_random_walk": walks[0],
            "exfma_random_walk": walks[1],
            "length": count,
        }


def test_lines_are_those_of_a_loop_in_numpy():
    found, wanted = measured(), list(by_hand())
    assert len(found) == len(wanted) == LENGTH // EVERY
    assert wanted[-1]["exsdotp_error"] > 0
    assert wanted[-1]["ratio"] != 1, "the oracle sees a difference"
    for line, numbers in zip(found, wanted):
        assert line.keys() == numbers.keys()
        for name, number in numbers.items():
            assert line[name] == pytest.approx(number, rel=1e-12), name


def test_two_products_are_exact_but_for_the_rounding_of_the_reference():
    (line,) = measured(length=2, every=2)
    assert line["exsdotp_error"] == 0
    assert line["at_least_as_good"] == 1
    assert line["exsdotp_random_walk"] > 0


def test_the_seed_is_all_that_decides():
    made = expanding_sum_error(length=EVERY, every=EVERY, trials=TRIALS)
    first, again, other = (list(made.lines(seed)) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"source": "posit8"}, "supported are a Minifloat"),
        ({"source": "float32", "into": "float32"}, "supported are a Minifloat"),
        ({"every": 5, "length": 10}, "every = 5 must be even"),
        ({"every": 4, "length": 10}, "multiple of every = 4"),
        ({"trials": 0}, "trials = 0 must be positive"),
    ],
)
def test_refuses(settings, said):
    with pytest.raises(ValueError, match=said):
        measured(**settings)


def test_refuses_a_reference_that_is_no_float64():
    with jax.enable_x64(False), pytest.raises(ValueError, match="needs config"):
        measured()
