"""HALP on networks: verdicts of made-up runs, and the points that are asked for."""

import numpy as np
import pytest

from experiments import (
    halp_decay,
    halp_images,
    halp_networks,
    halp_published_sets,
    halp_recentering,
    halp_recentering_images,
)
from experiments.halp_networks import CURVES, Trained
from lpml.config import load

SEEDS = (1, 2, 3)


def trained(loss, accuracy, state=9.0):
    """Ends of two networks by method and bits, with a spread of one percent over seeds."""
    found = Trained({}, {}, {})
    for network in halp_networks.NETWORKS["tiny"]:
        for curve in CURVES:
            key = (network, curve.method, curve.bits)
            spread = {s: 1 + 0.01 * s for s in SEEDS}
            found.losses[key] = {
                s: np.array([2.0, *[loss(curve) * f] * 3]) for s, f in spread.items()
            }
            found.accuracies[key] = {
                s: np.array([0.1, *[accuracy(curve) - 0.001 * s] * 3]) for s in SEEDS
            }
            sizes = {"sgd": 0.0, "svrg": 8.0}
            found.bytes_per_weight[key] = sizes.get(curve.method, state)
    return found


def words(verdicts):
    return {verdict.claim: verdict.verdict for verdict in verdicts}


def test_claims_hold_where_halp_is_ahead_and_two_bits_collapse():
    seen = words(
        halp_networks.check(
            trained(
                lambda c: 0.1 if c.method in ("halp", "svrg") else 0.2,
                lambda c: 0.3 if c.bits == 2 else 0.95 if c.method != "lp_sgd" else 0.94,
            ),
            "tiny",
        )
    )
    assert set(seen.values()) == {"holds"}
    assert len(seen) == 2 * 8 + 1


def test_they_fail_where_it_is_not():
    seen = words(
        halp_networks.check(
            trained(
                lambda c: 0.3 if c.method == "halp" else 0.1,
                lambda c: 0.9 if c.method == "halp" else 0.95,
                state=4.0,
            ),
            "tiny",
        )
    )
    # at equal accuracy two bits are not told from eight
    told = {claim: word for claim, word in seen.items() if "2-bit" not in claim}
    assert set(told.values()) == {"fails"}


@pytest.mark.parametrize(
    ("module", "places", "claims"),
    [
        (halp_images, halp_images.SETS["default"], 8),
        (halp_published_sets, halp_published_sets.NETWORKS["default"], 7),
    ],
)
def test_real_sets_are_judged_by_the_same_claims(module, places, claims):
    found = Trained({}, {}, {})
    for of in places:
        for curve in module.CURVES:
            loss = {"halp": 0.1, "svrg": 0.1, "sgd": 0.05}.get(curve.method, 0.2)
            key = (of, curve.method, curve.bits)
            found.losses[key] = {s: np.full(3, loss * (1 + 0.01 * s)) for s in SEEDS}
            end = 0.5 if curve.bits == 2 else 0.95
            found.accuracies[key] = {
                s: np.full(3, end - 0.001 * s * (curve.bits or 1)) for s in SEEDS
            }
    seen = words(module.check(found, "default"))
    assert len(seen) == 2 * claims
    told = {claim for claim, word in seen.items() if word == "fails"}
    assert told == {
        f"{name}: 8-bit HALP ends within 0.1 decades of SGD's training loss"
        for name in (module.NAMES[of] for of in places)
    }
    figure = module.draw(found)["figure"]
    assert [axes.get_title() for axes in figure.axes[:2]] == [module.NAMES[of] for of in places]


@pytest.mark.parametrize("size", ["tiny", "default", "paper"])
def test_points_of_images_train_as_those_of_networks_with_another_set(size):
    points = halp_images.runs(size)
    assert len({p.name for p in points}) == len(points)
    for point in points:
        config, settings = load(point.config), point.overrides
        assert config.model.name == "lenet5"
        assert ("optim.mu" in settings) == ("-halp" in point.name)
        if size == "default":
            assert settings["train.steps"] == 10 * settings["train.log_every"]
            recentred = settings.get("optim.inner_steps")
            assert recentred == (62 if "inner_steps" in config.optim else None)


@pytest.mark.parametrize("size", ["tiny", "default", "paper"])
def test_points_of_published_sets_have_the_boxes_of_the_networks(size):
    points = halp_published_sets.runs(size)
    assert len({p.name for p in points}) == len(points)
    boxes = {p.name: p.overrides.get("optim.mu") for p in points if "-halp" in p.name}
    usual = {p.name: p.overrides.get("optim.mu") for p in halp_networks.runs(size)}
    assert boxes.items() <= usual.items()
    for point in points:
        method = load(point.config).optim.name
        assert method == point.name.split("-")[1].rstrip("0123456789")
        if size == "default":
            settings = point.overrides
            assert settings["train.steps"] % settings["train.log_every"] == 0
            recentred = settings.get("optim.inner_steps")
            assert recentred == (31 if "inner_steps" in load(point.config).optim else None)


@pytest.mark.parametrize("size", ["tiny", "default", "paper"])
def test_points_have_names_of_their_own_and_boxes_by_bits(size):
    points = halp_networks.runs(size)
    assert len({p.name for p in points}) == len(points)
    assert all("optim.mu" in p.overrides for p in points if "-halp" in p.name)
    assert all("optim.radius" in p.overrides for p in points if "-lp_" in p.name)
    again = halp_recentering.runs(size)
    assert len({p.name for p in again}) == len(again)


