"""Each verdict of shampoo_state says *fails* of numbers that contradict its claim."""

import copy

import numpy as np
import pytest

from experiments import shampoo_state as experiment
from experiments.shampoo_state import (
    CONDITION,
    ENTRIES,
    FACTOR,
    FULL,
    NEAREST,
    RECIPES,
    SEEDS,
    STOCHASTIC,
    Case,
    Found,
    Recipe,
)

ERRORS = {"int16": 0.001, "int8": 0.09, "vsq4": 0.2, "nvfp4": 0.2, "mxfp4": 0.2}


def line(case):
    error = ERRORS.get(case.format, 0.28) * (4 if case.form == ENTRIES else 1)
    return {
        "direction_error": error,
        "cosine": 1 - error**2 / 2,
        "statistics_error": error * (4 if case.rounding == NEAREST else 1),
        "accepted": 1.0,
        "bytes_per_parameter": 2.5,
    }


def as_expected():
    errors = {case: {s: line(case) for s in SEEDS} for case in experiment.cases()}
    losses = {
        r: {s: np.array([2.0, (0.2 if r.form == ENTRIES else 0.04) + s / 1e4]) for s in SEEDS}
        for r in RECIPES
    }
    return Found(errors, losses, {r: {s: 98.0 + s / 10 for s in SEEDS} for r in RECIPES})


def verdicts(found, size="default"):
    return {v.claim: v.verdict for v in experiment.check(found, size)}


def test_of_what_is_expected_all_claims_hold():
    assert set(verdicts(as_expected()).values()) == {"holds"}


def test_of_the_tiny_size_no_training_is_judged():
    assert not [claim for claim in verdicts(as_expected(), "tiny") if "trained" in claim]


@pytest.mark.parametrize(
    ("case", "metric", "value", "claim"),
    [
        *(
            (Case(name, FACTOR, STOCHASTIC, CONDITION), "cosine", 0.9, f"factors in {name}")
            for name in ("int16", "int8", "vsq4", "int4")
        ),
        (Case("int4", FACTOR, STOCHASTIC, CONDITION), "direction_error", 0.1, "at 4 bits"),
        (Case("int8", FACTOR, STOCHASTIC, 1e8), "accepted", 0.0, "the root of every factor"),
        *(
            (Case(name, ENTRIES, STOCHASTIC, 1e6), "direction_error", 0.01, f"{name}: factors")
            for name in experiment.COMPARED
        ),
        *(
            (
                Case(name, FACTOR, NEAREST, CONDITION),
                "statistics_error",
                0.1,
                f"{name}: rounded",
            )
            for name in experiment.ROUNDED
        ),
    ],
)
def test_a_contradiction_fails(case, metric, value, claim):
    found = as_expected()
    for of_seed in found.errors[case].values():
        of_seed[metric] = value
    failing = [c for c, word in verdicts(found).items() if word == "fails"]
    assert any(c.startswith(claim) for c in failing)


@pytest.mark.parametrize("recipe", [r for r in RECIPES if r != FULL and r.form == FACTOR])
def test_training_that_loses_fails(recipe):
    found = copy.deepcopy(as_expected())
    for seed in SEEDS:
        found.losses[recipe][seed] *= 2
        found.accuracies[recipe][seed] -= 5
    failing = [c for c, word in verdicts(found).items() if word == "fails"]
    assert len(failing) == 2
    assert all(RECIPES[recipe] in claim for claim in failing)


def test_entries_that_train_as_fast_fail():
    found = as_expected()
    entries, factor = (Recipe("vsq4", form) for form in (ENTRIES, FACTOR))
    found.losses[entries].update(found.losses[factor])
    failing = [c for c, word in verdicts(found).items() if word == "fails"]
    assert len(failing) == 1
    assert failing[0].startswith("in vsq4 factors train faster")


def test_the_picture_is_drawn():
    assert len(experiment.draw(as_expected())["figure"].axes) == 4
