"""The encoder-decoder Transformer: it reads a sentence and tells its translation."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lpml import quant as quantised
from lpml.models.attention import (
    PRECISION,
    Parts,
    causal_mask,
    check_sizes,
    check_words,
    layer_names,
)
from lpml.models.embedding import check_pieces, embedded, places, table
from lpml.models.losses import token_cross_entropy
from lpml.models.search import Marks
from lpml.models.supervised import Supervised

PADDING = Marks().padding

# Keys and values of every layer's attention, by its name.
Known = dict[str, tuple[jax.Array, jax.Array]]


class _Side(nn.Module):
    """What encoder and decoder have alike."""

    layers: int
    width: int
    heads: int
    hidden: int
    context: int | None
    norm: str
    positions: str
    dropout: float
    dtype: str
    roles: tuple[tuple[str, quantised.Roles], ...]

    @nn.nowrap
    def parts(self) -> Parts:
        return Parts(
            self, dict(self.roles), self.heads, self.hidden, self.norm, self.dropout, self.dtype
        )

    @nn.nowrap
    def places(self, length: int) -> jax.Array:
        kind, context = self.positions, self.context
        return places(self, kind, length, self.width, context=context, dtype=self.dtype)


class Encoder(_Side):
    """Blocks of attention and a feed-forward sublayer."""

    @nn.compact
    def __call__(self, source, vectors):
        """Maps pieces (B, S) and their table (K, width) to what is read, (B, S, width)."""
        parts = self.parts()
        seen = (source != PADDING)[:, None, None]
        x = parts.dropped(embedded(source, vectors, self.places(source.shape[1])))
        for i in range(self.layers):
            name = f"attention_{i}"
            x = parts.sublayer(x, name, lambda x, name=name: parts.attention(x, seen, name))
            name = f"forward_{i}"
            x = parts.sublayer(x, name, lambda x, name=name: parts.feed_forward(x, name))
        return parts.normalised(x, "last_norm") if self.norm == "pre" else x


class Decoder(_Side):
    """Blocks of causal attention, attention to what was read, and a feed-forward sublayer."""

    @nn.compact
    def __call__(self, target, vectors, read, seen, own=None, at=None):
        """What is told at each place, and what the layers know by then.

        Args:
          target: pieces (B, T), from BEGIN on.
          vectors: their table (K, width).
          read: (B, S, width) of the encoder; or the `crossing` of an earlier call.
          seen: (B, 1, 1, S) bool, where the source is no padding.
          own: None; or the `own` of an earlier call for T places: then `target` is (B, 1),
            the pieces at place `at`, and everything before is taken from there.
          at: () int32.

        Returns:
          (B, T, width); `own` and `crossing`: keys and values of all layers, of the target
          and of the source.
        """
        parts = self.parts()
        length = target.shape[1] if own is None else len(own["attention_0"][0][0])
        positions = self.places(length)
        if own is None:
            mask = causal_mask(length)
        else:
            positions = jax.lax.dynamic_slice_in_dim(positions, at, 1)
            mask = (jnp.arange(length) <= at)[None, None, None]
        x = parts.dropped(embedded(target, vectors, positions))
        told: Known = {}
        crossing: Known = {}

        def to_itself(x, name):
            told[name] = parts.known(x, name)
            if own is not None:
                told[name] = _with_place(own[name], told[name], at)
            return parts.attention(x, mask, name, told[name])

        def to_source(x, name):
            crossing[name] = read[name] if isinstance(read, dict) else parts.known(read, name)
            return parts.attention(x, seen, name, crossing[name])

        for i in range(self.layers):
            for name, change in (
                (f"attention_{i}", to_itself),
                (f"crossing_{i}", to_source),
                (f"forward_{i}", parts.feed_forward),
            ):
                x = parts.sublayer(x, name, functools.partial(change, name=name))
        return parts.normalised(x, "last_norm") if self.norm == "pre" else x, told, crossing


def _with_place(known, new, at):
    """Keys and values (B, T, ...) with those of one place (B, 1, ...) put in."""
    return tuple(
        jax.lax.dynamic_update_slice_in_dim(old, one, at, axis=1)
        for old, one in zip(known, new)
    )


class TranslationTransformer(nn.Module):
    """Encoder and decoder with their tables of pieces.

    One table serves the pieces of both languages and the last layer, or three do: `pieces`,
    `target_pieces` and `told_pieces`.
    """

    outputs: int
    shared: bool
    encoder_settings: tuple[Any, ...]
    decoder_settings: tuple[Any, ...]

    def setup(self):
        """The tables and the two sides; no compact method, as decoding calls them apart."""
        _, width, *_, dtype, _ = self.encoder_settings

        def pieces(name):
            return table(self, name, self.outputs, width, dtype)

        self.pieces = pieces("pieces")
        self.target_pieces = self.pieces if self.shared else pieces("target_pieces")
        self.told_pieces = self.pieces if self.shared else pieces("told_pieces")
        self.encoder = Encoder(*self.encoder_settings)
        self.decoder = Decoder(*self.decoder_settings)

    def __call__(self, x):
        """Maps pieces (B, 2, L) to logits (B, L, outputs) of the translation's pieces.

        x[:, 0] is the source with padding behind it, x[:, 1] the translation from BEGIN on.
        """
        check_pieces(x, "(B, 2, L)", 3)
        if x.shape[1] != 2:
            raise ValueError(
                f"a translation takes pieces (B, 2, L), source and target, not {x.shape}"
            )
        return self.read(x[:, 0], x[:, 1])[0]

    def read(self, source, target):
        """Logits (B, T, outputs) of a target (B, T), with the decoder's `own`, `crossing`."""
        read = self.encoder(source, self.pieces)
        seen = (source != PADDING)[:, None, None]
        y, own, crossing = self.decoder(target, self.target_pieces, read, seen)
        return self._scores(y), own, crossing

    def tell(self, last, at, own, crossing, seen):
        """Logits (B, outputs) after the pieces (B,) at place `at`, and `own` with those."""
        y, own, _ = self.decoder(last[:, None], self.target_pieces, crossing, seen, own, at)
        return self._scores(y)[:, 0], own

    def _scores(self, y):
        return jnp.matmul(y, self.told_pieces.T, precision=PRECISION)


