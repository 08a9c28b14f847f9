"""Rounding to integers: the one place where a rounding mode becomes arithmetic."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

MODES = ("nearest", "half_up", "stochastic")


def round_to_integer(
    x: Float[Array, "*shape"],
    mode: str = "nearest",
    *,
    key: jax.Array | None = None,
    noise: Float[Array, "*shape"] | None = None,
) -> Float[Array, "*shape"]:
    """Rounds to integers, kept in the floating dtype of `x`.

    Args:
      x: values of any shape; NaN stays NaN, infinities stay.
      mode: `"nearest"` (ties to even, IEEE 754's default), `"half_up"` (ties upwards,
        floor(x + 1/2): the "biased" rounding of the HALP code) or `"stochastic"`
        (up with probability x - floor(x), so that the expectation is x).
      key: PRNG key of the stochastic mode.
      noise: uniform numbers in [0, 1) in place of a key, shaped like `x`.

    Raises:
      ValueError: unknown mode, or stochastic rounding with neither key nor noise.
    """
    check_mode(mode)
    if mode == "nearest":
        return jnp.round(x)
    if mode == "half_up":
        return jnp.floor(x + 0.5)
    if noise is None:
        if key is None:
            raise ValueError("stochastic rounding needs a PRNG `key` or `noise` in [0, 1)")
        # float32 noise resolves probabilities to 2^-23 and costs half of float64
        noise = jax.random.uniform(key, x.shape, jnp.float32)
    low = jnp.floor(x)
    # Comparing with the exact fraction, where floor(x + u) would round x + u first and so
    # bias large x, and would move numbers that are integers already.
    return low + (noise < x - low).astype(x.dtype)


def check_mode(mode: str) -> None:
    """Raises ValueError, with the list, unless `mode` is a rounding mode."""
    if mode not in MODES:
        known = ", ".join(MODES)
        raise ValueError(f"rounding mode {mode!r} does not exist; choose from {known}")
