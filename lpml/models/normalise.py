"""Normalisation without scale and shift: by the batch's statistics, or within a sample."""

import flax.linen as nn
import jax

NORMS = ("batch", "group")
GROUP = 4  # channels of a group


def normalised(
    x: jax.Array, *, train: bool = False, dtype: str, norm: str = "batch"
) -> jax.Array:
    """`x` with mean 0 and variance 1 in every channel or group; call it where layers are made.

    There is no scale and shift: what a staircase of fixed step gets must be nearly N(0, 1),
    and the following layer has weights of its own.

    `"batch"` normalises with the batch's statistics, of which running averages keep nine
    tenths a step. A sample's gradient then depends on the batch it is in, and the full
    gradient is not the mean of the batches' gradients. Under `"group"` it is: the statistics
    are those of one sample, over its pixels and four channels.

    Args:
      x: (B, ..., C); C a multiple of 4 under `"group"`.
      train: under `"batch"`, with the statistics of `x`, or with running averages.
      dtype: of the running averages.
      norm: of NORMS.

    References:
      Wu and He, Group normalization, ECCV 2018.
    """
    if norm == "group":
        if x.shape[-1] % GROUP:
            raise ValueError(
                f"group normalisation takes multiples of {GROUP} channels, not {x.shape[-1]}"
            )
        return nn.GroupNorm(
            num_groups=None,
            group_size=GROUP,
            use_bias=False,
            use_scale=False,
            param_dtype=dtype,
            force_float32_reductions=False,  # statistics are of the inputs' precision
        )(x)
    layer = nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        use_bias=False,
        use_scale=False,
        param_dtype=dtype,
        force_float32_reductions=False,  # else averages would be float32, whatever x is
    )
    return layer(x)


def check_norm(norm: str) -> None:
    """Raises ValueError unless it is one of NORMS."""
    if norm not in NORMS:
        raise ValueError(f"norm {norm!r} does not exist; choose from {', '.join(NORMS)}")
