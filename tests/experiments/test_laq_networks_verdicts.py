"""The verdicts on networks of few bits: fine numbers hold, doctored ones do not."""

import math

import jax
import numpy as np
import pytest

from experiments import (
    laq_clipping,
    laq_gradient_bits,
    laq_networks,
    laq_weight_bits,
    laq_workers,
)
from lpml.models import cifarnet, mlp
from lpml.quant.gradients import blow_up_bound
from lpml.runs import Run

SEEDS = (1, 2, 3)
NETWORKS = ("mlp", "cifarnet")
NOISE = {1: 0.99, 2: 1.0, 3: 1.01}
WIRE = {"whole": 19240.0, "sq4": 2672.0}


def words(experiment, results):
    return {v.claim: v.verdict for v in experiment.check(results, "default")}


def not_holding(experiment, results):
    return [claim for claim, word in words(experiment, results).items() if word != "holds"]


def trained(ends, accuracy, networks=NETWORKS):
    """Curves that fall to `ends` in ten epochs; accuracies in percent."""
    found = laq_networks.Trained({}, {}, {}, {})
    for network in networks:
        found.epoch[network] = 16
        for slug, end in ends.items():
            fall = np.concatenate([np.geomspace(2, end, 5), np.full(5, end)])
            found.loss[network, slug] = {s: fall * NOISE[s] for s in SEEDS}
            found.accuracy[network, slug] = {s: accuracy[slug] + NOISE[s] for s in SEEDS}
            found.wire[network, slug] = WIRE.get(slug, 1000.0)
    return found


WEIGHTS = {"float": 0.03, "lab": 0.09, "laq2": 0.06, "laq3": 0.04, "laq4": 0.035}
GRADIENTS = {"whole": 0.04, "sq2": 0.09, "sq3": 0.06, "sq4": 0.041}


@pytest.mark.parametrize(
    ("ends", "accuracy", "claim"),
    [
        ({}, {}, None),
        ({"lab": 0.05}, {}, "with 1 bit (LAB) ends above 2 bits"),
        ({"laq3": 0.03}, {}, "with 3 bits (LAQ3) ends above 4 bits"),
        ({}, {"laq3": 93.0}, "with 3 bits (LAQ3) at most 1 point below"),
        ({}, {"laq4": 93.0}, "with 4 bits (LAQ4) at most 1 point below"),
    ],
)
def test_bits_of_weights(ends, accuracy, claim):
    made = trained(WEIGHTS | ends, dict.fromkeys(WEIGHTS, 96.0) | accuracy)
    failing = not_holding(laq_weight_bits, made)
    assert len(failing) == (0 if claim is None else len(NETWORKS))
    assert all(claim in each for each in failing)


@pytest.mark.parametrize(
    ("ends", "accuracy", "claim"),
    [
        ({}, {}, None),
        ({"sq2": 0.039}, {}, "with 2 bits (SQ2) ends above whole"),
        ({"sq3": 0.039}, {}, "with 3 bits (SQ3) ends above whole"),
        ({"sq4": 0.055}, {}, "ends within 0.1 decades"),
        ({}, {"sq2": 97.0}, "with 2 bits (SQ2) is below"),
        ({}, {"sq4": 93.0}, "with 4 bits (SQ4) at most 1 point below"),
    ],
)
def test_bits_of_gradients(ends, accuracy, claim):
    made = trained(
        GRADIENTS | ends, {"whole": 96.0, "sq2": 94.0, "sq3": 95.0, "sq4": 96.0} | accuracy
    )
    failing = not_holding(laq_gradient_bits, made)
    assert len(failing) == (0 if claim is None else len(NETWORKS))
    assert all(claim in each for each in failing)


