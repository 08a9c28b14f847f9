"""CifarNet against its published sizes and plain numpy; its crops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml import models
from lpml.models.augment import center_crop, random_crop
from lpml.models.cifarnet import local_response


def test_it_has_the_layers_of_the_paper():
    model = models.cifarnet(classes=10)
    x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    params, state = jax.eval_shape(
        lambda key, x: model.init(key, {"x": x}), jax.random.key(0), x
    )
    sizes = {name: layer["kernel"].size for name, layer in params.items()}
    # the paper counts the first convolution by input channel: 1600
    assert sizes == {
        "Conv_0": 3 * 1600, "Conv_1": 64 * 1600, "Dense_0": 884736, "Dense_1": 73728,
        "Dense_2": 1920,
    }  # fmt: skip
    assert not state


def test_local_response_is_that_of_plain_sums():
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 12)) * 30
    wanted = np.empty_like(x)
    for c in range(12):
        near = x[..., max(0, c - 4) : c + 5]
        wanted[..., c] = x[..., c] / (1 + 0.001 / 9 * (near**2).sum(-1)) ** 0.75
    with jax.enable_x64(True):
        np.testing.assert_allclose(local_response(jnp.asarray(x)), wanted, rtol=1e-12)


def test_every_crop_is_one_of_all_each_as_likely():
    image = np.arange(1.0, 1 + 6 * 5 * 2, dtype="f").reshape(6, 5, 2)
    crops = [image[i : i + 4, j : j + 4] for i in range(3) for j in range(2)]
    outcomes = np.stack([c for crop in crops for c in (crop, crop[:, ::-1])])
    count = 1200
    found = np.asarray(random_crop(4)(jax.random.key(0), np.stack([image] * count)))
    hits = (found[:, None] == outcomes[None]).all((2, 3, 4))
    assert (hits.sum(1) == 1).all()
    # chi squared with 11 degrees of freedom: mean 11, standard deviation 4.7
    expected = count / 12
    assert ((hits.sum(0) - expected) ** 2 / expected).sum() < 11 + 5 * 4.7
    np.testing.assert_array_equal(center_crop(image[None], 4)[0], image[1:5, 0:4])


def test_training_sees_random_crops_and_evaluation_the_middle():
    plain = models.cifarnet(classes=3, width=2, hidden=(4, 3), crop=6)
    model = models.cifarnet(classes=3, width=2, hidden=(4, 3), crop=6, augment="crop_flip")
    x = jax.random.normal(jax.random.key(0), (5, 8, 8, 1))
    batch = {"x": x, "y": jnp.arange(5) % 3}
    params, _ = model.init(jax.random.key(1), batch)

    def loss(model, x, **how):
        at = {**batch, "x": x}
        return float(model.objective(params, {}, at, jax.random.key(2), **how)[0])

    assert loss(model, x) == loss(plain, x) == loss(plain, x[:, 1:7, 1:7])
    assert loss(model, x, train=True) != loss(model, x)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(width=0), "width = 0 and hidden"),
        (dict(hidden=(3,)), "hidden a pair"),
        (dict(crop=0), "crop = 0 must be at least 1"),
        (dict(augment="flip"), "choose crop_flip"),
        (dict(augment="crop_flip", crop=None), "needs crop"),
    ],
)
def test_bad_settings(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        models.cifarnet(classes=10, **settings)


def test_images_too_small_or_flat():
    model = models.cifarnet(classes=10)
    with pytest.raises(ValueError, match="24 x 24 or more"):
        jax.eval_shape(model.init, jax.random.key(0), {"x": jnp.zeros((1, 8, 8, 1))})
    with pytest.raises(ValueError, match="takes images"):
        jax.eval_shape(model.init, jax.random.key(0), {"x": jnp.zeros((1, 64))})
