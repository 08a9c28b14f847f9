"""What the solvers share, by numpy or by jax: scaling before, powers and residuals after.

`xp` is the module of arrays, `numpy` or `jax.numpy`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Normalised(NamedTuple):
    """Matrices ready for a solver."""

    stack: Any  # [K, b, b] symmetric, finite, largest entry in [1, 2) (or 0)
    finite: Any  # [K] bool: was finite; else `stack` has the identity, which every solver likes
    unit: Any  # [K] the power of two that the matrix was divided by


def normalised(stack: Any, xp: Any) -> Normalised:
    """Symmetrises, sets non-finite matrices apart, and divides by a power of two.

    The division is exact; it keeps p-th powers of the root in range, and makes tolerances
    relative, so that a root does not depend on the units of its matrix.
    """
    finite = xp.isfinite(stack).all((1, 2))
    identity = xp.eye(stack.shape[-1], dtype=stack.dtype)
    sound = xp.where(finite[:, None, None], stack, identity)
    symmetric = sound / 2 + xp.swapaxes(sound, 1, 2) / 2
    largest = xp.abs(symmetric).max((1, 2))
    exponent = xp.where(largest > 0, xp.frexp(largest)[1] - 1, 0)
    unit = xp.ldexp(xp.ones_like(largest), exponent)
    return Normalised(symmetric / unit[:, None, None], finite, unit)


def power(a: Any, p: int, multiply: Callable[[Any, Any], Any]) -> Any:
    """a^p for an integer p >= 1 by repeated squaring: 2 products for p = 4, 3 for p = 8."""
    result = None
    while True:
        if p & 1:
            result = a if result is None else multiply(result, a)
        p >>= 1
        if not p:
            return result
        a = multiply(a, a)


def deviation(product: Any, target: Any, xp: Any) -> Any:
    """max |product - target| over the last two axes; NaN unless all of it is finite.

    That is said apart, for XLA's maximum on a CPU may lose a NaN, and even be -inf.
    """
    distance = xp.abs(product - target)
    return xp.where(xp.isfinite(distance).all((-2, -1)), distance.max((-2, -1)), xp.nan)


def without_nan(root: Any, xp: Any) -> tuple[Any, Any]:
    """The roots [K, b, b] with the identity for those that are not finite, and which are."""
    finite = xp.isfinite(root).all((1, 2))
    identity = xp.eye(root.shape[-1], dtype=root.dtype)
    return xp.where(finite[:, None, None], root, identity), finite