def translation_transformer(
    *,
    classes: int,
    layers: int = 2,
    width: int = 128,
    heads: int = 4,
    hidden: int | None = None,
    context: int | None = None,
    norm: str = "pre",
    positions: str = "sinusoidal",
    share_embeddings: bool = True,
    dropout: float = 0.0,
    label_smoothing: float = 0.0,
    l2: float = 0.0,
    dtype: str = "float32",
    quant: Mapping[str, Any] | None = None,
) -> Supervised:
    """Encoder-decoder Transformer for pairs of sentences, as `lpml.data.pieces` lays them out.

    Parameters: with sinusoids, shared embeddings and norms before the sublayers, for K
    classes, width d, F hidden units and L layers a side,
    K d + L (12 d^2 + 4 d F + 2 F + 12 d) + 4 d. Learned positions of T places add 2 T d,
    tables that are not shared 2 K d, and norms after the sublayers save the last 4 d.

    Args:
      classes: number of pieces, >= 6, of both languages.
      layers: blocks of the encoder and as many of the decoder, >= 1.
      width: of the vectors, a multiple of `heads`.
      heads: of attention, >= 1.
      hidden: units of a feed-forward sublayer; None: 4 width.
      context: places that positions are learned for, at least those of the data; None: just
        those. Without use to sinusoids.
      norm: `"pre"` or `"post"`: layer normalisation of what goes into a sublayer, or of the
        sum that comes out as in the paper.
      positions: `"learned"`, a table for either side, or `"sinusoidal"`.
      share_embeddings: whether one table is that of both languages' pieces and of the last
        layer.
      dropout: chance that a unit of an embedding or of a sublayer's result is 0 in training
        steps, 0 <= dropout < 1.
      label_smoothing: see `losses.token_cross_entropy`; it is part of every reported loss.
      l2: factor of the L2 term over all parameters.
      dtype: of the parameters; softmax and norms are computed in at least float32.
      quant: which formats the dense layers round to, see `lpml.quant.policy`; None: full
        precision. They are encoder_attention_0_query, _key, _value and _output,
        encoder_forward_0_up and _down, for every block, and with decoder_ in front the same
        and decoder_crossing_0_query, ...; the last layer, a table, is not rounded.

    References:
      Vaswani et al., Attention is all you need, NeurIPS 2017.
    """
    hidden = 4 * width if hidden is None else hidden
    check_sizes(layers=layers, width=width, heads=heads, hidden=hidden)
    check_words(norm=norm, positions=positions, dropout=dropout)
    if context is not None and context < 1:
        raise ValueError(f"context = {context} must be at least 1")
    inputs = _layers(layers)
    roles = dict(zip(inputs, quantised.policy(quant).assign(inputs)))

    def settings(side):
        own = [(k.removeprefix(f"{side}_"), v) for k, v in roles.items() if k.startswith(side)]
        sizes = (layers, width, heads, hidden, context)
        return (*sizes, norm, positions, dropout, dtype, tuple(own))

    module = TranslationTransformer(
        classes, share_embeddings, settings("encoder"), settings("decoder")
    )
    return Supervised(module, token_cross_entropy(label_smoothing), l2=l2)


def _layers(layers: int) -> dict[str, bool | None]:
    names: dict[str, bool | None] = {}
    for side, attentions in (
        ("encoder", ("attention",)),
        ("decoder", ("attention", "crossing")),
    ):
        for i in range(layers):
            names |= layer_names(
                tuple(f"{side}_{kind}_{i}" for kind in attentions), (f"{side}_forward_{i}",)
            )
    return names