def test_bytes_until_a_loss():
    made = trained(GRADIENTS, dict.fromkeys(GRADIENTS, 96.0), ["mlp"])
    fewer = laq_gradient_bits.fewer_bytes(made, "mlp", laq_gradient_bits.SQ4)
    assert fewer == pytest.approx(dict.fromkeys(SEEDS, 19240 / 2672))
    never = laq_gradient_bits.fewer_bytes(made, "mlp", laq_gradient_bits.SQ2)
    assert never == dict.fromkeys(SEEDS, 0.0)


def clipping(change=None, starts=None, ends=None, accuracy=None):
    """Ratios size^0.3 not clipped, else flat; smaller c starts lower and ends higher."""
    slugs = ("whole", "none", "c1", "c2", "c3")
    base = dict(zip(slugs, (0.04, 0.1, 0.12, 0.08, 0.041)))
    made = trained(
        base | (ends or {}), dict.fromkeys(slugs, 96.0) | (accuracy or {}), ["cifarnet"]
    )
    early = dict(zip(slugs, (1.0, 1.6, 0.6, 0.9, 1.2))) | (starts or {})
    for slug in slugs:
        for seed in SEEDS:
            made.loss["cifarnet", slug][seed][: laq_clipping.EARLY] = early[slug] * NOISE[seed]
    sizes = {"Conv_0": 200, "Conv_1": 1600, "Dense_0": 12288}
    powers = {"none": (0.5, 0.3), "c1": (1.4, 0.0), "c2": (1.9, 0.0), "c3": (2.4, 0.0)}
    ratios = {
        slug: {
            s: {layer: (d, factor * d**power * NOISE[s]) for layer, d in sizes.items()}
            for s in SEEDS
        }
        for slug, (factor, power) in (powers | (change or {})).items()
    }  # fmt: skip
    return laq_clipping.Clipping(made, ratios)


@pytest.mark.parametrize(
    ("doctored", "claim"),
    [
        ({"change": {"none": (3.0, 0.01)}}, "without clipping the ratio grows"),
        ({"change": {"c2": (0.5, 0.1)}}, "clipped at c = 2 the ratio does not grow"),
        ({"change": {"c1": (1.9, 0.0)}}, "clipped, the ratio is within the bound"),
        ({"starts": {"c1": 1.0}}, "c = 1 starts faster than c = 2"),
        ({"starts": {"c2": 1.3}}, "c = 2 starts faster than c = 3"),
        ({"starts": {"none": 1.1}}, "c = 3 starts faster than no clipping"),
        ({"ends": {"c1": 0.07}}, "training loss with SQ2, c = 1 ends above SQ2, c = 2"),
        ({"ends": {"c3": 0.055}}, "c = 3 ends within"),
        ({"accuracy": {"c3": 93.0}}, "test accuracy with SQ2, c = 3 at most 1 point"),
    ],
)
def test_clipping(doctored, claim):
    assert not not_holding(laq_clipping, clipping())
    (failing,) = not_holding(laq_clipping, clipping(**doctored))
    assert claim in failing


def test_slope_of_the_ratios():
    slopes = clipping().slopes(laq_clipping.NONE)
    assert slopes == pytest.approx(dict.fromkeys(SEEDS, 0.3))


@pytest.mark.parametrize("size", ["tiny", "default"])
def test_kernel_sizes_are_those_of_the_model(size):
    hidden = laq_clipping.HIDDEN[size]
    if size == "tiny":
        config = {"model": {"name": "mlp", "hidden": list(hidden)}, "data": {"name": "digits"}}
        model, shape = mlp(classes=10, hidden=hidden), (1, 64)
    else:
        settings = {"width": 8, "hidden": list(hidden), "crop": 8}
        config = {"model": {"name": "cifarnet", **settings}, "data": {"name": "digits"}}
        model, shape = cifarnet(classes=10, width=8, hidden=hidden, crop=8), (1, 8, 8, 1)
    made = jax.eval_shape(model.module.init, jax.random.key(0), np.zeros(shape, np.float32))
    sizes = {layer: leaf["kernel"].size for layer, leaf in made["params"].items()}
    assert laq_clipping.kernel_sizes(config) == sizes


