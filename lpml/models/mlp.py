"""Multi-layer perceptron."""

from collections.abc import Sequence

import flax.linen as nn

from lpml.models.losses import softmax_cross_entropy
from lpml.models.supervised import Supervised

ACTIVATIONS = {"tanh": nn.tanh, "relu": nn.relu}


class MLP(nn.Module):
    """Dense layers with an activation between them."""

    hidden: Sequence[int]
    outputs: int
    activation: str = "tanh"
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        """Maps (B, ...) to (B, outputs)."""
        x = x.reshape(len(x), -1)
        for width in self.hidden:
            x = ACTIVATIONS[self.activation](nn.Dense(width, param_dtype=self.dtype)(x))
        return nn.Dense(self.outputs, param_dtype=self.dtype)(x)


def mlp(
    *,
    classes: int,
    hidden: Sequence[int] = (64,),
    activation: str = "tanh",
    l2: float = 0.0,
    dtype: str = "float32",
) -> Supervised:
    """Classifier with hidden layers of the given widths.

    Args:
      classes: number of outputs, >= 2.
      hidden: widths of the hidden layers.
      activation: `"tanh"` or `"relu"`.
      l2: factor of the L2 term over all parameters.
      dtype: of the parameters.
    """
    if activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"activation {activation!r} does not exist; choose from {known}")
    if any(width < 1 for width in hidden):
        raise ValueError(f"hidden = {tuple(hidden)} must hold widths of at least 1")
    return Supervised(
        MLP(tuple(hidden), classes, activation, dtype), softmax_cross_entropy, l2=l2
    )
