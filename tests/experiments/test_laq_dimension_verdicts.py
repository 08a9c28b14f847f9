"""Verdicts of laq_bounds and of laq_dimension_* say *fails* of doctored numbers."""

import math

import numpy as np
import pytest

from experiments import laq_bounds, laq_widths
from experiments import laq_dimension_linear as linear
from experiments.laq_bounds import BITS, CASES, SEEDS, Case, Measured, bias, bound
from experiments.laq_dimension_linear import EVERY, FLOAT, LAB, NOISE, Setting
from experiments.laq_dimension_mlp import STUDY
from experiments.laq_gradients import CLIPPED, FOUR, THREE, THREE_CLIPPED, TWO, WHOLE
from experiments.laq_widths import Curves
from lpml.quant import blow_up_bound, clip_bias
from lpml.runs import Run

SIZES = np.array([1600.0, 884_736.0])
DIMENSIONS = (64, 1024)
SLOWER = {WHOLE: 1, FOUR: 1, CLIPPED: 2, TWO: 3}


def words(verdicts):
    return {v.claim: v.verdict for v in verdicts}


def verdict(found, start):
    (word,) = [word for claim, word in found.items() if claim.startswith(start)]
    return word


@pytest.mark.parametrize("bits", BITS)
def test_the_closed_forms_are_lpmls(bits):
    for clip in (None, 2.5):
        for sharp in (False, True):
            ours = bound(bits, 1000, clip, sharp=sharp)
            assert ours == pytest.approx(blow_up_bound(bits, 1000, clip, sharp=sharp))
    assert bias(bits / 2) == pytest.approx(clip_bias(bits / 2), rel=1e-9)


def blow_ups():
    """Half of each bound's excess, the worst direction next to it."""
    return {case: dict.fromkeys(SEEDS, blow_up_of(case)) for case in CASES}


def blow_up_of(case):
    growing = [1.0, 1.0] if case.clip else [1.0, 1.5]
    most = [bound(case.bits, size, case.clip, sharp=True) for size in SIZES]
    found = np.array(most if case.spike else growing)
    cut = bias(case.clip) if case.clip else 0.0
    return Measured(SIZES, found, np.full(2, 0.01), np.full(2, cut))


def test_all_claims_on_bounds_can_hold():
    assert set(words(laq_bounds.check(blow_ups(), "default")).values()) == {"holds"}


@pytest.mark.parametrize(
    ("case", "changes", "claim"),
    [
        (Case(4, None), dict(blow_up=np.array([1e3, 1e3])), "not clipped: measured is below"),
        (Case(3, 2.0), dict(blow_up=np.array([2.0, 2.0])), "clipped: measured is below"),
        (Case(3, 2.0), dict(blow_up=np.array([1.0, 1.1])), "clipped: from the smallest"),
        (Case(2, None), dict(blow_up=np.array([1.0, 1.1])), "not clipped: with 2 bits it"),
        (Case(2, None, spike=True), dict(blow_up=np.array([1.0, 9.0])), "the sharp bound"),
        (Case(2, None), dict(blow_up=np.array([1.0, 100.0])), "not clipped: of 884736"),
        (Case(2, 3.0), dict(clip_bias=np.full(2, 0.0005)), "largest tensor: clipping"),
    ],
)
def test_a_claim_on_bounds_can_fail(case, changes, claim):
    data = blow_ups()
    data[case] = {seed: m._replace(**changes) for seed, m in data[case].items()}
    assert verdict(words(laq_bounds.check(data, "default")), claim) == "fails"


def falling(start, end, steps):
    """A loss that is at its start until step `steps` of 2400, then at its end."""
    at = np.arange(2400 // EVERY + 1) * EVERY
    return np.where(at < steps, start, end)


def curves(*, slope=0.0025, full=NOISE, slower=SLOWER, raised=1.0):
    """Losses that fall late where few bits are sent, the later the more weights."""
    found = {}
    for weights in (LAB, FLOAT):
        for d in DIMENSIONS:
            for sent in SLOWER:
                end = NOISE + slope * d if weights == LAB else full
                times = slower[sent] if d == DIMENSIONS[-1] else 1
                end *= raised if sent == TWO else 1
                found[Setting(weights, d, sent)] = {
                    seed: falling(10.0, end, 300 * times + 10 * seed) for seed in (1, 2, 3)
                }
    return found


def test_all_claims_on_linear_models_can_hold():
    assert set(words(linear.check(curves(), "default")).values()) == {"holds"}


def test_a_floor_that_is_not_linear_fails():
    data = curves()
    for by_seed in (data[Setting(LAB, 1024, sent)] for sent in SLOWER):
        by_seed.update({s: falling(10.0, 4.0, 300) for s in by_seed})
    assert verdict(words(linear.check(data, "default")), "with binary weights") == "fails"


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        (dict(full=0.05), "with float weights the loss"),
        (dict(slower={**SLOWER, TWO: 0.8}), ", d = 1024: gradients of 2 bits need more"),
        (dict(slower={**SLOWER, TWO: 0.8}), ": that slow-down is larger"),
        (dict(slower={**SLOWER, CLIPPED: 4}), ", d = 1024: clipping takes back"),
        (dict(slower={**SLOWER, CLIPPED: 0.8}), ", d = 1024: clipped, they still"),
        (dict(slower={**SLOWER, FOUR: 1.5}), ", d = 1024: gradients of 4 bits"),
        (dict(raised=1.1), "binary weights: gradients of 2 bits end no higher"),
    ],
)
def test_a_claim_on_linear_models_can_fail(changes, claim):
    found = words(linear.check(curves(**changes), "default"))
    concerned = [word for text, word in found.items() if claim in text]
    assert set(concerned) == {"fails"}


