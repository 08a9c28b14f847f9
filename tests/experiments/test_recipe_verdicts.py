"""Each verdict of recipe_table says *fails* of numbers that contradict its claim."""

import pytest

from experiments import recipe_table as experiment
from experiments.recipe_table import ALL_INT8, ALONE, FULL, MASTER, MOST, RECIPES, WHOLE, Row

SEEDS = (1, 2, 3)
NETWORKS = experiment.NETWORKS["default"]


def as_expected():
    """A little is lost by all, more with masters in 4 bits; bytes are a quarter in int8."""
    ends = {}
    for network in NETWORKS:
        for recipe in RECIPES:
            bad = 1.0 if recipe.label == MASTER else 0.001 * (recipe.label != FULL)
            stored = 3.05 if recipe.label == ALL_INT8 else 12.0
            ends[network, recipe.label] = {
                seed: Row(1.0, 2.0 + bad + 0.1 * seed, 90 - bad - seed, stored)
                for seed in SEEDS
            }
    return ends


def verdicts(ends):
    return {v.claim: v.verdict for v in experiment.check(ends, "default")}


def changed(network, label, **fields):
    ends = as_expected()
    rows = ends[network, label]
    ends[network, label] = {s: row._replace(**fields) for s, row in rows.items()}
    return {claim for claim, word in verdicts(ends).items() if word == "fails"}


def test_all_claims_hold_of_what_is_expected():
    assert set(verdicts(as_expected()).values()) == {"holds"}


@pytest.mark.parametrize("label", MOST)
def test_a_recipe_that_loses_fails(label):
    (claim,) = changed("transformer", label, test_loss=9.0)
    assert claim.startswith(f"Transformer, {label}: loses")
    (claim,) = changed("resnet20", label, accuracy=10.0)
    assert claim.startswith(f"ResNet-20, {label}: loses")


@pytest.mark.parametrize("recipe", ALONE[:-1], ids=lambda recipe: recipe.label)
def test_another_role_that_loses_more_fails(recipe):
    (claim,) = changed("resnet20", recipe.label, accuracy=10.0)
    assert claim.startswith("ResNet-20: of all roles alone")


def test_bytes_that_are_not_saved_fail():
    (claim,) = changed("transformer", ALL_INT8, bytes=6.0)
    assert claim.startswith("Transformer: int8 S and M")


def test_every_recipe_has_points_of_its_own():
    points = experiment.runs("paper")
    assert len({point.name for point in points}) == len(points) == len(RECIPES) * 2 * 3
    few = experiment.runs("default")
    assert len(few) == (len(RECIPES) + len(WHOLE)) * 3
    assert len({str(sorted(recipe.settings().items())) for recipe in RECIPES}) == len(RECIPES)


def test_the_table_names_every_recipe_and_shows_both_networks():
    figures = experiment.draw(as_expected())
    assert set(figures) == {"figure", "resnet20"}
    for figure in figures.values():
        labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert labels == [f"{recipe.label}\n{recipe.words()}" for recipe in RECIPES]


def test_formats_in_words():
    assert RECIPES[2].words() == "W A e4m3fn, G e5m2, S M float32"


def test_the_few_recipes_of_the_tiny_size_are_judged_and_drawn():
    labels = {RECIPES[r].label for r in experiment.CHOSEN["tiny"]}
    assert {FULL, ALL_INT8, MASTER} <= labels
    ends = {key: rows for key, rows in as_expected().items() if key[1] in labels}
    assert {v.verdict for v in experiment.check(ends, "tiny")} == {"holds"}
    assert len(experiment.draw(ends)["figure"].axes[0].get_yticks()) == len(labels)


def test_a_network_without_roles_alone_makes_no_claim_of_them():
    whole = {recipe.label for recipe in WHOLE}
    ends = {key: rows for key, rows in as_expected().items() if key[1] in whole}
    seen = experiment.check(ends, "default")
    assert seen
    assert not [v for v in seen if "alone" in v.claim]
