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
    around = [(0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)]
    return _windows(key, jnp.pad(images, around), images.shape[1:3])


def random_crop(size: int) -> Augment:
    """Augmentation by a crop of `size` x `size` at random and, with probability 1/2, mirrored.

    Nothing is padded: there are (height - size + 1) (width - size + 1) crops, equally likely.

    Args:
      size: of the sides of what is left, at least 1; images must not be smaller.

    References:
      Krizhevsky, Learning multiple layers of features from tiny images, 2009; the 24 x 24
      crops of CifarNet.
    """

    def crop(key, images):
        _check(images, size, "random_crop")
        return _windows(key, images, (size, size))

    return crop


def center_crop(
    images: Float[Array, "batch height width channels"], size: int
) -> Float[Array, "batch size size channels"]:
    """The middle `size` x `size` pixels: what evaluation sees of images cropped at random."""
    _check(images, size, "center_crop")
    top, left = ((side - size) // 2 for side in images.shape[1:3])
    return images[:, top : top + size, left : left + size]


def _windows(key, images, sides):
    """A window of `sides` of every image, at random, mirrored with probability 1/2."""
    count, height, width, _ = images.shape
    down_key, right_key, flip_key = jax.random.split(key, 3)
    free = (height - sides[0] + 1, width - sides[1] + 1)
    down, right = (
        jax.random.randint(k, (count, 1), 0, most)
        for k, most in zip((down_key, right_key), free)
    )
    columns = jnp.arange(sides[1])
    mirrored = jax.random.bernoulli(flip_key, shape=(count, 1))
    columns = right + jnp.where(mirrored, columns[::-1], columns)  # (B, W)
    rows = down + jnp.arange(sides[0])  # (B, H)
    # one gather for crop and mirror alike
    return images[jnp.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _check(images, size, name):
    if images.ndim != 4 or min(images.shape[1:3]) < size:
        raise ValueError(
            f"{name} takes images (B, H, W, C) of {size} x {size} or more, not {images.shape}"
        )


AUGMENTATIONS = {"crop_flip": crop_flip}


def augmentation(name: str | None) -> Augment | None:
    """The augmentation of a name, None for None; ValueError, with the list, for others."""
    if name is not None and name not in AUGMENTATIONS:
        known = ", ".join(AUGMENTATIONS)
        raise ValueError(f"augment {name!r} does not exist; choose from {known}")
    return None if name is None else AUGMENTATIONS[name]