def test_recentering_more_often_is_told_by_its_loss():
    ends = halp_recentering.Ends({}, {})
    for bits in halp_recentering.BITS:
        for epochs in halp_recentering.EPOCHS:
            ends.by_epochs["lenet5", bits, epochs] = {s: epochs * (1 + s / 50) for s in SEEDS}
        for mu in halp_recentering.MUS:
            ends.by_mu["lenet5", bits, mu] = {s: 0.1 + abs(np.log10(mu)) / 20 for s in SEEDS}
    seen = halp_recentering.check(ends, "tiny")
    assert {v.verdict for v in seen} == {"holds"}
    assert seen[-1].measured.count("(mu 1)") == 2
    assert halp_recentering.draw(ends)["figure"].axes


@pytest.mark.parametrize("size", ["tiny", "default", "paper"])
def test_points_of_recentering_on_images_are_those_of_digits_on_another_set(size):
    points = halp_recentering_images.runs(size)
    assert len({p.name for p in points}) == len(points)
    digits = {p.name.partition("-")[2] for p in halp_recentering.runs(size)}
    assert {p.name.partition("-")[2] for p in points} == {
        name for name in digits if int(name[-1]) in halp_recentering_images.SEEDS[size]
    }
    for point in points:
        epoch = halp_recentering_images.STEPS_OF_EPOCH[size]
        steps = point.overrides.get("train.log_every", load(point.config).train.log_every)
        assert steps == epoch
        times = {"epochs0.5": 0.5, "epochs3": 3}.get(point.name.split("-")[2], 1)
        assert point.overrides["optim.inner_steps"] == times * epoch


class Finished:
    """A run of which the last losses are known."""

    def __init__(self, seed, loss):
        self.config = {"seed": seed}
        self.loss = loss

    def series(self, name):
        assert name == "loss"
        return np.arange(4.0), np.array([9.0, *[self.loss] * 3])


def test_the_run_of_the_best_mu_is_that_of_an_anchor_every_epoch():
    points = halp_recentering_images.runs("default")
    ends = halp_recentering_images.load(
        {p.name: Finished(p.overrides["seed"], 1.0 + n) for n, p in enumerate(points)}
    )
    losses = {p.name: 1.0 + n for n, p in enumerate(points)}
    for bits, mu in ((8, 0.3), (4, 3.0)):
        assert halp_networks.MUS["lenet5", bits] == mu
        assert ends.by_epochs["fashion_mnist", bits, 1.0] == {
            s: losses[f"fashion_mnist-{bits}bits-mu{mu:g}-seed{s}"] for s in SEEDS
        }
        assert ends.by_epochs["fashion_mnist", bits, 0.5] == {
            s: losses[f"fashion_mnist-{bits}bits-epochs0.5-seed{s}"] for s in SEEDS
        }
    assert len(halp_recentering_images.check(ends, "default")) == 2 * 2 + 1
    axes = halp_recentering_images.draw(ends)["figure"].axes
    assert [a.get_title() for a in axes] == ["Fashion-MNIST"] * 2


def decayed(halp, lp_sgd):
    """Ends with decay of HALP and LP-SGD; SVRG's is 0.01, and without decay 0.001."""
    losses = {("svrg", None, True): 0.01, ("svrg", None, False): 0.001}
    losses |= {("halp", 8, False): 0.001}
    for bits in (8, 4):
        losses |= {("halp", bits, True): halp, ("lp_sgd", bits, True): lp_sgd}
    return halp_decay.Trained(
        {k: {s: np.full(3, v * (1 + 0.01 * s)) for s in SEEDS} for k, v in losses.items()},
        {
            k: {s: np.full(3, 0.9 + (0.01 + 0.0001 * s) * (k[0] == "halp")) for s in SEEDS}
            for k in losses
        },
    )


def test_decay_of_the_whole_weight_is_told_by_where_it_ends():
    near, far = decayed(0.0105, 0.02), decayed(0.0011, 0.0105)
    assert set(words(halp_decay.check(near, "tiny")).values()) == {"holds"}
    seen = words(halp_decay.check(far, "tiny"))
    assert {w for claim, w in seen.items() if "validates" not in claim} == {"fails"}
    assert len(halp_decay.draw(near)["figure"].axes) == 2


@pytest.mark.parametrize("size", ["tiny", "default", "paper"])
def test_decay_is_the_optimizers_and_the_rest_is_as_without(size):
    points = halp_decay.runs(size)
    assert len({p.name for p in points}) == len(points)
    for point in points:
        config = load(point.config)
        assert point.overrides["optim.weight_decay"] in (0.0, halp_decay.DECAY)
        assert config.model.l2 == 0
        assert config.train.log_every == halp_decay.STEPS_OF_EPOCH[size]


def test_the_config_has_the_boxes_of_8_bits():
    for network in halp_networks.NETWORKS["paper"]:
        for method, name, boxes in (
            ("halp", "mu", halp_networks.MUS),
            ("lp_sgd", "radius", halp_networks.RADII),
        ):
            config = load(f"{halp_networks.CONFIG}:{network},{method}")
            assert config.optim[name] == boxes[network, 8]
