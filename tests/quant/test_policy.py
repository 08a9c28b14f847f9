"""From a config's words to the formats of every layer."""

import dataclasses

import pytest
from ml_collections import ConfigDict

from lpml.config import plain
from lpml.formats import VSQ, Fixed, by_name, int_channel
from lpml.quant import Policy, Roles, policy

LAYERS = {"Dense_0": None, "Dense_1": False, "Dense_2": False}
SPEC = dict(weights="vsq4", activations="uvsq4t", gradients="vsq4")


def assigned(spec, layers=LAYERS):
    return dict(zip(layers, policy(spec).assign(layers), strict=True))


def test_nothing_said_is_full_precision():
    for spec in (None, {}, {"weights": None, "activations": "none"}):
        assert policy(spec) == Policy()
        assert assigned(spec) == dict.fromkeys(LAYERS, Roles())


def test_words_become_formats_of_every_layer():
    spec = SPEC | dict(gradient_rounding="stochastic")
    roles = assigned(spec)["Dense_1"]
    unsigned = VSQ(4, signed=False, outer="tensor")
    assert roles == Roles(VSQ(), unsigned, VSQ(), "stochastic")
    assert assigned(spec)["Dense_2"] == roles
    assert policy(dict(weights=Fixed(0.5, 4))).default.weights == Fixed(0.5, 4)


def test_unsigned_activations_act_only_where_nothing_is_negative():
    signed = VSQ(4, outer="tensor")
    assert assigned(SPEC)["Dense_0"].activations == signed
    tanh = {"Dense_0": None, "Dense_1": True}
    assert assigned(SPEC, tanh)["Dense_1"].activations == signed
    # named for the layer that the data enter, they stay as they are
    pixels = SPEC | dict(layers={"Dense_0": dict(activations="uvsq4t")})
    assert assigned(pixels)["Dense_0"].activations == by_name("uvsq4t")
    wrong = SPEC | dict(layers={"Dense_1": dict(activations="uvsq4")})
    with pytest.raises(ValueError, match=r"quant.layers.Dense_1.activations is unsigned, but"):
        assigned(wrong, tanh)


def test_the_ends_may_stay_in_full_precision_and_layers_have_the_last_word():
    spec = SPEC | dict(
        first=False,
        last=False,
        gradient_rounding="stochastic",
        layers={
            "Dense_0": dict(weights="int8channel"),
            "Dense_1": dict(gradients=None, gradient_rounding="nearest"),
        },
    )
    found = assigned(spec)
    assert found["Dense_0"] == Roles(int_channel(8), gradient_rounding="stochastic")
    assert found["Dense_1"] == Roles(VSQ(), by_name("uvsq4t"))
    assert not found["Dense_2"].rounds
    alone = dict(only=None)
    assert assigned(SPEC | dict(last=False), alone)["only"] == Roles()


def test_a_policy_is_a_value_that_can_be_hashed():
    spec = SPEC | dict(layers={"Dense_0": dict(weights="int8channel")})
    assert hash(policy(spec)) == hash(policy(dict(reversed(spec.items()))))
    assert policy(spec) == policy(plain(ConfigDict(spec)))
    assert policy(spec) != policy(SPEC)
    assert hash(policy(spec).assign(LAYERS))
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy(spec).first = False


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (dict(weight="vsq4"), r"quant.weight does not exist; did you mean 'weights'\?; it has"),
        (dict(weights="vsqq"), r"quant.weights: number format 'vsqq' does not exist; known"),
        (dict(weights=4), r"quant.weights = 4 must be the name of a format, or None"),
        (dict(gradients="fixed1"), r"quant.gradients: bits = 1 is outside of 2 to 32"),
        (dict(gradient_rounding="up"), r"gradient_rounding 'up' does not exist; choose from"),
        (dict(first=1), r"quant.first = 1 must be true or false"),
        (dict(layers="Dense_0"), r"quant.layers = 'Dense_0' must be a dict"),
        (dict(layers=dict(Dense_0="vsq4")), r"quant.layers.Dense_0 = 'vsq4' must be a dict"),
        (
            dict(layers=dict(Dense_0=dict(first=True))),
            r"quant.layers.Dense_0.first does not exist.*; it has weights, activations",
        ),
        (
            dict(layers=dict(Dense_0=dict(weights="int"))),
            r"quant.layers.Dense_0.weights: number format 'int' does not exist",
        ),
        (
            dict(layers=dict(Dense_0=dict(gradient_rounding="up"))),
            r"gradient_rounding 'up' does not exist",
        ),
        (
            dict(layers=dict(Dense_3=dict(weights="vsq4"))),
            r"quant.layers.Dense_3 does not exist; did you mean 'Dense_2'\?; the model has",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_refused_in_one_sentence(spec, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        policy(spec).assign(LAYERS)
    assert "\n" not in str(caught.value)
