"""Each verdict of shampoo_roots says *fails* of numbers that contradict its claim."""

import copy

import pytest

from experiments import shampoo_roots as experiment
from experiments.shampoo_roots import CONDITION, SEEDS, WORST, Case


def as_expected():
    """Newton between the two SVDs at the larger sizes, errors as they should be."""
    return {case: {seed: line(case) for seed in SEEDS} for case in experiment.cases("default")}


def line(case):
    n = case.size
    double = case.dtype == "float64"
    floor = 2e-17 * case.condition if double else 2e-8 / (1 / case.condition + case.ridge)
    return {
        "seconds_eigh": 0.1 * n**3,
        "seconds_gesdd": 0.2 * n**3,
        "seconds_gesvd": n**3 * (n / 512),
        "seconds_newton": n**3,
        "error_eigh": floor,
        "error_newton": 1e-6 if double else 0.3 * floor if case.ridge > 1e-9 else 0.3,
        "residual_newton": 1e-6 if double else 20 * floor,
        "reported_newton": 5e-7,
    }


def verdicts(data):
    return {v.claim: v.verdict for v in experiment.check(data, "default")}


BY_QR = "Newton is cheaper than SVD by gesvd at n = "
BY_DIVISION = "Newton is cheaper than SVD by gesdd at n = "


def test_of_what_is_expected_claims_hold_but_of_small_matrices_and_the_faster_svd():
    found = verdicts(as_expected())
    failing = {claim for claim, word in found.items() if word == "fails"}
    assert failing == {BY_QR + "128", BY_DIVISION + "128", BY_DIVISION + "1024"}
    assert {word for claim, word in found.items() if claim not in failing} == {"holds"}


def test_of_tiny_matrices_no_time_is_judged():
    claims = {v.claim for v in experiment.check(as_expected(), "tiny")}
    assert not [claim for claim in claims if "cheaper" in claim or "gain" in claim]


LARGE = Case(1024, CONDITION, "float64", 0.0)
SMALL = Case(128, CONDITION, "float64", 0.0)
RIDGED = Case(128, WORST, "float32", 1e-6)


@pytest.mark.parametrize(
    ("case", "metric", "factor", "claim"),
    [
        (LARGE, "seconds_gesvd", 0.4, BY_QR + "1024"),
        (SMALL, "seconds_gesvd", 10, "the gain of Newton over SVD by gesvd grows"),
        (SMALL, "seconds_eigh", 11, "eigendecomposition is cheaper than Newton"),
        (SMALL, "error_eigh", 60, "in float64 eigendecomposition is exact"),
        (SMALL, "error_newton", 11, "in float64 Newton is as exact as its tolerance"),
        (RIDGED, "error_eigh", 4, "in float32 a ridge of 1e-6 makes usable roots"),
        (RIDGED, "error_newton", 4, "in float32 Newton is more exact than LAPACK's eigh"),
        (RIDGED, "reported_newton", 1e3, "the error that Newton stops by is no certificate"),
        (
            Case(128, WORST, "float32", 1e-9),
            "error_newton",
            0.1,
            "in float32 a ridge of 1e-09 does not",
        ),
    ],
)
def test_a_claim_can_fail(case, metric, factor, claim):
    data = copy.deepcopy(as_expected())
    for numbers in data[case].values():
        numbers[metric] *= factor
    found = verdicts(data)
    assert [v for c, v in found.items() if c.startswith(claim)] == ["fails"]


def test_seeds_that_disagree_decide_nothing():
    data = copy.deepcopy(as_expected())
    data[LARGE][SEEDS[0]]["seconds_gesvd"] /= 10
    assert verdicts(data)[BY_QR + "1024"] == "undecided"
    assert verdicts(data)[BY_DIVISION + "1024"] == "fails"
