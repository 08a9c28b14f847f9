"""The verdicts on Shampoo: fine numbers hold, doctored ones do not."""

import numpy as np
import pytest

from experiments import shampoo_ablation, shampoo_images
from experiments.rates import bracketed
from lpml.runs import Run

SEEDS = (1, 2, 3)
NOISE = {1: 0.99, 2: 1.0, 3: 1.01}


GRID = "worse ones on both sides"


def not_holding(experiment, results, size="default"):
    """Claims about optimizers; those about the rates tried have a test of their own."""
    verdicts = [v for v in experiment.check(results, size) if GRID not in v.claim]
    return [v.claim for v in verdicts if v.verdict != "holds"]


@pytest.mark.parametrize(
    ("best", "word", "said"),
    [
        ((0.1, 0.1), "holds", "so for all 2"),
        ((0.1, 1.0), "undecided", "Adam's is the largest of 3, 1"),
        ((0.01, 1.0), "fails", "Shampoo's is the smallest of 3, 0.01; Adam's is the largest"),
    ],
)
def test_best_rates_at_an_edge_are_told(best, word, said):
    rates = [0.01, 0.1, 1.0]
    tried = {"Shampoo": (best[0], rates), "Adam": (best[1], rates)}
    verdict = bracketed("digits", tried, [1, 2])
    assert verdict.verdict == word
    assert verdict.measured.startswith(said)


def fall(end):
    """Ten epochs from 2 nats down to `end`, a straight line in the logarithm."""
    return np.geomspace(2, end, 10)


def images(ends=None, accuracies=None, adagrad=(2.0, 0.5, 0.01, 0.5, 2.0)):
    """Networks that fall to `ends` with the middle one of three rates, AdaGrad's of five."""
    usual = {"shampoo": 0.001, "adam": 0.005, "momentum": 0.01, "muon": 0.02}
    ends = usual | (ends or {})
    accuracies = {"shampoo": 96.0, "adam": 97.0, "momentum": 97.0} | (accuracies or {})
    found = shampoo_images.Trained({}, {})

    def put(key, end):
        found.loss[key] = {s: fall(end) ** NOISE[s] for s in SEEDS}
        found.accuracy[key] = {s: accuracies.get(key[1], 90.0) + NOISE[s] ** 2 for s in SEEDS}

    for network in ("resnet20", "mlp"):
        for name, end in ends.items():
            for factor in (0.1, 1.0, 10.0):
                key = (network, name, 0.1 * factor)
                put(key, end)
                if factor != 1:
                    found.loss[key] = {s: v * 1.01 for s, v in found.loss[key].items()}
            found.accuracy[network, name, 0.1][3] += 0.1 * (name == "shampoo")
        for place, end in enumerate(adagrad):
            put((network, "adagrad", 0.001 * 10**place), end)
    return found


@pytest.mark.parametrize(
    ("doctored", "claims"),
    [
        ({"ends": {"shampoo": 0.008}}, ["where Adam ends"]),
        ({"ends": {"shampoo": 0.02}}, ["where momentum SGD ends", "where Adam ends"]),
        ({"accuracies": {"shampoo": 97.5}}, ["test accuracy is lower"]),
    ],
)
def test_images(doctored, claims):
    assert not not_holding(shampoo_images, images())
    failing = not_holding(shampoo_images, images(**doctored))
    assert len(failing) == 2 * len(claims), "for either network"
    assert all(claim in each for claim, each in zip(2 * claims, failing))


def test_tolerance_of_rates():
    (failing,) = not_holding(shampoo_images, images(adagrad=(0.02, 0.02, 0.01, 0.02, 0.02)))
    assert "span more with Shampoo than with AdaGrad" in failing


