"""Each verdict of shampoo_delay says *fails* of numbers that contradict its claim."""

import numpy as np
import pytest

from experiments import shampoo_delay as experiment
from experiments.shampoo_delay import FIRST, LONG, LONG_DELAY, SEEDS, Case, Curve, adam

USUAL = Case(FIRST, FIRST, 500)


def falling(end, steps=500):
    """From end + 1 on a straight line to `end` at 60 % of the steps."""
    step = np.linspace(0, steps, 11)
    return Curve(step, end + np.maximum(0, 1 - step / (0.6 * steps)))


def as_expected(size="paper"):
    def end(case):
        return 2.0 if not case.every else 1.9 + 1e-4 * case.delay * (case.steps != LONG)

    return {
        case: {seed: falling(end(case) + 0.001 * seed, case.steps) for seed in SEEDS}
        for case in experiment.cases(size)
    }


def moved(data, case, by):
    """Every seed a little differently, as seeds are."""
    for seed, curve in data[case].items():
        data[case][seed] = curve._replace(loss=curve.loss + by + 1e-4 * seed)
    return data


def verdicts(data, size="paper"):
    return {v.claim: v.verdict for v in experiment.check(data, size)}


@pytest.mark.parametrize("size", ["tiny", "default", "paper"])
def test_what_is_expected_holds(size):
    data = as_expected(size)
    assert set(verdicts(data, size).values()) == {"holds"}


@pytest.mark.parametrize(
    ("case", "by", "claim"),
    [
        (USUAL, 0.06, "roots 20 steps late"),
        (USUAL, -0.06, "roots 20 steps late"),
        (USUAL, 0.2, "Shampoo with N = D = 20 is where Adam ends"),
        (Case(100, 100, 500), -0.05, "from N = D = 20 to 100"),
        (Case(100, 100, 500), 0.2, "from N = D = 20 to 100"),
        (Case(200, 200, 500), 0.1, "roots 200 steps late"),
        (Case(LONG_DELAY, LONG_DELAY, LONG), 0.2, "roots 1200 steps late"),
    ],
)
def test_a_claim_can_fail(case, by, claim):
    found = verdicts(moved(as_expected(), case, by))
    assert [word for c, word in found.items() if c.startswith(claim)] == ["fails"]


def test_the_step_at_which_a_loss_is_reached_lies_on_the_line_between_two_logs():
    step = np.array([0.0, 10.0, 20.0, 30.0])
    data = {
        USUAL: {1: Curve(step, np.array([4.0, 3.0, 1.0, 0.5]))},
        adam(500): {1: Curve(step, np.array([4.0, 3.5, 3.2, 2.5]))},
    }
    assert experiment.reached(data, USUAL, adam(500)) == {1: 12.5 / 500}
    assert experiment.reached(data, adam(500), USUAL) == {1: 30 / 500}  # never: all it has


def test_every_case_has_its_runs_and_reads_them_back():
    names = [point.name for point in experiment.runs("paper")]
    assert len(set(names)) == len(SEEDS) * len(experiment.cases("paper"))
    late = next(
        p for p in experiment.runs("default") if p.name == "every5-delay5-steps500-seed2"
    )
    assert late.overrides["optim.start_at"] == FIRST
    assert late.overrides["optim.delay"] == 5