def test_bounds_and_gaussian_ratio_against_the_library_and_samples():
    for c in laq_clipping.CLIPS:
        assert math.sqrt(2 / math.pi) * c + 1 == blow_up_bound(2, 1000, c)
    rng, size, trials = np.random.default_rng(0), 1000, 2000
    highest = np.abs(rng.standard_normal((trials, size))).max(1)
    error = highest.std() / math.sqrt(trials) * math.sqrt(2 / math.pi)
    seen = math.sqrt(2 / math.pi) * highest.mean()
    assert abs(laq_clipping.gaussian_ratio(size) - seen) < 4 * error


def table(accuracy=None, loss=None, one=96.0):
    base = {"whole": 96.0, "sq2": 93.0, "sq2clip": 96.0, "sq3": 95.9, "sq4": 96.0}
    losses = {"whole": 0.05, "sq2": 0.09, "sq2clip": 0.06, "sq3": 0.055, "sq4": 0.05}
    ends = laq_workers.Ends({}, {}, {})
    for count in (1, 16):
        for slug in base:
            level = (base | (accuracy or {}))[slug] if count == 16 else one
            wobble = {"sq2": 2.0}.get(slug, 1.0)  # paired differences need some spread
            ends.accuracy[count, slug] = {s: level + 0.1 * s * wobble for s in SEEDS}
            ends.loss[count, slug] = {
                s: (losses | (loss or {}))[slug] * (NOISE[s] if slug == "sq2" else 1)
                for s in SEEDS
            }  # fmt: skip
            ends.received[count, slug] = 1.0
    return ends


@pytest.mark.parametrize(
    ("doctored", "claims"),
    [
        ({"loss": {"sq2": 0.05}}, ["lower training loss when clipped"]),
        (
            {"accuracy": {"sq2": 95.9}},
            ["SQ2 without clipping loses more", "more accurate when clipped"],
        ),
        ({"accuracy": {"sq3": 94.0}}, ["SQ3 loses less"]),
        ({"accuracy": {"sq4": 94.0}}, ["SQ4 loses less"]),
        ({"accuracy": {"sq2clip": 94.5}}, ["SQ2, c = 3 loses less"]),
        ({"one": 98.0}, ["weak scaling"]),
    ],
)
def test_workers(doctored, claims):
    assert not not_holding(laq_workers, table())
    failing = not_holding(laq_workers, table(**doctored))
    assert len(failing) == len(claims)
    assert all(claim in each for claim, each in zip(claims, failing))


@pytest.mark.parametrize("size", ["tiny", "default", "paper"])
def test_every_number_of_workers_trains_for_as_many_epochs(size):
    samples, each, epochs = laq_workers.SCHEDULES[size]
    for point in laq_workers.runs(size):
        settings = point.overrides
        count = settings["workers.count"]
        assert settings["train.batch_size"] == each * count
        passes = settings["train.steps"] * settings["train.batch_size"] / samples
        assert epochs * 0.98 < passes <= epochs  # what is left of an epoch is dropped


def test_reading_runs():
    config = {
        "seed": 1,
        "train": {"log_every": 2},
        "model": {"name": "mlp", "hidden": [4]},
        "data": {"name": "digits"},
    }
    metrics = [
        {"step": step, "loss": 2.0 - step, "norm_ratio/Dense_0/kernel": ratio}
        for step, ratio in ((0, 9.0), (1, 3.0), (2, 5.0))
    ]
    final = {"loss": 0.0, "test_accuracy": 0.9, "wire_bytes": 10.0}
    read = laq_clipping.load({"mlp-none-seed1": Run("", config, metrics, final)})
    assert read.ratios == {"none": {1: {"Dense_0": (256, 4.0)}}}
    np.testing.assert_array_equal(read.trained.loss["mlp", "none"][1], [1.0, 0.0])
    assert read.trained.accuracy["mlp", "none"] == {1: 90.0}
