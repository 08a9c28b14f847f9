"""Pieces of text as vectors: a table of pieces, and one of positions or sinusoids."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

POSITIONS = ("learned", "sinusoidal")


def table(module: nn.Module, name: str, rows: int, width: int, dtype: str) -> jax.Array:
    """(rows, width), drawn with variance 1 / width; call it where layers are made.

    Scaled by sqrt(width) its vectors have entries of size 1, and unscaled it is of the right
    size for a last layer that shares it.
    """

    def drawn(key, shape):
        return jax.random.normal(key, shape, dtype) * jnp.asarray(width**-0.5, dtype)

    return module.param(name, drawn, (rows, width))


def embedded(pieces: jax.Array, vectors: jax.Array, places: jax.Array) -> jax.Array:
    """sqrt(width) vectors[pieces] + places: (B, T) and tables to (B, T, width)."""
    scale = jnp.asarray(vectors.shape[1] ** 0.5, vectors.dtype)
    return scale * jnp.take(vectors, pieces, axis=0) + places[: pieces.shape[1]].astype(
        vectors.dtype
    )


def places(
    module: nn.Module, kind: str, length: int, width: int, *, context: int | None, dtype: str
) -> jax.Array:
    """Vectors (>= length, width) of places; call it where layers are made.

    Args:
      module: has the table "places" of a learned kind.
      kind: "learned" (times sqrt(width), as pieces are) or "sinusoidal".
      length: places needed.
      width: of a vector.
      context: rows of a learned table; None: as many as the first text seen has places.
      dtype: of the table.

    Raises:
      ValueError: a text longer than the learned table.
    """
    if kind == "sinusoidal":
        return jnp.asarray(sinusoids(length, width), dtype)
    if context is None and module.has_variable("params", "places"):
        context = len(module.get_variable("params", "places"))
    rows = context or length
    if length > rows:
        raise ValueError(
            f"texts have {length} places, but positions are learned for context = {rows}; set "
            "a larger context or positions = 'sinusoidal'"
        )
    return jnp.asarray(width**0.5, dtype) * table(module, "places", rows, width, dtype)


def sinusoids(length: int, width: int) -> np.ndarray:
    """float64 (T, width): sin(t / 10000^(2i / width)) in the first half, cosines in the other.

    The paper interleaves the two; that is a permutation of the features, which are learned.
    """
    rates = 10000.0 ** (-np.arange((width + 1) // 2) * 2 / width)
    angles = np.arange(length)[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], 1)[:, :width]


def check_pieces(x: jax.Array, shape: str, axes: int) -> None:
    """ValueError unless `x` is an integer array with so many axes; `shape` says of which."""
    if x.ndim != axes or not jnp.issubdtype(x.dtype, jnp.integer):
        raise ValueError(
            f"a model of texts takes numbers of pieces {shape}, integers, "
            f"not {x.dtype} {x.shape}"
        )
