"""HALP on networks: verdicts of made-up runs, and the points that are asked for."""

import numpy as np
import pytest

from experiments import halp_images, halp_networks, halp_published_sets, halp_recentering
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
                lambda c: 0.3 if c.bits == 2 else 0.95,
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
    ("module", "places"),
    [
        (halp_images, halp_images.SETS["default"]),
        (halp_published_sets, halp_published_sets.NETWORKS["default"]),
    ],
)
def test_real_sets_are_judged_by_the_same_claims(module, places):
    found = Trained({}, {}, {})
    for of in places:
        for curve in halp_images.CURVES:
            loss = {"halp": 0.1, "svrg": 0.1, "sgd": 0.05}.get(curve.method, 0.2)
            key = (of, curve.method, curve.bits)
            found.losses[key] = {s: np.full(3, loss * (1 + 0.01 * s)) for s in SEEDS}
            found.accuracies[key] = {s: np.full(3, 0.95 - 0.001 * s) for s in SEEDS}
    seen = words(module.check(found, "default"))
    assert len(seen) == 2 * 7
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
            assert recentred == (62 if config.optim.name in ("halp", "svrg") else None)


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
            assert recentred == (31 if method in ("halp", "svrg") else None)


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


def test_the_config_has_the_boxes_of_8_bits():
    for network in halp_networks.NETWORKS["paper"]:
        for method, name, boxes in (
            ("halp", "mu", halp_networks.MUS),
            ("lp_sgd", "radius", halp_networks.RADII),
        ):
            config = load(f"{halp_networks.CONFIG}:{network},{method}")
            assert config.optim[name] == boxes[network, 8]
