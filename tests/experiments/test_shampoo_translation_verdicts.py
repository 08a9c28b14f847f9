"""Each verdict on translation says *fails* of curves that contradict its claim."""

import numpy as np
import pytest

from experiments import shampoo_translation as experiment
from experiments import translations
from experiments.translations import (
    ADAGRAD,
    ADAM,
    METHODS,
    MOMENTUM,
    MUON,
    SHAMPOO,
    Curve,
    Trained,
    steps_to,
)
from lpml.runs import Run

STEPS = np.arange(0.0, 101.0, 10.0)
# steps to a loss of 1
NEEDED = {SHAMPOO: 50, ADAM: 100, ADAGRAD: 400, MOMENTUM: 200, MUON: 80}
SEEDS = (1, 2, 3)


def curve(needed, seed, end=90.0):
    loss = 5 - 4 * STEPS / needed + 0.01 * seed
    return Curve(STEPS, loss, np.linspace(0, end + 0.01 * seed, len(STEPS)))


def as_expected():
    """Twice as fast as Adam in steps, 1.6 times in seconds; the second rate is the best."""
    curves = {
        (method.slug, rate): {s: curve(times * needed, s) for s in SEEDS}
        for method, needed in NEEDED.items()
        for rate, times in ((0.1, 1.5), (0.3, 1.0), (1.0, 3.0))
    }
    seconds = {m.slug: np.array([2.0, 1.0, 1.0, 1.0]) for m in METHODS}
    return Trained(curves, seconds | {"shampoo": np.array([1.25, 1.25, 9.0])})


def words(trained):
    return {v.claim.partition(" (")[0]: v.verdict for v in experiment.check(trained, "default")}


def test_of_what_is_expected_all_holds_and_the_numbers_are_those_put_in():
    trained = as_expected()
    assert set(words(trained).values()) == {"holds"}
    assert {trained.rate(method) for method in METHODS} == {0.3}
    for in_time, ratio in ((False, 2.0), (True, 1.6)):
        found = trained.speedup(SHAMPOO, ADAM, in_time=in_time)
        assert found == pytest.approx(dict.fromkeys(SEEDS, ratio))
    assert trained.speedup(ADAGRAD, ADAM, in_time=False) == dict.fromkeys(SEEDS, 0)


STEPS_OF = "Shampoo reaches Adam's best validation loss in fewer steps"
TIME_OF = "Shampoo reaches Adam's best validation loss in less time"
BLEU = "BLEU at the end is not lower with Shampoo than with Adam, but for half a point"


@pytest.mark.parametrize(
    ("method", "changed", "failing"),
    [
        (
            SHAMPOO,
            lambda s: curve(500, s),
            {
                STEPS_OF,
                TIME_OF,
                *(
                    f"Shampoo reaches the best validation loss of {m.label} in fewer steps"
                    for m in (ADAGRAD, MOMENTUM)
                ),
            },
        ),
        (SHAMPOO, lambda s: curve(90, s), {TIME_OF}),
        (SHAMPOO, lambda s: curve(50, s, end=89.0), {BLEU}),
        (
            MUON,
            lambda s: curve(110, s),
            {"Muon reaches Adam's best validation loss in fewer steps"},
        ),
    ],
)
def test_numbers_against_a_claim_fail_it_alone(method, changed, failing):
    trained = as_expected()
    trained.curves[method.slug, 0.3] = {s: changed(s) for s in SEEDS}
    for rate in (0.1, 1.0):
        trained.curves[method.slug, rate] = {s: curve(1000, s) for s in SEEDS}
    found = words(trained)
    assert {claim for claim, word in found.items() if word == "fails"} == failing
    assert {word for claim, word in found.items() if claim not in failing} == {"holds"}


def test_steps_to_a_loss_lie_on_straight_lines():
    down = Curve(np.array([0.0, 10, 20]), np.array([3.0, 2.0, 1.0]), np.zeros(3))
    assert [steps_to(down, at) for at in (4.0, 2.5, 1.0, 0.5)] == [0, 5, 20, np.inf]


def test_runs_are_read_by_name_and_no_timed_one_is_a_curve():
    """Points of the tiny plan, as if they had run."""
    points = experiment.runs("tiny")
    assert len({point.name for point in points}) == len(points) == 5 * (2 * 2 + 1)
    finished = {}
    for point in points:
        name, method = point.name, point.config.partition(":")[2].split(",")[0]
        lines = [dict(step=0, test_loss=3.0, test_bleu=0.0)]
        rates = (99.0, 4.0, 2.0) if name.endswith("-timed") else (1.0,)
        lines += [
            dict(step=i + 1, test_loss=2.0, test_bleu=50.0, steps_per_second=rate)
            for i, rate in enumerate(rates)
        ]
        optim = dict(name=method, learning_rate=point.overrides.get("optim.learning_rate"))
        seed = point.overrides.get("seed", 1)
        finished[name] = Run("", dict(optim=optim, seed=seed), lines, lines[-1])
    trained = translations.load(finished)
    assert len(trained.curves) == 5 * 2
    assert {len(by_seed) for by_seed in trained.curves.values()} == {2}
    # the line of the call that compiled is left out
    assert {method.label: trained.seconds_per_step(method) for method in METHODS} == (
        dict.fromkeys((method.label for method in METHODS), 0.375)
    )
    pictures = experiment.draw(trained)
    assert set(pictures) == {"figure", "rates"}
