"""Convergence facts of HALP and its baselines on least squares (data B), by their numbers.

Settings unless said: alpha 5e-4, T = 2 N = 2000, batch 1, mu 4, seeds 1, 2, 3, float64 data.
"""

import dataclasses

import numpy as np
import pytest

from lpml import models
from lpml.optim import PeriodicTransformation, halp, lp_sgd, lp_svrg, svrg

RATE, STEPS, EPOCHS = 5e-4, 2000, 50
SEEDS = [dict(seed=seed) for seed in (1, 2, 3)]


def points(**lists):
    """One point a value of the one list, all with seed 1."""
    ((name, values),) = lists.items()
    return [{"seed": 1, name: value} for value in values]


def eight_bits(**kwargs):
    return lambda: halp(RATE, inner_steps=STEPS, **{"bits": 8, "mu": 4.0, **kwargs})


def contraction(norms, first, last):
    """Mean factor per epoch between two epochs (counted from 1), per run."""
    return (norms[:, last - 1] / norms[:, first - 1]) ** (1 / (last - first))


@pytest.fixture(scope="module")
def radius(data_b):
    """The best possible fixed box: 1.02 max|w*|."""
    return 1.02 * np.abs(data_b.optimum).max()


@pytest.fixture(scope="module")
def measure(data_b, x64):
    """Trains data B with x64 enabled and gives the history and the gradient norms (R, K)."""

    def run(make_tx, at=SEEDS, *, problem=data_b, **kwargs):
        with x64():
            history = problem.train(make_tx, at, **kwargs)
        return history, problem.grad_norm(history.weights)

    return run


@pytest.fixture(scope="module")
def halp8(measure):
    return measure(eight_bits(), epochs=EPOCHS)[1]


@pytest.fixture(scope="module")
def svrg64(measure):
    return measure(lambda: svrg(RATE, inner_steps=STEPS), epochs=EPOCHS)[1]


@pytest.fixture(scope="module")
def lp_svrg_norms(measure, radius):
    """8 bits in the first three rows, 16 bits in the others."""
    at = [dict(seed=seed, bits=bits) for bits in (8, 16) for seed in (1, 2, 3)]

    def make_tx(bits):
        return lp_svrg(RATE, inner_steps=STEPS, bits=bits, radius=radius)

    return measure(make_tx, at, epochs=EPOCHS)[1]


def test_halp_with_8_bits_converges_below_1e_12(halp8):
    """Fact 1."""
    assert (halp8[:, 35] < 1e-10).all()
    assert (halp8[:, 44] < 1e-12).all()


def test_lp_sgd_with_8_bits_stays_above_15(measure, radius):
    """Fact 2, SGD."""
    _, norms = measure(lambda: lp_sgd(RATE, bits=8, radius=radius), epochs=EPOCHS)
    assert (norms[:, 4:] > 15).all()


def test_lp_svrg_with_8_bits_stays_above_15(lp_svrg_norms):
    """Fact 2, SVRG."""
    assert (lp_svrg_norms[:3, 4:] > 15).all()


def test_lp_svrg_floor_falls_by_2_to_the_8_from_8_to_16_bits(lp_svrg_norms):
    """Fact 3."""
    floors = np.median(lp_svrg_norms[:, -10:], axis=1)
    assert ((floors[3:] >= 0.08) & (floors[3:] <= 0.5)).all()
    ratio = floors[:3].mean() / floors[3:].mean()
    assert 2**7 <= ratio <= 2**9


def test_lp_svrg_floor_is_set_by_delta_and_hardly_by_the_step_size(measure, radius):
    """Fact 4."""
    half = radius / 127 / 2 * 255  # 9 bits of half the spacing: the box stays the same
    cases = [(RATE, 8, radius), (RATE, 9, half), (2.5e-4, 8, radius), (1e-3, 8, radius)]
    at = [
        dict(seed=seed, rate=rate, bits=bits, radius=box)
        for rate, bits, box in cases
        for seed in (1, 2)
    ]

    def make_tx(rate, bits, radius):
        return lp_svrg(rate, inner_steps=STEPS, bits=bits, radius=radius)

    _, norms = measure(make_tx, at, epochs=25)
    floors = np.median(norms[:, -10:], axis=1).reshape(4, 2).mean(axis=1)
    assert floors[1] / floors[0] == pytest.approx(0.5, rel=0.25)
    assert 0.5 < floors[3] / floors[2] < 2


def test_halp_pays_little_of_svrgs_rate_for_8_bits(halp8, svrg64):
    """Fact 5."""
    factors = contraction(halp8, 4, 28)
    assert ((factors >= 0.3) & (factors <= 0.45)).all()
    factors = contraction(svrg64, 4, 24)
    assert ((factors >= 0.3) & (factors <= 0.42)).all()


