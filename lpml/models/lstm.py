"""An LSTM that tells the next character from those before it."""

import flax.linen as nn
import jax.numpy as jnp

from lpml.models.embedding import check_pieces, table
from lpml.models.losses import token_cross_entropy
from lpml.models.supervised import Supervised


class CharacterLSTM(nn.Module):
    """A table of vectors, layers of LSTM, and one dense layer."""

    outputs: int
    layers: int
    width: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        """Maps numbers of characters (B, T) to logits (B, T, outputs) of the next ones."""
        check_pieces(x, "(B, T)", 2)
        pieces = table(self, "pieces", self.outputs, self.width, self.dtype)
        # of unit variance, as a layer of normalised inputs wants them
        x = jnp.asarray(self.width**0.5, pieces.dtype) * jnp.take(pieces, x, axis=0)
        for layer in range(self.layers):
            name = f"layer_{layer}"
            cell = nn.OptimizedLSTMCell(self.width, param_dtype=self.dtype, name=name)
            x = nn.RNN(cell)(x)
        return nn.Dense(self.outputs, param_dtype=self.dtype, name="head")(x)


def character_lstm(
    *,
    classes: int,
    layers: int = 2,
    width: int = 128,
    l2: float = 0.0,
    dtype: str = "float32",
) -> Supervised:
    """LSTM language model of characters; every place of a window tells the one after it.

    A window starts with state 0, so that the loss is a function of the sample alone, as
    variance reduction needs it. Parameters, for K classes, L layers and width d:
    2 K d + K + L (8 d^2 + 4 d).

    Args:
      classes: number K of characters, >= 2.
      layers: L >= 1.
      width: d >= 1, of the vectors and of the cells.
      l2: factor of the L2 term over all parameters.
      dtype: of the parameters.

    References:
      Hochreiter and Schmidhuber, Long short-term memory, Neural Computation 1997, with the
      forget gate of Gers, Schmidhuber and Cummins, 2000.
    """
    if layers < 1 or width < 1:
        raise ValueError(f"layers = {layers} and width = {width} must be at least 1")
    module = CharacterLSTM(classes, layers, width, dtype)
    return Supervised(
        module,
        token_cross_entropy(),
        l2=l2,
        alone="ten recurrent networks side by side have hung in XLA's CPU threads",
    )