def test_steps_to_close_are_read_to_a_few_lines():
    data = {
        Setting(FLOAT, 64, WHOLE): {1: falling(10.0, 1.0, 300)},
        Setting(FLOAT, 64, TWO): {1: falling(10.0, 9.0, 300)},
    }
    # 90 % of the mean over the last quarter: the loss is down for 9/10 of it
    steps = linear.steps_to_close(data, Setting(FLOAT, 64, WHOLE))[1]
    assert steps == pytest.approx(300 / (1 - 0.9 / 4), abs=2 * EVERY)
    # what never gets there counts with all of its steps
    assert linear.steps_to_close(data, Setting(FLOAT, 64, TWO))[1] == 2400


def networks(**changes):
    """Losses in decades by width and sending, accuracies and blow-ups."""
    decades = {(16, THREE): 0.1, (16, THREE_CLIPPED): 0.05, (256, THREE): 0.3,
               (256, THREE_CLIPPED): 0.1} | changes.get("decades", {})  # fmt: skip
    blow_up = {(256, THREE): 1.5} | changes.get("blow_up", {})
    lost = changes.get("lost", 0.5)
    return {
        (width, sent): {
            seed: Curves(
                losses=np.full(4, 10 ** (decades.get((width, sent), 0.0) + 0.001 * seed)),
                accuracy=90 - (lost if sent == THREE else 0) + 0.1 * seed,
                blow_up=blow_up.get((width, sent), 1.2),
                entries=64 * width,
                rate=0.01,
            )
            for seed in (1, 2, 3)
        }
        for width in (16, 256)
        for sent in (WHOLE, THREE_CLIPPED, THREE)
    }


def test_all_claims_on_networks_can_hold():
    assert set(words(laq_widths.judged(STUDY, networks())).values()) == {"holds"}


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        (
            dict(decades={(16, THREE): -0.1}),
            "one hidden layer, d = 16: with 3 bits the average",
        ),
        (
            dict(decades={(256, THREE): -0.1}),
            "one hidden layer, d = 256: with 3 bits the average",
        ),
        (dict(decades={(16, THREE): 0.4}), "one hidden layer: 3 bits cost more"),
        (dict(decades={(256, THREE_CLIPPED): 0.4}), "one hidden layer, d = 256: clipping"),
        (dict(blow_up={(256, THREE): 1.1}), "one hidden layer: 3 bits blow up"),
        (dict(blow_up={(256, THREE_CLIPPED): 1.4}), "one hidden layer: clipped, they"),
        (dict(decades={(256, THREE): -0.1}), "one hidden layer, d = 256: with 3 bits the last"),
        (dict(lost=2), "one hidden layer, d = 256: with 3 bits test accuracy"),
    ],
)
def test_a_claim_on_networks_can_fail(changes, claim):
    assert verdict(words(laq_widths.judged(STUDY, networks(**changes))), claim) == "fails"


def test_the_average_is_over_the_steps_of_training():
    start_apart = Curves(np.array([9.0, 2.0, 4.0]), 90.0, 1.0, 64, 0.01)
    assert start_apart.average == 3
    found = {(16, WHOLE): {1: start_apart}, (16, THREE): {1: start_apart._replace(
        losses=np.array([9.0, 20.0, 40.0]))}}  # fmt: skip
    assert math.isclose(laq_widths.above(found, 16, THREE)[1], 1)


def test_every_curve_has_the_rate_of_its_least_average():
    def run(rate, loss):
        config = {
            "seed": 1,
            "model": {"hidden": [16]},
            "data": {"name": "digits"},
            "optim": {"learning_rate": rate},
        }
        lines = [{"step": k, "loss": loss, f"norm_ratio/{STUDY.tensor}": 1.25} for k in (0, 1)]
        return Run("", config, lines, {"test_accuracy": 0.5})

    losses = {WHOLE: {0.01: 2.0, 0.1: 3.0}, THREE: {0.01: 5.0, 0.1: 4.0}}
    finished = {
        f"d16-{sent.slug}-rate{rate:g}-seed1": run(rate, loss)
        for sent, by_rate in losses.items()
        for rate, loss in by_rate.items()
    }
    found = laq_widths.results(STUDY, finished)
    assert found[16, WHOLE][1].rate == 0.01
    assert found[16, THREE][1].rate == 0.1
    assert found[16, THREE][1][1:4] == (50.0, 1.25, 64 * 16)
    assert found[16, WHOLE][1].blow_up == 1