def test_the_width_of_good_rates_is_that_of_straight_lines():
    rates = [0.01, 0.1, 1.0, 10.0]
    # from 0.5 nats above to the best in a decade: a fifth of it is within 0.1
    wide = shampoo_images.tolerance(rates, [0.5, 0.0, 0.0, 0.5])
    assert wide == pytest.approx(1 + 2 * 0.2, abs=1e-3)
    assert shampoo_images.tolerance(rates, [3.0, 3.0, 3.0, 3.0]) == pytest.approx(3.0)


def test_steps_until_a_loss():
    losses = np.array([1.0, 0.1, 0.01, 0.02])
    assert shampoo_images.part_until(losses, 0.1) == pytest.approx(2 / 4)
    assert shampoo_images.part_until(losses, 10**-1.5) == pytest.approx(2.5 / 4)
    assert shampoo_images.part_until(losses, 2.0) == pytest.approx(1 / 4)
    assert shampoo_images.part_until(losses, 0.001) == 1


def losses(**doctored):
    """The base at 2 nats, all else some percent above it; `doctored` replaces percents."""
    percents = {slug.slug: 0.2 for slug in shampoo_ablation.variations("default")}
    percents |= {"grafting_rmsprop": 0.0, "grafting_none": 5.0, "none_50": 8.0}
    percents |= {"exponent_2": 3.0, "exponent_8": 3.0, "root_host": 0.0} | doctored
    found = shampoo_ablation.Losses({})
    for slug, percent in percents.items():
        ends = {s: 2 * (1 + percent * NOISE[s] / 100) * NOISE[s] for s in SEEDS}
        found.ends[slug] = {0.03: ends, 0.1: {s: 3 * end for s, end in ends.items()}}
    return found


@pytest.mark.parametrize(
    ("doctored", "claim"),
    [
        ({"grafting_none": -1.0}, "without grafting the test loss is above"),
        ({"block_64": 3.5}, "in blocks of 64 at most"),
        ({"block_32": 3.5}, "in blocks of 32 at most"),
        ({"block_16": 3.5}, "in blocks of 16 at most"),
        ({"none_50": -0.5}, "cost more without grafting"),
        ({"rmsprop_50": 9.0}, "cost more without grafting"),
        ({"exponent_2": -1.0}, "p = 2 for every axis"),
        ({"exponent_8": -1.0}, "p = 8 for every axis"),
        ({"root_newton": 2.0}, "by Newton end within"),
        ({"side_one": 4.0}, "embeddings with roots on one side"),
    ],
)
def test_ablation(doctored, claim):
    assert not not_holding(shampoo_ablation, losses())
    (failing,) = not_holding(shampoo_ablation, losses(**doctored))
    assert claim in failing


def test_roots_that_are_better_than_either_kind_in_float32():
    failing = not_holding(shampoo_ablation, losses(root_host=-3.0))
    assert ["eigenvectors" in f or "Newton" in f for f in failing] == [True, True]


@pytest.mark.parametrize("size", ["tiny", "default", "paper"])
@pytest.mark.parametrize("experiment", [shampoo_ablation, shampoo_images])
def test_every_claim_has_its_runs(experiment, size):
    """What `check` and `draw` ask for is there, from runs that are named and set as asked."""
    finished = {}
    for point in experiment.runs(size):
        network = "mlp" if point.name.startswith("mlp") else "resnet20"
        method = point.config.partition(":")[2].partition(",")[0]
        config = {
            "seed": point.overrides["seed"],
            "model": {"name": network},
            "optim": {"name": method, "learning_rate": point.overrides["optim.learning_rate"]},
        }
        jitter = 1e-3 * config["seed"] ** 2
        metrics = [{"step": s, "loss": 2.0 / (1 + s) + jitter} for s in range(4)]
        final = {"test_loss": 1.0 + jitter, "test_accuracy": 0.9 + jitter}
        finished[point.name] = Run("", config, metrics, final)
    assert len(finished) == len(experiment.runs(size))
    data = experiment.load(finished)
    assert set(experiment.draw(data)) == {"figure"}
    assert all(v.expected and v.seeds for v in experiment.check(data, size))
