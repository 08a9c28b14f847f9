"""The damping of eigenvalues, for numpy and for jax alike."""

from typing import Any, NamedTuple

from lpml.optim.roots.report import Damping


class Spectrum(NamedTuple):
    """What becomes of the eigenvalues w [..., b] of A: those of D are w + clamp + ridge."""

    weights: Any  # [..., b] 1 / eigenvalue of D, 0 where it was truncated
    clamp: Any  # [..., b] -w where w < 0, else 0
    ridge: Any  # [..., 1] 0 where damping truncates
    kept: Any  # [..., b] 1, or 0 where it was truncated


def damped(values: Any, damping: Damping, unit: Any, xp: Any) -> Spectrum:
    """Clamps at 0 and damps.

    Args:
      values: [..., b] eigenvalues of A / unit, in any order.
      damping: what to do.
      unit: [...] what A was divided by.
      xp: `numpy` or `jax.numpy`.

    Returns:
      The spectrum; weights are infinite where D is singular or nothing of it is kept.
    """
    clamped = xp.maximum(values, 0)
    ridge = damping.ridge(clamped.max(-1, keepdims=True), xp.asarray(unit)[..., None])
    if damping.truncates:
        keep = clamped > ridge
        weights = xp.where(keep, 1 / xp.where(keep, clamped, 1), 0)
        weights = xp.where(keep.any(-1, keepdims=True), weights, xp.inf)
        return Spectrum(weights, xp.zeros_like(clamped), 0 * ridge, keep.astype(clamped.dtype))
    eigenvalues = clamped + ridge
    singular = ~(eigenvalues > 0)
    weights = xp.where(singular, xp.inf, 1 / xp.where(singular, 1, eigenvalues))
    return Spectrum(weights, clamped - values, ridge, xp.ones_like(clamped))
