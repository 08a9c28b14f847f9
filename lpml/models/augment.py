"""Augmentation: random changes of a batch of images, as functions of a key."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lpml.models.supervised import Augment

PADDING = 4


def crop_flip(
    key: jax.Array, images: Float[Array, "batch height width channels"]
) -> Float[Array, "batch height width channels"]:
    """Every image shifted by up to 4 pixels each way and, with probability 1/2, mirrored.

    The shift is a crop of the size of the image from the image with 4 pixels of zeros around
    it, uniform among the 9 x 9 there are; mirrored is left and right.

    Args:
      key: of the draw, each image has its own.
      images: of any size.

    References:
      He et al., Deep residual learning for image recognition, CVPR 2016, section 4.2.
    """
    if images.ndim != 4:
        raise ValueError(f"crop_flip takes images (B, H, W, C), not {images.shape}")
    count, height, width, _ = images.shape
    down_key, right_key, flip_key = jax.random.split(key, 3)
    down, right = (
        jax.random.randint(k, (count, 1), 0, 2 * PADDING + 1) for k in (down_key, right_key)
    )
    columns = jnp.arange(width)
    mirrored = jax.random.bernoulli(flip_key, shape=(count, 1))
    columns = right + jnp.where(mirrored, columns[::-1], columns)  # (B, W)
    rows = down + jnp.arange(height)  # (B, H)
    around = [(0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)]
    padded = jnp.pad(images, around)
    # one gather for crop and mirror alike
    return padded[jnp.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


AUGMENTATIONS = {"crop_flip": crop_flip}


def augmentation(name: str | None) -> Augment | None:
    """The augmentation of a name, None for None; ValueError, with the list, for others."""
    if name is not None and name not in AUGMENTATIONS:
        known = ", ".join(AUGMENTATIONS)
        raise ValueError(f"augment {name!r} does not exist; choose from {known}")
    return None if name is None else AUGMENTATIONS[name]
