"""The parts of Transformers: masks, attention, and sublayers with their norms.

`Parts` makes layers where it is used, inside of a module's compact method, and names them in
full, so that the tree of parameters is flat and a name is the same in `quant.layers`.
"""

import dataclasses
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lpml import quant as quantised
from lpml.models.embedding import POSITIONS

NORMS = ("pre", "post")
PROJECTIONS = ("query", "key", "value", "output")

# As in `quant.dense`: products are in full float32 on every device.
PRECISION = jax.lax.Precision.HIGHEST


def causal_mask(length: int) -> jax.Array:
    """(1, 1, T, T) bool: place t (row) sees places 0..t (columns)."""
    return jnp.tril(jnp.ones((1, 1, length, length), bool))


def attend(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array) -> jax.Array:
    """softmax(q k^T / sqrt(d)) v for each head, the softmax in at least float32.

    Args:
      query: (B, T, heads, d).
      key: (B, S, heads, d).
      value: (B, S, heads, d).
      mask: bool, of a shape that broadcasts to (B, heads, T, S); False: not seen. A row that
        sees nothing takes the mean of all values, and no NaN.

    Returns:
      (B, T, heads, d), in the dtype of `value`.

    References:
      Vaswani et al., Attention is all you need, NeurIPS 2017, equation 1.
    """
    scores = jnp.einsum("bthd,bshd->bhts", query, key, precision=PRECISION)
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    scores = scores / np.sqrt(query.shape[-1])
    scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    shares = jax.nn.softmax(scores).astype(value.dtype)
    return jnp.einsum("bhts,bshd->bthd", shares, value, precision=PRECISION)


@dataclasses.dataclass(frozen=True)
class Parts:
    """What the layers of one Transformer have in common.

    Args:
      module: where the layers are made.
      roles: the formats of every dense layer, by its name.
      heads: of attention; they divide the width.
      hidden: units between the two layers of a feed-forward sublayer.
      norm: `"pre"`, x + f(norm(x)), or `"post"`, norm(x + f(x)) as in the paper.
      dropout: chance that a unit of a sublayer's result is 0 in a training step.
      dtype: of the parameters.
    """

    module: nn.Module
    roles: Mapping[str, quantised.Roles]
    heads: int
    hidden: int
    norm: str
    dropout: float
    dtype: str

    def dense(self, x: jax.Array, width: int, name: str, *, bias: bool = False) -> jax.Array:
        """(..., inputs) to (..., width)."""
        roles = self.roles.get(name, quantised.FULL_PRECISION)
        return quantised.Dense(
            width, use_bias=bias, param_dtype=self.dtype, roles=roles, name=name
        )(x)

    def normalised(self, x: jax.Array, name: str) -> jax.Array:
        """Mean 0 and variance 1 over the features, in at least float32; scale and shift."""
        y = nn.LayerNorm(param_dtype=self.dtype, name=name)(x)
        return jnp.asarray(y).astype(x.dtype)

    def dropped(self, x: jax.Array) -> jax.Array:
        """`x` with units dropped: in training steps alone, which bring a stream for it."""
        if not self.dropout:
            return x
        still = not self.module.has_rng("dropout")
        return jnp.asarray(nn.Dropout(self.dropout, deterministic=still)(x))

    def sublayer(
        self, x: jax.Array, name: str, change: Callable[[jax.Array], jax.Array]
    ) -> jax.Array:
        """`x` plus its change, with the norm `name`_norm before or after it."""
        if self.norm == "pre":
            return x + self.dropped(change(self.normalised(x, f"{name}_norm")))
        return self.normalised(x + self.dropped(change(x)), f"{name}_norm")

    def known(self, x: jax.Array, name: str) -> tuple[jax.Array, jax.Array]:
        """Keys and values (B, S, heads, width / heads) of what attention `name` looks at."""
        key, value = (self._projected(x, f"{name}_{role}") for role in ("key", "value"))
        return key, value

    def attention(
        self,
        x: jax.Array,
        mask: jax.Array,
        name: str,
        known: tuple[jax.Array, jax.Array] | None = None,
    ) -> jax.Array:
        """(B, T, width): `x` attends to itself, or to what is `known` of something else."""
        key, value = self.known(x, name) if known is None else known
        query = self._projected(x, f"{name}_query")
        y = attend(query, key, value, mask).reshape(x.shape)
        return self.dense(y, x.shape[-1], f"{name}_output")

    def _projected(self, x, name):
        split = (self.heads, x.shape[-1] // self.heads)
        return self.dense(x, x.shape[-1], name).reshape(*x.shape[:-1], *split)

    def feed_forward(self, x: jax.Array, name: str) -> jax.Array:
        """Two layers with a ReLU between them."""
        y = nn.relu(self.dense(x, self.hidden, f"{name}_up", bias=True))
        return self.dense(y, x.shape[-1], f"{name}_down", bias=True)


def layer_names(attentions: tuple[str, ...], feed_forwards: tuple[str, ...]) -> dict:
    """Dense layers by name with whether their inputs have a sign, as `Policy.assign` asks."""
    names: dict[str, bool | None] = {}
    for name in attentions:
        names |= {f"{name}_{role}": True for role in PROJECTIONS}
    for name in feed_forwards:
        names |= {f"{name}_up": True, f"{name}_down": False}  # after the ReLU
    return names


def check_sizes(**sizes: int) -> None:
    """ValueError unless all are at least 1 and `heads` divides `width`."""
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name} = {value} must be at least 1")
    if sizes["width"] % sizes["heads"]:
        raise ValueError(
            f"width = {sizes['width']} does not split over heads = {sizes['heads']}; make it a "
            "multiple"
        )


def check_words(*, norm: str, positions: str, dropout: float) -> None:
    """ValueError for a norm or kind of positions that does not exist, or a chance of 1."""
    for name, word, known in (("norm", norm, NORMS), ("positions", positions, POSITIONS)):
        if word not in known:
            choices = ", ".join(known)
            raise ValueError(f"{name} {word!r} does not exist; choose from {choices}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout = {dropout} must be at least 0 and below 1")
