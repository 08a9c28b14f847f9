"""Which weights share a scale: all, those of a channel, or a group of consecutive ones."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from lpml.formats.blocks import negative_axis


@dataclasses.dataclass(frozen=True)
class Sharing:
    """Reshapes weights so that those which share a scale are the ones along `axes`.

    Args:
      shape: of the weights.
      axis: the axis or axes that keep scales of their own.
      group: or how many consecutive weights of the last axis share one.

    Raises:
      ValueError: both, an axis that does not exist, or a group that does not divide.
    """

    shape: tuple[int, ...]
    axis: Any = None
    group: int | None = None

    def __post_init__(self):
        if self.axis is not None and self.group is not None:
            raise ValueError("scales are per axis or per group; leave axis or group away")
        if self.axis is not None:
            given = self.axis if isinstance(self.axis, (tuple, list)) else (self.axis,)
            kept = {negative_axis(int(one), len(self.shape)) for one in given}
            object.__setattr__(self, "axis", tuple(sorted(kept)))
        if self.group is None:
            return
        last = self.shape[-1] if self.shape else 1
        if isinstance(self.group, bool) or not isinstance(self.group, int) or self.group < 1:
            raise ValueError(f"group = {self.group!r} must be a whole number >= 1")
        if last % self.group:
            raise ValueError(
                f"groups of {self.group} do not divide the last axis, of length {last}; choose "
                "a divisor of it"
            )

    @property
    def inner_shape(self) -> tuple[int, ...]:
        """As `shape`, but groups are an axis of their own."""
        if self.group is None:
            return self.shape
        return (*self.scale_shape, self.group)

    @property
    def axes(self) -> tuple[int, ...]:
        """Axes of the inner shape, negative, along which weights share a scale."""
        if self.group is not None:
            return (-1,)
        return tuple(one for one in range(-len(self.shape), 0) if one not in (self.axis or ()))

    @property
    def scale_shape(self) -> tuple[int, ...]:
        """Of the scales, as users see them."""
        if self.group is not None:
            last = self.shape[-1] if self.shape else 1
            return (*self.shape[:-1], last // self.group)
        if self.axis is None:
            return ()
        pairs = zip(range(-len(self.shape), 0), self.shape)
        return tuple(n if one in self.axis else 1 for one, n in pairs)

    def check_scale(self, scale: jax.Array) -> jax.Array:
        """`scale` in the shape of scales; ValueError if it does not broadcast to it."""
        try:
            return jnp.broadcast_to(scale, self.scale_shape)
        except ValueError:
            raise ValueError(
                f"init of shape {scale.shape} is no scale of these weights; theirs have shape "
                f"{self.scale_shape}"
            ) from None

    def split(self, x: jax.Array) -> jax.Array:
        """Weights in the inner shape."""
        return x.reshape(self.inner_shape)

    def spread(self, scale: jax.Array) -> jax.Array:
        """Scales as users see them, with an axis of 1 for each axis of the inner shape."""
        ndim = len(self.inner_shape)
        kept = tuple(
            1 if one - ndim in self.axes else n for one, n in enumerate(self.inner_shape)
        )
        return scale.reshape(kept)

    def join(self, scale: jax.Array) -> jax.Array:
        """The inverse of `spread`."""
        return scale.reshape(self.scale_shape)

    def rows(self, x: jax.Array) -> jax.Array:
        """An array of the inner shape as (scales, weights that share one)."""
        front = tuple(one for one in range(-x.ndim, 0) if one not in self.axes)
        moved = jnp.transpose(x, tuple(one % x.ndim for one in (*front, *self.axes)))
        return moved.reshape(math.prod(self.scale_shape), -1)
