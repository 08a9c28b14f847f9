"""Each verdict of shampoo_overhead says *fails* of numbers that contradict its claim."""

import pytest

from experiments import shampoo_overhead as experiment
from experiments.shampoo_overhead import SEEDS, Case


def as_expected():
    line = {
        "ratio_asynchronous": 1.05,
        "ratio_inline": 1.3,
        "ratio_program": 1.12,
        "hidden": 0.8,
        "waited": 0.0,
        **dict(at_solving=0.001, at_solved=0.08, at_swapping=0.3, at_swapped=0.302),
    }
    return {Case(every): {seed: dict(line) for seed in SEEDS} for every in (5, 20)}


def verdicts(data, size="default"):
    return {v.claim: v.verdict for v in experiment.check(data, size)}


def test_what_is_expected_holds():
    assert set(verdicts(as_expected()).values()) == {"holds"}


def test_at_the_tiny_size_only_the_order_is_judged():
    (claim,) = verdicts({Case(4): as_expected()[Case(20)]}, "tiny")
    assert claim.startswith("roots are solved for after the snapshot")


@pytest.mark.parametrize(
    ("metric", "value", "claim"),
    [
        ("ratio_asynchronous", 1.11, "roots from the host meanwhile cost at most 10%"),
        ("ratio_inline", 1.04, "that is less than waiting for the host"),
        ("ratio_program", 1.04, "that is less than within the program"),
        ("hidden", 0.4, "more than half of what waiting costs is hidden"),
        ("waited", 0.02, "roots are there when they are due"),
        ("at_solving", 0.09, "roots are solved for after the snapshot"),
        ("at_swapped", 0.05, "roots are solved for after the snapshot"),
    ],
)
def test_a_claim_can_fail(metric, value, claim):
    data = as_expected()
    for line in data[Case(20)].values():
        line[metric] = value
    found = verdicts(data)
    assert [word for c, word in found.items() if c.startswith(claim)] == ["fails"]


def test_seeds_that_disagree_decide_nothing():
    data = as_expected()
    data[Case(20)][SEEDS[0]]["ratio_asynchronous"] = 1.2
    assert "undecided" in verdicts(data).values()
