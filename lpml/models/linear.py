"""Linear models: least squares, logistic and multinomial regression."""

import flax.linen as nn

from lpml.models.losses import logistic, softmax_cross_entropy, squared_error
from lpml.models.supervised import Supervised


class Linear(nn.Module):
    """One dense layer without bias, started at 0 (the convex problems' customary start)."""

    outputs: int = 1
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        """Maps (B, ...) to (B, outputs)."""
        x = x.reshape(len(x), -1)
        return nn.Dense(
            self.outputs,
            use_bias=False,
            param_dtype=self.dtype,
            kernel_init=nn.initializers.zeros,
        )(x)


def linear_regression(
    *, classes: int | None = None, l2: float = 0.0, dtype: str = "float32"
) -> Supervised:
    """Least squares: mean of (x . w - y)^2, plus (l2 / 2) ||w||^2; starts at w = 0."""
    if classes is not None:
        raise ValueError(f"the data set has {classes} classes, so it needs a classifier")
    return Supervised(Linear(1, dtype), squared_error, l2=l2, linear=True)


def logistic_regression(*, classes: int, l2: float = 0.0, dtype: str = "float32") -> Supervised:
    """Binary logistic regression for y in {0, 1}, plus (l2 / 2) ||w||^2; starts at w = 0."""
    if classes != 2:
        raise ValueError(f"{classes} classes need multinomial_regression, not a binary model")
    return Supervised(Linear(1, dtype), logistic, l2=l2, linear=True)


def multinomial_regression(
    *, classes: int, l2: float = 0.0, dtype: str = "float32"
) -> Supervised:
    """Softmax regression over `classes`, plus (l2 / 2) ||w||^2; starts at w = 0."""
    return Supervised(Linear(classes, dtype), softmax_cross_entropy, l2=l2, linear=True)