def test_svrg_in_float64_ends_10_times_above_halp_at_batch_1(halp8, svrg64):
    """Fact 6, float64. (The gap closes with batches of 10 or more.)"""
    assert (svrg64[:, -10:].min(axis=1) > 10 * halp8[:, -10:].max(axis=1)).all()


def test_float32_floors_of_halp_and_svrg(least_squares, x32):
    """Fact 6 in float32, and fact 7: HALP's floor lies in [2e-6, 5e-5]."""
    problem = least_squares(dtype="float32")
    with x32():
        runs = [
            problem.train(make_tx, SEEDS, epochs=30)
            for make_tx in (eight_bits(), lambda: svrg(RATE, inner_steps=STEPS))
        ]
    assert all(run.weights.dtype == np.float32 for run in runs)
    found, peer = (np.median(problem.grad_norm(r.weights)[:, -10:], axis=1) for r in runs)
    assert ((found >= 2e-6) & (found <= 5e-5)).all()
    assert (peer > 30 * found).all()


def test_a_float64_anchor_is_enough_for_float32_steps_and_parameters(measure, data_b):
    """Fact 7: x64 for the anchor and the full gradient only."""
    narrow = dataclasses.replace(data_b, model=models.linear_regression(dtype="float32"))
    history, norms = measure(eight_bits(), problem=narrow, epochs=45)
    assert (norms[:, -1] < 1e-12).all()
    (codes,) = (leaf for leaf in history.opt_state.codes["Dense_0"].values())
    assert codes.dtype == np.int8


def test_mu_has_a_plateau_and_a_cliff(measure):
    """Fact 8."""

    def make_tx(mu):
        return halp(RATE, inner_steps=STEPS, bits=8, mu=mu)

    history, norms = measure(make_tx, points(mu=[3.0, 4.0, 5.0, 6.0, 30.0]), epochs=12)
    last, saturated = norms[:, -1], history.report["halp/saturated"].mean(axis=1)
    assert (last[:3] < 1e-2).all()
    assert (saturated[:3] < 1e-3).all()
    assert last[3] > 0.3
    assert saturated[3] > 3e-4
    assert last[4] > 30


def test_from_6_bits_on_halp_converges_and_below_it_diverges(measure):
    """Fact 9."""

    def make_tx(bits):
        return halp(RATE, inner_steps=STEPS, bits=bits, mu=4.0)

    _, norms = measure(make_tx, points(bits=[4, 5, 6, 7, 8]), epochs=12)
    ratio = contraction(norms, 2, 12)
    assert 1.5 < ratio[0] < 2.5
    assert ratio[1] > 1
    assert (ratio[2:] < 1).all()


@pytest.mark.parametrize("rounding", ["nearest", "half_up"])
def test_nearest_rounding_does_not_move_at_all(measure, rounding):
    """Fact 10."""
    history, _ = measure(eight_bits(rounding=rounding), points(seed=[1])[:1], epochs=1)
    assert (history.weights == 0).all()
    assert (history.opt_state.codes["Dense_0"]["kernel"] == 0).all()
    assert (history.opt_state.step == STEPS).all()


def test_without_rescaling_halp_stalls_like_lp_svrg(measure):
    """Fact 11."""
    _, norms = measure(eight_bits(rescale=False), epochs=15)
    assert (norms[:, 4:] > 15).all()


def test_halp_with_16_bits_follows_svrg(measure, svrg64):
    """Fact 15: equal sample order."""
    _, norms = measure(eight_bits(bits=16), epochs=10)
    np.testing.assert_allclose(norms, svrg64[:, :10], rtol=0.3)


def test_halp_follows_svrg_in_batches_of_10(measure):
    """Fact 16."""
    runs = [
        measure(make_tx, epochs=30, batch_size=10)[1]
        for make_tx in (
            lambda: halp(5e-3, inner_steps=200, bits=8, mu=4.0),
            lambda: svrg(5e-3, inner_steps=200),
        )
    ]
    ours, peer = (norms[:, [4, 9, 19, 29]] for norms in runs)
    assert (ours < 3 * peer).all()


def test_mu_auto_finds_its_way_from_anywhere(measure):
    """Fact 23."""

    def make_tx(mu):
        tx = halp(RATE, inner_steps=STEPS, bits=8, mu="auto")
        return PeriodicTransformation(
            lambda params: tx.init(params)._replace(mu=mu.astype("float32")),
            tx.update,
            every=tx.every,
            refresh=tx.refresh,
            report=tx.report,
        )

    history, norms = measure(make_tx, points(mu=[0.1, 1.0, 4.0, 30.0, 300.0]), epochs=45)
    assert (norms[:, -1] < 1e-11).all()
    ends = history.report["halp/mu"][:, -1]
    assert ends.max() < 20 * ends.min()  # the starts were 3000 times apart
