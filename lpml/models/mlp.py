"""Multi-layer perceptron."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn

from lpml import quant as quantised
from lpml.models.losses import softmax_cross_entropy
from lpml.models.normalise import normalised
from lpml.models.supervised import Supervised

ACTIVATIONS = {"tanh": nn.tanh, "relu": nn.relu}


class MLP(nn.Module):
    """Dense layers with an activation between them."""

    hidden: Sequence[int]
    outputs: int
    activation: str | quantised.Settings = "tanh"
    dtype: str = "float32"
    roles: tuple[quantised.Roles, ...] = ()  # of every layer; empty: full precision
    normalise: bool = False

    @nn.compact
    def __call__(self, x, train=False):
        """Maps (B, ...) to (B, outputs)."""
        x = x.reshape(len(x), -1)
        widths = (*self.hidden, self.outputs)
        roles = self.roles or (quantised.FULL_PRECISION,) * len(widths)
        for place, width in enumerate(widths):
            if place and self.normalise:
                x = normalised(x, train=train, dtype=self.dtype)
            if place:
                x = _activated(x, self.activation)
            x = quantised.Dense(width, param_dtype=self.dtype, roles=roles[place])(x)
        return x


def _activated(x, activation):
    if isinstance(activation, str):
        return ACTIVATIONS[activation](x)
    return quantised.relu(x, activation)


def mlp(
    *,
    classes: int,
    hidden: Sequence[int] = (64,),
    activation: str | Mapping[str, Any] = "tanh",
    l2: float = 0.0,
    dtype: str = "float32",
    quant: Mapping[str, Any] | None = None,
    normalise: bool | None = None,
) -> Supervised:
    """Classifier with hidden layers of the given widths.

    Args:
      classes: number of outputs, >= 2.
      hidden: widths of the hidden layers.
      activation: `"tanh"`, `"relu"`, or a sub-tree: a staircase of few bits, see
        `lpml.quant.activation`.
      l2: factor of the L2 term over all parameters.
      dtype: of the parameters.
      quant: which formats the layers Dense_0, Dense_1, ... round to, see
        `lpml.quant.policy`; None: full precision. Unsigned formats of activations act after a
        ReLU or staircase; the data enter Dense_0 with a sign, unless `layers` says otherwise.
      normalise: whether batch normalisation without scale and shift is in front of every
        activation; None: with a staircase, whose step is made for it. A float network that a
        quantised one shall start from needs it too.
    """
    staircase = isinstance(activation, Mapping)
    if isinstance(activation, str) and activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"activation {activation!r} does not exist; choose from {known}")
    if any(width < 1 for width in hidden):
        raise ValueError(f"hidden = {tuple(hidden)} must hold widths of at least 1")
    inputs: dict[str, bool | None] = {"Dense_0": None}
    inputs |= {f"Dense_{i + 1}": activation == "tanh" for i in range(len(hidden))}
    roles = quantised.policy(quant).assign(inputs)
    normalise = staircase if normalise is None else normalise
    settings = activation if isinstance(activation, str) else quantised.activation(activation)
    module = MLP(tuple(hidden), classes, settings, dtype, roles, normalise)
    return Supervised(module, softmax_cross_entropy, l2=l2)
