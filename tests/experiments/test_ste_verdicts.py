"""The verdicts on straight-through estimators: fine numbers hold, doctored ones do not."""

import numpy as np
import pytest

from experiments import (
    ste_correlation,
    ste_instability,
    ste_landscape,
    ste_quantised_relu,
    ste_table1,
    ste_two_layer,
)
from experiments.estimators import CLIPPED, IDENTITY, LOOKS, RELU
from lpml.runs import Run

SEEDS = (1, 2, 3)


def words(experiment, results, size="default"):
    return {v.claim: v.verdict for v in experiment.check(results, size)}


def failing(experiment, results):
    """The only claim that does not hold; all others do."""
    (claim,) = [c for c, word in words(experiment, results).items() if word != "holds"]
    return claim


def run(final=None, columns=None, **measurement):
    """A finished run with these last metrics, or these columns of its log."""
    names = columns or {key: [value] for key, value in (final or {}).items()}
    lines = [dict(zip(names, row)) for row in zip(*names.values())]
    lines = [{"step": step, **line} for step, line in enumerate(lines, start=1)]
    return Run("", {"seed": 1, "measurement": measurement}, lines, final or lines[-1])


def landscape(change=None):
    climbs = {10: 0.37, 50: 0.19, 1000: 0.013, 20_000: 0.0003}
    x = np.zeros(2)
    return {
        samples: {
            seed: ste_landscape.Line(x, x, x, climb, 0.01, 0.5)._replace(
                **((change or {}).get(samples, {}))
            )
            for seed in SEEDS
        }
        for samples, climb in climbs.items()
    }


def test_landscape():
    assert set(words(ste_landscape, landscape()).values()) == {"holds"}
    for samples, change, claim in (
        (50, {"climb": 0.5}, "the larger the sample"),
        (20_000, {"climb": 0.01}, "with 20000 inputs"),
        (50, {"fall": 0.1}, "on a coarse scale"),
    ):
        assert failing(ste_landscape, landscape({samples: change})).startswith(claim)
    flat = {samples: {"climb": 0.004 - 1e-9 * samples} for samples in (10, 50, 1000, 20_000)}
    assert failing(ste_landscape, landscape(flat)) == "with 10 inputs it is ragged"


def approach(look, **change):
    distance = np.geomspace(1, 1e-6, 13)
    correlation = distance * (1.0 if look is IDENTITY else 0.5)
    ratio, norm = (1 / distance, np.ones(13)) if look is IDENTITY else (distance, distance)
    way = ste_correlation.Approach(
        distance, ratio, correlation, correlation + 0.1, np.full(13, 0.1), norm
    )
    return way._replace(**{key: make(way) for key, make in change.items()})


def correlations(of=None, **change):
    return {look: {seed: approach(look, **(change if look is of else {})) for seed in SEEDS}
            for look in LOOKS}  # fmt: skip


PRODUCTS = ("correlation", "sampled_correlation")


@pytest.mark.parametrize(
    ("look", "change", "claims"),
    [
        (CLIPPED, dict.fromkeys(PRODUCTS, lambda w: -w.correlation), "the expected coarse"),
        (
            RELU,
            {"sampled_correlation": lambda w: w.correlation + 0.5},
            "sampled inner products",
        ),
        (RELU, {"correlation": lambda w: 1.01 * w.correlation}, "ReLU's inner product is half"),
        (IDENTITY, {"coarse_norm": lambda w: w.distance}, "the identity's coarse gradient"),
        (IDENTITY, {"ratio": lambda w: 0 * w.ratio + 1}, "identity: towards"),
        (CLIPPED, {"ratio": lambda w: 1 / w.distance}, "clipped ReLU: towards"),
    ],
)
def test_correlation(look, change, claims):
    assert set(words(ste_correlation, correlations()).values()) == {"holds"}
    assert failing(ste_correlation, correlations(look, **change)).startswith(claims)


FINE = {
    ("far", "relu"): {"monotone": 1, "at_global": 0.7},
    ("far", "clipped_relu"): {"monotone": 1},
    ("far", "identity"): {
        "monotone": 0.75, "chattering": 0.2, "chatter_length": 0.05, "chatter_excess": 14,
        "at_global": 0.72,
    },
    ("beside", "relu"): {"at_spurious": 0.96},
    ("beside", "clipped_relu"): {"at_spurious": 0.96},
    ("beside", "identity"): {"at_spurious": 0.08},
    **{("close", look.name): {"monotone": 0.4} for look in LOOKS},
    **{("balanced", name): {"at_global": 1} for name in ("identity", "relu")},
}  # fmt: skip


def descents(case=None, change=None):
    looks = {look.name: look for look in LOOKS}
    return {
        (start, looks[name]): {
            seed: run({**final, **(change if (start, name) == case else {})}) for seed in SEEDS
        }
        for (start, name), final in FINE.items()
    }


@pytest.mark.parametrize(
    ("case", "change", "claim"),
    [
        (("far", "relu"), {"monotone": 0.995}, "ReLU: from ||w|| = 10 no loss"),
        (("far", "identity"), {"monotone": 1.0}, "identity: from ||w|| = 10 some"),
        (("far", "identity"), {"chattering": 0.0}, "identity: runs chatter"),
        (("far", "identity"), {"chatter_length": 9.0}, "identity: those that chatter"),
        (("far", "identity"), {"chatter_excess": 1.1}, "identity: their losses spike"),
        (("far", "identity"), {"at_global": 0.5}, "from ||w|| = 10 the identity reaches"),
        (("beside", "clipped_relu"), {"at_spurious": 0.5}, "clipped ReLU: beside"),
        (("beside", "identity"), {"at_spurious": 0.9}, "identity: beside"),
        (("close", "relu"), {"monotone": 1.0}, "ReLU: from ||w|| = 1 losses"),
        (("balanced", "relu"), {"at_global": 0.9}, "ReLU: with S* = 0"),
    ],
)
def test_two_layer(case, change, claim):
    assert set(words(ste_two_layer, descents()).values()) == {"holds"}
    assert failing(ste_two_layer, descents(case, change)).startswith(claim)


