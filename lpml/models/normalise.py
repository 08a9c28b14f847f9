"""Normalisation by batch statistics, as activations of few bits want it."""

import flax.linen as nn
import jax


def normalised(x: jax.Array, *, train: bool, dtype: str) -> jax.Array:
    """`x` with mean 0 and variance 1 in every channel; call it where layers are made.

    Batch normalisation without scale and shift: what a staircase of fixed step gets must be
    nearly N(0, 1), and the following layer has weights of its own. Running averages keep
    nine tenths a step.

    Args:
      x: (B, ..., C).
      train: with the statistics of `x`, or with running averages.
      dtype: of the running averages.
    """
    layer = nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        use_bias=False,
        use_scale=False,
        param_dtype=dtype,
        force_float32_reductions=False,  # else averages would be float32, whatever x is
    )
    return layer(x)
