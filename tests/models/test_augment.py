"""Crops and mirrors are what they say, a function of the key, and of training alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml import models
from lpml.models.augment import crop_flip
from lpml.models.supervised import AUGMENTATION

HEIGHT, WIDTH, COUNT = 6, 5, 4000


def every_outcome(image):
    """The 9 x 9 crops of an image in a frame of 4 zeros, and their mirror images."""
    framed = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    crops = [framed[i : i + HEIGHT, j : j + WIDTH] for i in range(9) for j in range(9)]
    return np.stack([c for crop in crops for c in (crop, crop[:, ::-1])])


def test_every_image_is_one_of_its_162_outcomes_each_as_likely():
    image = np.arange(1, 1 + HEIGHT * WIDTH * 2, dtype=np.float32).reshape(HEIGHT, WIDTH, 2)
    found = np.asarray(crop_flip(jax.random.key(0), np.stack([image] * COUNT)))
    hits = (found[:, None] == every_outcome(image)[None]).all((2, 3, 4))
    assert (hits.sum(1) == 1).all()
    counts = hits.sum(0)
    # chi squared with 161 degrees of freedom: mean 161, standard deviation 18
    assert ((counts - COUNT / 162) ** 2 / (COUNT / 162)).sum() < 161 + 5 * 18


def test_the_draw_is_a_function_of_the_key_and_images_draw_apart():
    images = np.random.default_rng(0).normal(size=(8, HEIGHT, WIDTH, 3)).astype("f")
    one, again = (crop_flip(jax.random.key(1), images) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one, jax.jit(crop_flip)(jax.random.key(1), images))
    assert not np.array_equal(one, crop_flip(jax.random.key(2), images))
    for i, image in enumerate(images):  # nothing of another image
        assert (every_outcome(image) == np.asarray(one[i])).all((1, 2, 3)).sum() == 1


def test_only_training_sees_augmented_images():
    plain = models.mlp(classes=3, hidden=(4,))
    model = dataclasses.replace(plain, augment=crop_flip)
    x = jax.random.normal(jax.random.key(0), (5, HEIGHT, WIDTH, 1))
    batch = {"x": x, "y": jnp.arange(5) % 3}
    params, _ = model.init(jax.random.key(1), batch)
    key = jax.random.key(2)

    def loss(model, batch, **how):
        return float(model.objective(params, {}, batch, key, **how)[0])

    assert loss(model, batch) == loss(plain, batch)
    own = crop_flip(jax.random.fold_in(key, AUGMENTATION), x)
    assert loss(model, batch, train=True) == loss(plain, {**batch, "x": own})
    assert loss(model, batch, train=True) != loss(model, batch)
    with pytest.raises(ValueError, match="augmentation needs a PRNG `key`"):
        model.objective(params, {}, batch, train=True)


def test_what_cannot_be_augmented_is_refused():
    with pytest.raises(ValueError, match=r"takes images \(B, H, W, C\), not \(2, 3\)"):
        crop_flip(jax.random.key(0), np.zeros((2, 3), "f"))
    with pytest.raises(
        ValueError, match="augment 'flip' does not exist; choose from crop_flip"
    ):
        models.resnet20(classes=2, augment="flip")
