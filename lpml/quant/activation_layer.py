"""The staircase as a Flax layer, and how a config describes it."""

import contextlib
import difflib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lpml.quant.activations import (
    ALPHA_GRADIENTS,
    ESTIMATORS,
    ROUNDINGS,
    check_alpha,
    check_bits,
    check_word,
    half_gaussian_alpha,
    quantized_relu,
)

ALPHAS = ("half_gaussian", "learned")
# A learned alpha acts as no less than this: at 0 the staircase would have no steps.
LEAST_ALPHA = 1e-3

Settings = tuple[tuple[str, Any], ...]
"""Arguments of a `QuantizedReLU` as pairs, hashable; empty: a float ReLU."""


class QuantizedReLU(nn.Module):
    """`quantized_relu` of few bits, for inputs that are nearly N(0, 1).

    A normalisation without scale and shift belongs in front of it, since the fixed alpha is
    the best one for such inputs.

    Attributes:
      bits: 1 to 8; may be traced.
      estimator: as of `quantized_relu`.
      rounding: as of `quantized_relu`.
      alpha: `"half_gaussian"`: `half_gaussian_alpha` of bits and rounding, a constant;
        `"learned"`: a parameter "alpha" that starts there; or a number > 0, a constant.
      alpha_gradient: as of `quantized_relu`, for a learned alpha, whose default is `"lsq"`;
        that one is multiplied by 1 / sqrt(N K), N numbers a sample, as LSQ has it.
    """

    bits: int | jax.Array = 2
    estimator: str = "clipped_relu"
    rounding: str = "ceil"
    alpha: str | float = "half_gaussian"
    alpha_gradient: str | None = None

    def __post_init__(self):
        super().__post_init__()
        check_word("estimator", self.estimator, ESTIMATORS)
        check_word("rounding", self.rounding, ROUNDINGS)
        check_bits(self.bits)
        if isinstance(self.alpha, str):
            if self.alpha not in ALPHAS:
                known = ", ".join(ALPHAS)
                raise ValueError(
                    f"alpha {self.alpha!r} does not exist; choose from {known}, or give a "
                    "number"
                )
        else:
            check_alpha(self.alpha)
        gradient = self.alpha_gradient
        if gradient is not None:
            check_word("alpha_gradient", gradient, ALPHA_GRADIENTS)
            if (self.alpha == "learned") == (gradient == "none"):
                raise ValueError(
                    f"alpha_gradient = {gradient!r} does not go with alpha = {self.alpha!r}: "
                    "a learned alpha needs a gradient, and no other has one"
                )

    @nn.compact
    def __call__(self, x):
        """Maps (B, ...) to its like, onto the levels."""
        alpha, gradient = self.alpha, "none"
        if isinstance(alpha, str):
            alpha = half_gaussian_alpha(self.bits, self.rounding)
        if self.alpha == "learned":
            gradient = self.alpha_gradient or "lsq"
            alpha = self._learned(alpha, x, gradient)
        return quantized_relu(
            x,
            alpha,
            self.bits,
            estimator=self.estimator,
            rounding=self.rounding,
            alpha_gradient=gradient,
        )

    def _learned(self, start, x, gradient):
        own = self.param("alpha", lambda _: jnp.asarray(start, x.dtype))
        if gradient == "lsq":
            top = 2.0 ** jnp.asarray(self.bits) - 1
            own = _slowed(own, (1 / jnp.sqrt(max(1, x[0].size) * top)).astype(x.dtype))
        # adds 0 to an alpha in range, and passes gradients on where it is not
        return own + jax.lax.stop_gradient(jnp.maximum(own, LEAST_ALPHA) - own)


@jax.custom_jvp
def _slowed(x, factor):
    """`x`, with a derivative of `factor`."""
    del factor
    return x


@_slowed.defjvp
def _slowed_jvp(primals, tangents):
    return _slowed(*primals), primals[1] * tangents[0]


def activation(spec: Mapping[str, Any] | None) -> Settings:
    """The settings of a `QuantizedReLU` that a config's sub-tree describes.

    Args:
      spec: None for a float ReLU, or any of `bits`, `estimator`, `rounding`, `alpha` and
        `alpha_gradient`; None means the default, as everywhere in configs.

    Raises:
      ValueError: an unknown key, or what the layer refuses, in one sentence.
    """
    if spec is None:
        return ()
    if not isinstance(spec, Mapping):
        raise ValueError(f"activation = {spec!r} must be a sub-tree such as {{'bits': 2}}")
    known = [f for f in QuantizedReLU.__dataclass_fields__ if f not in ("parent", "name")]
    for key in spec:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"activation.{key} does not exist{hint}; it has {', '.join(known)}"
            )
    given = {key: value for key, value in spec.items() if value is not None}
    with contextlib.suppress(KeyError, TypeError, ValueError):  # words are refused below
        # the command line replaces a word by a word
        if isinstance(given["alpha"], str):
            given["alpha"] = float(given["alpha"])
    try:
        layer = QuantizedReLU(**given, parent=None)
    except (TypeError, ValueError) as error:
        raise ValueError(f"activation: {error}") from error
    return tuple((name, getattr(layer, name)) for name in known)


def relu(x: jax.Array, settings: Settings = ()) -> jax.Array:
    """A float ReLU, or the layer of the settings; call it where layers are made."""
    return QuantizedReLU(**dict(settings))(x) if settings else nn.relu(x)
