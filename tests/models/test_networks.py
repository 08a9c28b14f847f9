"""The image networks against plain numpy, and what their settings change."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml import models
from lpml.models.vgg import VGG11
from lpml.quant import QuantizedReLU, half_gaussian_alpha

STAIRCASE = dict(bits=2, estimator="clipped_relu", rounding="ceil", alpha="half_gaussian")


def shapes(model, image):
    x = jax.ShapeDtypeStruct((2, *image), jnp.float32)
    return jax.eval_shape(lambda key, x: model.init(key, {"x": x}), jax.random.key(0), x)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def randomly(tree, seed=0):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: random.uniform(0.5, 1, leaf.shape) - 0.6, tree)


def test_resnet20_has_its_parameters():
    params, state = shapes(models.resnet20(classes=10), (32, 32, 3))
    # 3x3 kernels of 19 layers, and a dense layer of 64 to 10
    kernels = 3 * 16 + 6 * 16**2 + 16 * 32 + 5 * 32**2 + 32 * 64 + 5 * 64**2
    assert count(params) == 9 * kernels + 64 * 10 + 10 == 268_346
    assert len(state["batch_stats"]) == 19
    thin, _ = shapes(models.resnet20(classes=10, width=8, depth=32), (32, 32, 3))
    assert len(thin) == 32
    assert thin["Dense_0"]["kernel"].shape == (32, 10)


def test_vgg11_has_its_parameters():
    params, state = shapes(models.vgg11(classes=10), (32, 32, 3))
    widths = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    for i, pair in enumerate(itertools.pairwise(widths)):
        assert params[f"Conv_{i}"]["kernel"].shape == (3, 3, *pair)
    assert params["Dense_0"]["kernel"].shape == (512, 10)
    assert count(params) == 9_222_858
    assert len(state["batch_stats"]) == 8


@pytest.mark.parametrize(
    "make",
    [
        lambda **how: models.resnet20(classes=3, width=2, depth=8, **how),
        lambda **how: models.vgg11(classes=3, width=1, **how),
        lambda **how: models.lenet5(classes=3, normalise=True, **how),
        lambda **how: models.mlp(classes=3, normalise=True, **{"activation": "relu"} | how),
    ],
    ids=["resnet20", "vgg11", "lenet5", "mlp"],
)
def test_float_and_quantised_networks_have_the_same_trees(make):
    plain, few = make(), make(activation=STAIRCASE, quant=dict(weights="fixed8"))
    assert jax.tree.all(
        jax.tree.map(
            lambda a, b: a.shape == b.shape, *(shapes(m, (8, 8, 1)) for m in (plain, few))
        )
    )
    learned, _ = shapes(make(activation=dict(alpha="learned")), (8, 8, 1))
    own = [name for name in learned if name.startswith("QuantizedReLU")]
    assert own
    assert len(own) == len(shapes(plain, (8, 8, 1))[1]["batch_stats"])


def test_a_staircase_brings_normalisation_to_networks_that_had_none():
    for make in (models.lenet5, models.mlp):
        assert not make(classes=3).module.normalise
        assert make(classes=3, activation=STAIRCASE).module.normalise
        assert not make(classes=3, activation=STAIRCASE, normalise=False).module.normalise


def convolved(x, kernel, strides=1):
    """3 x 3 with a frame of zeros, channels last."""
    framed = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = x.shape[1:3]
    windows = [
        framed[:, i : i + rows : strides, j : j + columns : strides] @ kernel[i, j]
        for i in range(3)
        for j in range(3)
    ]
    return np.sum(windows, axis=0)


class Layers:
    """Normalised convolutions of a network in their order, with running averages."""

    def __init__(self, params, state):
        self.kernels, self.stats, self.at = params, state["batch_stats"], 0

    def __call__(self, x, strides=1):
        stats = self.stats[f"BatchNorm_{self.at}"]
        y = convolved(x, self.kernels[f"Conv_{self.at}"]["kernel"], strides)
        self.at += 1
        return (y - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)


def resnet(layers, x, act):
    x = act(layers(x))
    for stage in range(3):
        strides = 2 if stage else 1
        y = layers(act(layers(x, strides)))
        x = x[:, ::strides, ::strides]
        same = np.zeros_like(y)
        same[..., : x.shape[-1]] = x
        x = act(same + y)
    return x.mean((1, 2))


def vgg(layers, x, act):
    for _, pooled in VGG11:
        x = act(layers(x))
        if pooled:
            pairs = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
            x = np.max([p for p in pairs if p.size], axis=0)
    return x.reshape(len(x), -1)


def staircase(x):
    alpha = half_gaussian_alpha(2, "ceil")
    return np.clip(np.ceil(x / alpha), 0, 3) * alpha


@pytest.mark.parametrize(
    ("make", "reference"),
    [
        (lambda **how: models.resnet20(classes=3, width=2, depth=8, **how), resnet),
        (lambda **how: models.vgg11(classes=3, width=1, **how), vgg),
    ],
    ids=["resnet20", "vgg11"],
)
def test_evaluation_is_that_of_numpy(make, reference):
    with jax.enable_x64(True):
        x = np.random.default_rng(1).normal(size=(3, 8, 8, 1))
        trees = shapes(make(dtype="float64"), (8, 8, 1))
        params, state = randomly(trees[0]), randomly(trees[1], 1)
        # variances are positive
        state = jax.tree.map(lambda leaf: np.abs(leaf) + 0.1, state)
        for activation, act in ((None, lambda x: np.maximum(x, 0)), (STAIRCASE, staircase)):
            model = make(dtype="float64", activation=activation)
            found = jax.jit(model.outputs)(params, state, {"x": x})
            dense = params["Dense_0"]
            features = reference(Layers(params, state), x, act)
            expected = features @ dense["kernel"] + dense["bias"]
            assert np.ptp(expected) > 0.01
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_every_activation_of_a_quantised_network_lies_on_its_levels():
    model = models.lenet5(classes=3, widths=(2, 3, 6, 5), activation=STAIRCASE)
    x = np.random.default_rng(1).normal(size=(16, 8, 8, 1)).astype("f")
    params, state = jax.jit(model.init)(jax.random.key(0), {"x": x})

    @jax.jit
    def levels(params, state):
        _, seen = model.module.apply(
            {"params": params, **state},
            x,
            train=True,
            mutable=["intermediates", "batch_stats"],
            capture_intermediates=lambda module, _: isinstance(module, QuantizedReLU),
        )
        return jax.tree.leaves(seen["intermediates"])

    seen = levels(params, state)
    assert len(seen) == 4
    allowed = np.arange(4, dtype="f") * np.float32(half_gaussian_alpha(2))
    for y in seen:
        assert np.isin(y, allowed).all()
        # of N(0, 1): half are 0, and 9 % are beyond the last step
        assert 0.3 < (np.asarray(y) == 0).mean() < 0.7


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: models.resnet20(classes=2, depth=18), r"depth = 18 must be 6 n \+ 2"),
        (lambda: models.resnet20(classes=2, depth=2), r"depth = 2 must be 6 n \+ 2"),
        (lambda: models.resnet20(classes=2, width=0), "width = 0 must be at least 1"),
        (lambda: models.vgg11(classes=2, width=0), "width = 0 must be at least 1"),
        (lambda: models.vgg11(classes=2, activation=dict(bits=9)), "activation: bits = 9 must"),
        (lambda: models.mlp(classes=2, activation=dict(bitz=2)), "activation.bitz does not"),
        (lambda: shapes(models.vgg11(classes=2), (9,)), r"takes images \(B, H, W, C\), not"),
        (lambda: shapes(models.resnet20(classes=2), (9,)), r"takes images \(B, H, W, C\)"),
    ],
)
def test_what_makes_no_network_is_one_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
