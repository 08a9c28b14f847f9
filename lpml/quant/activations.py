"""Staircases as activations, and the derivatives that stand in for theirs."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

ROUNDINGS = ("ceil", "nearest", "nearest_positive")
ALPHA_GRADIENTS = ("none", "exact", "pact", "lsq")
MOST_BITS = 8
LEAK = 0.01  # slope of the leaky estimator below 0, as of the usual leaky ReLU


def _identity(x, edge, t):
    del x, edge
    return t


def _relu(x, edge, t):
    del edge
    return jnp.where(x > 0, t, 0)


def _clipped_relu(x, edge, t):
    return jnp.where((x > 0) & (x <= edge), t, 0)


def _log_tailed(x, edge, t):
    slope = 1 / (1 + jnp.maximum(x - edge, 0))
    return jnp.where(x > 0, slope * t, 0)


def _leaky(x, edge, t):
    del edge
    return jnp.where(x > 0, t, LEAK * t)


# mu'(x) t, for the tangent t; `edge` is where the staircase ends. What is selected is the
# tangent and not a slope of 0 or 1, so that a backward pass keeps a mask and no floats.
_TANGENTS = {
    "identity": _identity,
    "relu": _relu,
    "clipped_relu": _clipped_relu,
    "log_tailed": _log_tailed,
    "leaky": _leaky,
}
ESTIMATORS = tuple(_TANGENTS)


def binary_activation(
    x: Float[Array, "*shape"], estimator: str = "clipped_relu"
) -> Float[Array, "*shape"]:
    """1 where x > 0, else 0; NaN stays NaN.

    Args:
      x: inputs.
      estimator: what the derivative is taken of instead, as of `quantized_relu`, with the
        edge at 1.

    Raises:
      ValueError: an unknown estimator.
    """
    check_word("estimator", estimator, ESTIMATORS)
    return _step(jnp.asarray(x), estimator)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _step(x, estimator):
    del estimator
    return jnp.where(x > 0, 1, jnp.where(x <= 0, 0, x)).astype(x.dtype)


@_step.defjvp
def _step_jvp(estimator, primals, tangents):
    (x,), (t,) = primals, tangents
    return _step(x, estimator), _TANGENTS[estimator](x, 1, t)


def quantized_relu(
    x: Float[Array, "*shape"],
    alpha: float | jax.Array,
    bits: int | jax.Array,
    *,
    estimator: str = "clipped_relu",
    rounding: str = "ceil",
    alpha_gradient: str = "none",
) -> Float[Array, "*shape"]:
    r"""k alpha with k in 0..K, K = 2^bits - 1: a ReLU with K steps, and no more above K alpha.

    The staircase has derivative 0 almost everywhere, so another function's is taken:

    ============  =========================================================
    identity      1
    relu          1 where x > 0
    clipped_relu  1 where 0 < x <= K alpha
    log_tailed    that of relu, above K alpha 1 / (1 + x - K alpha)
    leaky         1 where x > 0, else 0.01
    ============  =========================================================

    and 0 elsewhere. It is a rule for forward differentiation, which serves the reverse mode
    as well: Hessian products are those of the coarse gradient, of which the staircase is
    one part (log_tailed alone has a slope that varies).

    Levels are exact: each is one product k alpha, and such a product is a fixed point of
    all roundings (in bfloat16 up to 6 bits, which is what it can tell apart).

    Args:
      x: inputs; NaN stays NaN.
      alpha: height and width of a step, finite and > 0; may be traced (and then is not
        checked), and may be an array that broadcasts to `x` (one per channel).
      bits: 1 to 8; may be traced, and then is not checked.
      estimator: see above.
      rounding: `"ceil"`: k alpha for (k - 1) alpha < x <= k alpha; `"nearest"`: the nearest
        level, halves to the even k; `"nearest_positive"`: the nearest positive level where
        x > 0 (as HWGQ has it), else 0.
      alpha_gradient: derivative by alpha: `"none"`: 0; `"exact"`: k, the true one almost
        everywhere; `"pact"`: K above K alpha, else 0; `"lsq"`: K above K alpha and
        k - x / alpha in 0 < x <= K alpha. The factor 1 / sqrt(N K) of LSQ knows the size N of
        a layer: `QuantizedReLU` has it.

    Raises:
      ValueError: an unknown word, bits outside of 1 to 8, an alpha that is not positive or of
        the wrong shape, or integer inputs.

    References:
      Yin et al., Understanding Straight-Through Estimator in Training Activation Quantized
      Neural Nets, ICLR 2019; Cai et al., HWGQ, CVPR 2017 (log_tailed); Choi et al., PACT,
      2018; Esser et al., LSQ, ICLR 2020.
    """
    check_word("estimator", estimator, ESTIMATORS)
    check_word("rounding", rounding, ROUNDINGS)
    check_word("alpha_gradient", alpha_gradient, ALPHA_GRADIENTS)
    check_bits(bits)
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"quantized_relu takes floats, and x is of {x.dtype}")
    check_alpha(alpha)
    alpha = jnp.asarray(alpha, x.dtype)
    pairs = zip(alpha.shape[::-1], x.shape[::-1])
    if alpha.ndim > x.ndim or any(a not in (1, n) for a, n in pairs):
        raise ValueError(f"alpha of shape {alpha.shape} does not broadcast to x, {x.shape}")
    top = (jnp.left_shift(1, jnp.asarray(bits).astype(jnp.int32)) - 1).astype(x.dtype)
    return _staircase(x, alpha, top, estimator, rounding, alpha_gradient)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4, 5))
def _staircase(x, alpha, top, estimator, rounding, alpha_gradient):
    del estimator, alpha_gradient
    return _codes(x, alpha, top, rounding) * alpha


@_staircase.defjvp
def _staircase_jvp(estimator, rounding, alpha_gradient, primals, tangents):
    x, alpha, top = primals
    by_x, by_alpha, _ = tangents
    y = _staircase(x, alpha, top, estimator, rounding, alpha_gradient)
    tangent = _TANGENTS[estimator](x, top * alpha, by_x)
    if alpha_gradient != "none":
        slope = _slope_by_alpha(x, alpha, top, rounding, alpha_gradient)
        tangent = tangent + slope * by_alpha
    return y, tangent


def _codes(x, alpha, top, rounding):
    """k of every x, as floats."""
    steps = x / alpha
    if rounding == "nearest":
        return jnp.clip(jnp.round(steps), 0, top)
    if rounding == "nearest_positive":
        return jnp.where(x <= 0, 0, jnp.clip(jnp.round(steps), 1, top))
    # The quotient is rounded, so ceil may be off by one at an edge; cells are those of the
    # levels as they are.
    k = jnp.clip(jnp.ceil(steps), 0, top)
    k = k - ((k - 1) * alpha >= x)
    k = k + (k * alpha < x)
    return jnp.clip(k, 0, top)


def _slope_by_alpha(x, alpha, top, rounding, alpha_gradient):
    if alpha_gradient == "exact":
        return _codes(x, alpha, top, rounding)
    inside = 0
    if alpha_gradient == "lsq":
        inside = jnp.where(x > 0, _codes(x, alpha, top, rounding) - x / alpha, 0)
    return jnp.where(x > top * alpha, top, inside).astype(x.dtype)


def half_gaussian_alpha(bits: int | jax.Array, rounding: str = "ceil") -> float | jax.Array:
    """The alpha of least mean squared error E[(staircase(x) - x)^2 | x > 0], x ~ N(0, 1).

    Each rounding has its own. The error is a sum of normal integrals and is minimised
    directly: Lloyd's iteration, which holds the cells while it moves the levels, ends at the
    optimum only where cells are nearest cells, which those of `"ceil"` are not.

    Args:
      bits: 1 to 8; may be traced, and then so is what comes back, and what is out of range
        counts as the nearest end.
      rounding: as of `quantized_relu`.

    Returns:
      alpha, to 1e-5 of itself.

    Raises:
      ValueError: an unknown rounding, or bits outside of 1 to 8.
    """
    check_word("rounding", rounding, ROUNDINGS)
    check_bits(bits)
    if isinstance(bits, (int, np.integer)):
        return _least_error_alpha(int(bits), rounding)
    table = jnp.asarray([_least_error_alpha(b + 1, rounding) for b in range(MOST_BITS)])
    return table[jnp.asarray(bits).astype(jnp.int32) - 1]


@functools.cache
def _least_error_alpha(bits: int, rounding: str) -> float:
    # here, because they take a fifth of what a launch imports
    from scipy.optimize import minimize_scalar
    from scipy.special import ndtr

    k = np.arange(1, 2**bits)

    def error(alpha):
        low = {
            "ceil": k - 1.0,
            "nearest": k - 0.5,
            "nearest_positive": np.where(k == 1, 0, k - 0.5),
        }[rounding] * alpha
        high = np.append(low[1:], np.inf)
        mass = 2 * (ndtr(high) - ndtr(low))
        moment = 2 * (_density(low) - _density(high))  # E[x 1{cell}]
        return 1 - 2 * alpha * (k @ moment) + alpha**2 * (k**2 @ mass)

    # K alpha at the optimum lies between 0.8 (1 bit, ceil) and 4.3 (8 bits)
    bounds = (0.5 / k[-1], 6.0 / k[-1])
    found = minimize_scalar(error, bounds=bounds, method="bounded", options={"xatol": 1e-10})
    return float(found.x)


def _density(x):
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def check_word(what: str, word: str, known: tuple[str, ...]) -> None:
    """Raises ValueError, with the list, unless `word` is one of those known."""
    if word not in known:
        raise ValueError(f"{what} {word!r} does not exist; choose from {', '.join(known)}")


def check_alpha(alpha: Any) -> None:
    """Raises ValueError unless alpha is a number or array, finite and > 0, or traced."""
    if isinstance(alpha, jax.core.Tracer):
        return
    numbers = np.asarray(alpha) if hasattr(alpha, "dtype") else alpha
    real = isinstance(numbers, (int, float, np.ndarray)) and not isinstance(numbers, bool)
    if not real or not (np.isfinite(numbers) & (np.asarray(numbers) > 0)).all():
        raise ValueError(f"alpha = {alpha!r} must be a positive number")


def check_bits(bits: int | jax.Array) -> None:
    """Raises ValueError unless bits are a whole number from 1 to 8, or traced."""
    if isinstance(bits, jax.core.Tracer):
        return
    if not np.isin(np.asarray(bits), np.arange(1, MOST_BITS + 1)).all() or bits is True:
        raise ValueError(f"bits = {bits!r} must be a whole number from 1 to {MOST_BITS}")
