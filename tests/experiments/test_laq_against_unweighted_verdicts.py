"""The verdicts on curvature weighting: fine numbers hold, doctored ones do not."""

import numpy as np
import pytest

from experiments import laq_against_unweighted as experiment
from experiments.laq_against_unweighted import (
    ABSMAX,
    AWARE,
    AWARE_CHANNEL,
    PLAIN,
    PLAIN_CHANNEL,
    Stage,
)
from lpml.runs import Run

STAGE = Stage("mlp", "tuned", (30, 10))
SEEDS = (1, 2, 3)
FINE = {  # log10 of the loss, test accuracy, excess
    PLAIN: (-1.0, 0.90, 0.02),
    AWARE: (-1.1, 0.92, 0.02),
    ABSMAX: (-1.0, 0.91, 0.02),
    PLAIN_CHANNEL: (-1.3, 0.93, 0.02),
    AWARE_CHANNEL: (-1.4, 0.94, 0.02),
}


def results(**change):
    """Of every way; what a seed and a number of bits have in common is added to all of them."""
    found = {}
    for way, (loss, accuracy, excess) in {**FINE, **change.get("of", {})}.items():
        bits = [m for m in STAGE.bits if m > 1 or way is not ABSMAX]
        found[STAGE, way] = {
            s: {
                m: {
                    "loss": 10 ** (loss - 0.2 * m + 0.3 * s + noise(way, s)),
                    "test_accuracy": accuracy + 0.01 * m + 0.01 * noise(way, s),
                    "excess": excess,
                    "excess/Dense_0": excess,
                }
                for m in bits
            }
            for s in SEEDS
        }
    return found


def noise(way, seed):
    return 1e-3 * np.sin(7 * seed + len(way.label))


def words(found):
    return {v.claim: v.verdict for v in experiment.check(found, "default")}


def test_fine_numbers_hold():
    assert set(words(results()).values()) == {"holds"}
    assert len(words(results())) == 6


@pytest.mark.parametrize(
    ("way", "numbers", "claim"),
    [
        (AWARE, (-1.1, 0.88, 0.02), "weighting raises the test accuracy, per tensor"),
        (AWARE_CHANNEL, (-1.2, 0.94, 0.02), "weighting lowers the training loss, per channel"),
        (ABSMAX, (-1.2, 0.91, 0.02), "loss-aware per tensor ends below absmax"),
        (PLAIN_CHANNEL, (-1.05, 0.93, 0.02), "a scale per channel gains more"),
        (AWARE, (-1.1, 0.92, 0.09), "the unweighted optimum errs less than 5 %"),
    ],
)
def test_each_claim_can_fail(way, numbers, claim):
    found = words(results(of={way: numbers}))
    (failing,) = [c for c, word in found.items() if word != "holds"]
    assert claim in failing
    assert found[failing] == "fails"


def test_a_loss_that_weighting_raises_is_seen():
    found = words(results(of={AWARE: (-0.9, 0.92, 0.02)}))
    assert (
        found["MLP, further steps: weighting lowers the training loss, per tensor"] == "fails"
    )


def test_pairs_are_compared_within_their_seed_and_bits():
    gains = experiment.gained(results(), STAGE, AWARE, ABSMAX)
    assert list(gains) == [2, 3, 4]
    np.testing.assert_allclose(list(experiment.over_bits(gains).values()), 0.1, atol=3e-3)
    mean, reach = experiment.interval({1: 1.0, 2: 3.0})
    assert (mean, reach) == (2.0, pytest.approx(12.706, abs=1e-3))


def test_logs_are_read_back_into_their_stage_and_way():
    def run(point):
        settings = {k.removeprefix("measurement."): v for k, v in point.overrides.items()}
        seed = settings.pop("seed")
        lines = [{"step": i, "bits": m, "loss": 1.0} for i, m in enumerate(settings["bits"])]
        return Run("", {"seed": seed, "measurement": settings}, lines, lines[-1])

    for size in ("tiny", "default", "paper"):
        points = experiment.runs(size)
        found = experiment.load({p.name: run(p) for p in points})
        assert len({p.name for p in points}) == len(points)
        assert len(found) == len(experiment.STAGES[size]) * len(experiment.WAYS)
        for (stage, way), by_seed in found.items():
            assert tuple(by_seed) == experiment.SEEDS[size][stage.network]
            wanted = [m for m in stage.bits if m > 1 or way is not ABSMAX]
            assert all(list(lines) == wanted for lines in by_seed.values())


def test_pictures_are_drawn_of_any_results():
    pictures = experiment.draw(results())
    assert pictures.keys() == {"figure", "excess"}
    assert len(pictures["figure"].axes) == 2