def staircases(alpha=0.0, cost=1.324, apart=0.0):
    one = {"mse": [0.1], "standard_error": [0.01], "sampled_mse": [0.1 + apart]}
    errors = {}
    for rule in ste_quantised_relu.RULES:
        for bits, best in enumerate(rule.alphas, start=1):
            columns = {**one, "best_alpha": [best + alpha], "best_mse": [rule.error]}
            errors[rule, bits] = {seed: run(columns=columns) for seed in SEEDS}
    theirs = run({"mse": cost, "best_mse": 1.0})
    authors = {bits: dict.fromkeys(SEEDS, theirs) for bits in ste_quantised_relu.AUTHORS}
    return ste_quantised_relu.Results(errors, authors, {})


def test_quantised_relu():
    assert set(words(ste_quantised_relu, staircases()).values()) == {"holds"}
    assert failing(ste_quantised_relu, staircases(cost=1.3)).startswith("the authors'")
    assert failing(ste_quantised_relu, staircases(apart=0.05)).startswith("sampled errors")
    table = [c for c, w in words(ste_quantised_relu, staircases(1e-4)).items() if w != "holds"]
    assert len(table) == 3


def spread(value):
    """Seeds that differ a little, so that there is an interval."""
    return {seed: value * (1 + 0.02 * seed) for seed in SEEDS}


def table(size="default", **doctored):
    """Losses of the paper's order; `doctored` has others, by network, bits and estimator."""
    losses = {}
    for network in ste_table1.NETWORKS[size]:
        for bits in ste_table1.BITS:
            for look in LOOKS:
                fine = {IDENTITY: 1.0, RELU: 0.1 if network == "lenet5" else 0.3, CLIPPED: 0.1}
                value = doctored.get(f"{network}_{bits}_{look.name}", fine[look])
                by_seed = spread(value) if look is IDENTITY else dict.fromkeys(SEEDS, value)
                losses[ste_table1.Setting(network, bits, look)] = by_seed
    return ste_table1.Ends(losses, {}, {})


def test_table1():
    assert set(words(ste_table1, table()).values()) == {"holds"}
    for network in ("lenet5", "resnet20"):
        for bits in (2, 4):
            title = f"{ste_table1.NAMES[network]}, {bits} bits: "
            low = table(**{f"{network}_{bits}_identity": 0.05})
            assert failing(ste_table1, low) == f"{title}the identity ends above clipped ReLU"
            assert "fails" in words(ste_table1, low).values()
    for bits in (2, 4):
        alike = table(**{f"resnet20_{bits}_relu": 0.1})
        claim = f"ResNet-20, {bits} bits: ReLU ends above clipped ReLU"
        assert failing(ste_table1, alike) == claim
    assert failing(ste_table1, table(lenet5_2_relu=0.3)).startswith("LeNet-5, 2 bits: ReLU and")


def continued(case=None, small=3.0, end=3.0):
    """Wrong estimators so many times above their controls at two times; others thrice."""
    wrong, control = {}, {}
    for each in ste_instability.CASES:
        times = (small, end) if each == case else (3.0, 3.0)
        error = np.zeros(2)
        control[each] = {s: ste_instability.Curve(np.full(2, 0.01), error) for s in SEEDS}
        wrong[each] = {
            s: ste_instability.Curve(0.01 * np.array(times) * (1 + 0.02 * s), error)
            for s in SEEDS
        }
    return ste_instability.Results(wrong, control, {}, 1)


@pytest.mark.parametrize("case", ste_instability.CASES)
def test_instability(case):
    assert set(words(ste_instability, continued()).values()) == {"holds"}
    stays = failing(ste_instability, continued(case, small=0.9))
    assert stays.startswith(case.origin)
    assert stays.endswith("at a small rate leaves it")
    comes_back = failing(ste_instability, continued(case, end=1.5))
    assert comes_back.startswith(case.origin)
    assert comes_back.endswith("twice the control's loss")


def test_instability_tells_minima_and_who_continues_from_them():
    def made(look, start, loss):
        lines = [{"step": 2 * i, "loss": x, "test_accuracy": 0.9} for i, x in enumerate(loss)]
        config = dict(
            seed=1, optim=dict(warmup_steps=2), train=dict(start_from=start, log_every=2),
            model=dict(activation=look and dict(bits=2, estimator=look.name)),
        )  # fmt: skip
        return Run("", config, lines, lines[-1])

    results = ste_instability.load(
        {
            "float": made(None, None, (3, 2)),
            "good": made(CLIPPED, "float", (1, 0.5)),
            "wrong": made(RELU, "good", (9, 0.6, 0.8)),
            "control": made(CLIPPED, "good", (9, 0.5, 0.4)),
        }
    )
    case = ste_instability.Case(2, CLIPPED, RELU)
    assert results.start == {case: {1: 0.5}}
    assert results.small == 1
    np.testing.assert_allclose(results.above(case, 0)[1], np.log10(0.6 / 0.5))
    np.testing.assert_allclose(results.above(case, -1)[1], np.log10(2))
    np.testing.assert_allclose(results.wrong[case][1].error, 10)
