"""Each verdict of exsdotp_accuracy says *fails* of numbers that contradict its claim."""

import copy

import numpy as np
import pytest

from experiments import exsdotp_accuracy as experiment
from experiments.exsdotp_accuracy import BFLOAT16, E5M2, FLOAT16, PAIRS, SEEDS

LENGTHS = np.arange(100.0, 2001, 100)


def as_expected():
    """Numbers with which all claims but the paper's factor hold."""
    growth = np.sqrt(LENGTHS / 2000)
    flat = np.ones_like(LENGTHS)
    return {
        pair: {
            seed: {
                "exsdotp_error": pair.error * growth,
                "exfma_error": pair.error / pair.ratio * growth,
                "ratio": pair.ratio * flat,
                "at_least_as_good": 0.63 * flat,
                "three_times": 0.25 * flat,
                "exsdotp_random_walk": pair.error * growth,
                "exfma_random_walk": pair.error / pair.ratio * growth,
                "length": LENGTHS,
            }
            for seed in SEEDS
        }
        for pair in PAIRS
    }


def doctored(pair, name, factor):
    data = copy.deepcopy(as_expected())
    for metrics in data[pair].values():
        metrics[name] = metrics[name] * factor
    return data


def verdicts(data):
    return {v.claim: v.verdict for v in experiment.check(data, "default")}


def test_the_paper_s_factor_is_the_one_claim_that_fails():
    found = verdicts(as_expected())
    failing = [claim for claim, verdict in found.items() if verdict != "holds"]
    assert failing == [claim for claim in found if "three times as exact" in claim][:1]


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        ((E5M2, "ratio", 1.1), "e5m2 into float16, n = 2000"),
        ((E5M2, "exsdotp_error", 1.2), "e5m2 into float16, n = 2000"),
        ((BFLOAT16, "ratio", 1.2), "at n = 2000 ExSdotp has the smaller RMS error"),
        ((E5M2, "exfma_random_walk", 0.8), "the roundings of a sum are uncorrelated"),
        ((FLOAT16, "ratio", 1.06), "where hardly any sum is exact"),
        ((BFLOAT16, "ratio", 0.7), "products of fewer bits gain less"),
        ((E5M2, "exsdotp_error", LENGTHS), "errors relative to the sum grow like sqrt(n)"),
        ((E5M2, "three_times", 0.1), "but a single sum that is three times as exact"),
        ((FLOAT16, "exfma_error", 10), "the paper's errors at n = 2000"),
        ((FLOAT16, "at_least_as_good", 1.5), "in a single sum ExSdotp may well be further off"),
    ],
)
def test_a_claim_can_fail(change, claim):
    found = verdicts(doctored(*change))
    assert [v for c, v in found.items() if c.startswith(claim)] == ["fails"]


def test_the_paper_s_factor_could_hold():
    found = verdicts(doctored(E5M2, "ratio", 0.3))
    assert [v for c, v in found.items() if c.startswith("the paper: FP8")] == ["holds"]
