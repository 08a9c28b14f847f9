"""A Transformer that tells the next character from those before it."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from lpml import quant as quantised
from lpml.models.attention import (
    Parts,
    causal_mask,
    check_sizes,
    check_words,
    layer_names,
)
from lpml.models.embedding import check_pieces, embedded, places, table
from lpml.models.losses import token_cross_entropy
from lpml.models.supervised import Supervised


class CharacterTransformer(nn.Module):
    """Blocks of causal attention and a feed-forward sublayer, then one dense layer."""

    outputs: int
    layers: int
    width: int
    heads: int
    hidden: int
    context: int | None = None
    norm: str = "pre"
    positions: str = "learned"
    dropout: float = 0.0
    dtype: str = "float32"
    roles: tuple[tuple[str, quantised.Roles], ...] = ()

    @nn.compact
    def __call__(self, x):
        """Maps numbers of characters (B, T) to logits (B, T, outputs) of the next ones."""
        check_pieces(x, "(B, T)", 2)
        parts = Parts(
            self, dict(self.roles), self.heads, self.hidden, self.norm, self.dropout, self.dtype
        )
        at = places(
            self,
            self.positions,
            x.shape[1],
            self.width,
            context=self.context,
            dtype=self.dtype,
        )
        pieces = table(self, "pieces", self.outputs, self.width, self.dtype)
        x = parts.dropped(embedded(x, pieces, at))
        mask = causal_mask(x.shape[1])
        for i in range(self.layers):
            name = f"attention_{i}"
            x = parts.sublayer(x, name, lambda x, name=name: parts.attention(x, mask, name))
            name = f"forward_{i}"
            x = parts.sublayer(x, name, lambda x, name=name: parts.feed_forward(x, name))
        if self.norm == "pre":
            x = parts.normalised(x, "last_norm")
        return parts.dense(x, self.outputs, "head")


def character_transformer(
    *,
    classes: int,
    layers: int = 2,
    width: int = 128,
    heads: int = 4,
    hidden: int | None = None,
    context: int | None = None,
    norm: str = "pre",
    positions: str = "learned",
    dropout: float = 0.0,
    label_smoothing: float = 0.0,
    l2: float = 0.0,
    dtype: str = "float32",
    quant: Mapping[str, Any] | None = None,
) -> Supervised:
    """Decoder-only Transformer: every place of a window tells the character after it.

    Parameters: with learned positions and norms before the sublayers, for K classes, width d,
    F hidden units, T places and L layers, 2 K d + T d + L (4 d^2 + 2 d F + F + 5 d) + 2 d.
    Sinusoids save T d, and norms after the sublayers the last 2 d.

    Args:
      classes: number of characters, >= 2.
      layers: blocks, >= 1.
      width: of the vectors, a multiple of `heads`.
      heads: of attention, >= 1.
      hidden: units of a feed-forward sublayer; None: 4 width.
      context: places that positions are learned for, at least those of the data's windows;
        None: just those.
      norm: `"pre"` or `"post"`: layer normalisation of what goes into a sublayer, or of the
        sum that comes out as in the paper.
      positions: `"learned"` or `"sinusoidal"`.
      dropout: chance that a unit of an embedding or of a sublayer's result is 0 in training
        steps, 0 <= dropout < 1.
      label_smoothing: see `losses.token_cross_entropy`; it is part of every reported loss.
      l2: factor of the L2 term over all parameters.
      dtype: of the parameters; softmax and norms are computed in at least float32.
      quant: which formats the dense layers round to, see `lpml.quant.policy`; None: full
        precision. They are attention_0_query, _key, _value and _output, forward_0_up and
        _down (inputs without a sign), and so on for every block, and head.

    References:
      Vaswani et al., Attention is all you need, NeurIPS 2017.
    """
    hidden = 4 * width if hidden is None else hidden
    check_sizes(layers=layers, width=width, heads=heads, hidden=hidden)
    check_words(norm=norm, positions=positions, dropout=dropout)
    if context is not None and context < 1:
        raise ValueError(f"context = {context} must be at least 1")
    inputs: dict[str, bool | None] = {}
    for i in range(layers):
        inputs |= layer_names((f"attention_{i}",), (f"forward_{i}",))
    inputs["head"] = True
    roles = tuple(zip(inputs, quantised.policy(quant).assign(inputs)))
    module = CharacterTransformer(
        *(classes, layers, width, heads, hidden, context),
        *(norm, positions, dropout, dtype, roles),
    )
    return Supervised(module, token_cross_entropy(label_smoothing), l2=l2)
