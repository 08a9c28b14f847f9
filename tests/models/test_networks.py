"""The image networks against plain numpy, and what their settings change."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml import models
from lpml.models.normalise import normalised
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


def test_groups_of_channels_are_normalised_within_a_sample():
    x = np.random.default_rng(0).normal(3, 2, (2, 5, 4, 8))

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return normalised(x, dtype="float64", norm="group")

    with jax.enable_x64(True):
        found = Layer().apply({}, jnp.asarray(x))
    groups = x.reshape(2, 20, 2, 4)
    mean, var = groups.mean((1, 3), keepdims=True), groups.var((1, 3), keepdims=True)
    wanted = ((groups - mean) / np.sqrt(var + 1e-6)).reshape(x.shape)
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match="multiples of 4 channels, not 6"):
        Layer().apply({}, jnp.ones((1, 2, 2, 6)))


def test_with_group_normalisation_the_full_gradient_is_the_mean_of_the_samples():
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        model = models.resnet20(classes=3, width=4, depth=8, norm="group", dtype="float64")
        batch = {"x": jnp.asarray(random.normal(size=(3, 4, 4, 1))), "y": jnp.arange(3)}
        params, state = jax.jit(model.init)(jax.random.key(0), batch)
        assert not state

        @jax.jit
        def gradient(batch):
            return jax.grad(lambda p: model.objective(p, {}, batch, train=True)[0])(params)

        whole = gradient(batch)
        parts = [gradient({k: v[i, None] for k, v in batch.items()}) for i in range(3)]
        for total, *each in zip(*map(jax.tree.leaves, (whole, *parts))):
            np.testing.assert_allclose(total, sum(each) / 3, atol=1e-13)


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="norm 'layer' does not exist; choose from batch, gr"):
        models.resnet20(classes=3, norm="layer")


def test_resnet20_has_its_parameters():
    params, state = shapes(models.resnet20(classes=10), (32, 32, 3))
    # 3x3 kernels of 19 layers, and a dense layer of 64 to 10
    kernels = 3 * 16 + 6 * 16**2 + 16 * 32 + 5 * 32**2 + 32 * 64 + 5 * 64**2
    assert count(params) == 9 * kernels + 64 * 10 + 10 == 268_346
    assert len(state["batch_stats"]) == 19
    thin, _ = shapes(models.resnet20(classes=10, width=8, depth=32), (32, 32, 3))
    assert len(thin) == 32
    assert thin["Dense_0"]["kernel"].shape == (32, 10)


def published_resnet50(classes):
    """Parameters of the published table: kernels and dense layer; scales and shifts."""
    kernels, channels, inputs = 7 * 7 * 3 * 64, 64, 64
    for inside, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        kernels += inputs * 4 * inside  # the shortcut
        channels += 4 * inside
        for _ in range(blocks):
            kernels += inputs * inside + 9 * inside**2 + inside * 4 * inside
            channels += 6 * inside
            inputs = 4 * inside
    return kernels + (inputs + 1) * classes, 2 * channels


def test_resnet50_has_its_parameters():
    plain, affine = published_resnet50(1000)
    assert plain + affine == 25_557_032, "as torchvision counts them"
    model = models.resnet50(classes=1000, large_images=True)
    params, state = shapes(model, (224, 224, 3))
    assert count(params) == plain == 25_503_912
    assert 2 * count(state["batch_stats"]) == 2 * affine, "scales and shifts it has not"
    assert len(params) == 53 + 1
    small, _ = shapes(models.resnet50(classes=1000), (32, 32, 3))
    assert count(params) - count(small) == (49 - 9) * 3 * 64


def test_resnet50_halves_its_images_where_it_should():
    def sides(image, **how):
        model = models.resnet50(classes=5, blocks=(1, 2, 1, 1), **how)
        seen = {}

        def record(next_call, args, kwargs, context):
            out = next_call(*args, **kwargs)
            if type(context.module).__name__ == "Conv":
                seen[context.module.name] = out.shape[1:]
            return out

        with nn.intercept_methods(record):
            out, _ = jax.eval_shape(
                model.module.init_with_output,
                *(jax.random.key(0), jax.ShapeDtypeStruct((2, *image), jnp.float32)),
            )
        assert out.shape == (2, 5)
        return [seen[f"Conv_{i}"] for i in range(len(seen))]

    large = sides((224, 224, 3), large_images=True)
    assert large[:5] == [(112, 112, 64)] + 2 * [(56, 56, 64)] + 2 * [(56, 56, 256)]
    # reduced before the stride, then halved; the shortcut is halved too
    assert large[5:9] == [(56, 56, 128), (28, 28, 128), (28, 28, 512), (28, 28, 512)]
    assert large[9:12] == [(28, 28, 128), (28, 28, 128), (28, 28, 512)]
    assert large[-1] == (7, 7, 2048)
    small = sides((32, 32, 3))
    assert small[0] == (32, 32, 64)
    assert small[-1] == (4, 4, 2048)
    assert len(small) == len(large) == 20


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
        lambda **how: models.resnet50(classes=3, width=1, blocks=(1, 1), **how),
        lambda **how: models.vgg11(classes=3, width=1, **how),
        lambda **how: models.lenet5(classes=3, normalise=True, **how),
        lambda **how: models.mlp(classes=3, normalise=True, **{"activation": "relu"} | how),
    ],
    ids=["resnet20", "resnet50", "vgg11", "lenet5", "mlp"],
)
def test_float_and_quantised_networks_have_the_same_trees(make, request):
    plain, few = make(), make(activation=STAIRCASE, quant=dict(weights="fixed8"))
    assert jax.tree.all(
        jax.tree.map(
            lambda a, b: a.shape == b.shape, *(shapes(m, (8, 8, 1)) for m in (plain, few))
        )
    )
    learned, _ = shapes(make(activation=dict(alpha="learned")), (8, 8, 1))
    own = [name for name in learned if name.startswith("QuantizedReLU")]
    assert own
    shortcuts = 2 if "resnet50" in request.node.name else 0  # normalised, added, then activated
    assert len(own) == len(shapes(plain, (8, 8, 1))[1]["batch_stats"]) - shortcuts


def test_a_staircase_brings_normalisation_to_networks_that_had_none():
    for make in (models.lenet5, models.mlp):
        assert not make(classes=3).module.normalise
        assert make(classes=3, activation=STAIRCASE).module.normalise
        assert not make(classes=3, activation=STAIRCASE, normalise=False).module.normalise


def convolved(x, kernel, strides=1):
    """An odd square kernel with a frame of zeros, channels last."""
    side = len(kernel)
    framed = np.pad(x, ((0, 0), *((side // 2, side // 2),) * 2, (0, 0)))
    rows, columns = x.shape[1:3]
    windows = [
        framed[:, i : i + rows : strides, j : j + columns : strides] @ kernel[i, j]
        for i in range(side)
        for j in range(side)
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


def bottlenecks(layers, x, act):
    x = act(layers(x))
    for stage, blocks in enumerate((2, 1)):
        for block in range(blocks):
            strides = 2 if stage and not block else 1
            y = layers(act(layers(act(layers(x)), strides)))
            x = act(y + (x if block else layers(x, strides)))
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
        (
            lambda **how: models.resnet50(classes=3, width=2, blocks=(2, 1), **how),
            bottlenecks,
        ),
        (lambda **how: models.vgg11(classes=3, width=1, **how), vgg),
    ],
    ids=["resnet20", "resnet50", "vgg11"],
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
        (lambda: models.resnet50(classes=2, blocks=(3, 0)), r"blocks = \(3, 0\) must hold at"),
        (lambda: models.resnet50(classes=2, blocks=()), r"blocks = \(\) must hold at least 1"),
        (lambda: models.resnet50(classes=2, width=0), "width = 0 must be at least 1"),
        (lambda: shapes(models.resnet50(classes=2), (9,)), r"takes images \(B, H, W, C\)"),
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
