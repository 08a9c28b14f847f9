"""Inverse roots on the host, in float64 numpy, for a worker beside the training loop.

numpy and not scipy: `numpy.linalg` lets go of the interpreter's lock while LAPACK computes,
scipy's wrappers hold it, which would halt the loop for as long as a root takes.
"""

import numpy as np

from lpml.optim.roots.host_methods import METHODS, Method, Try
from lpml.optim.roots.newton import check_newton
from lpml.optim.roots.products import normalised, without_nan
from lpml.optim.roots.report import Damping, RootReport, check_exponent, check_stack

LARGER = 10.0  # what epsilon is multiplied by after a failure
# Matrices at a time: as many as a core's cache holds. A whole stack of 128 x 128 matrices takes
# 1.15 times as long, and their roots do not depend on it.
BYTES = 2**19


def host_roots(
    stack: np.ndarray,
    p: float,
    *,
    method: str = "eigh",
    damping: Damping = Damping(),  # noqa: B008 (frozen)
    tolerance: float = 0.1,
    retries: int = 6,
) -> RootReport:
    """X = D^(-1/p) of every matrix of a stack, computed in float64.

    Each is symmetrised, clamped at 0 (by a decomposition), damped, and its root is proved by
    max |X^p D - I|. Those that fail are tried again with ten times the epsilon; decompositions
    are not repeated for that. Matrices that are not finite are refused at once.

    Args:
      stack: [K, b, b]; K may be 0.
      p: >= 1; for "newton" an integer. Where it is none, the residual is that of D's inverse by
        the same decomposition, which X^p should be.
      method: "eigh", the fastest on a CPU; "svd", by divide and conquer (gesdd), whose singular
        vectors say the signs; "newton", products only.
      damping: of the first try.
      tolerance: on the residual; LAPACK's is about 1e-16 times D's condition number.
      retries: how often epsilon is raised, >= 0.

    Returns:
      A report of numpy arrays, the roots in the dtype of the stack. `ok` allows for the cast.

    Raises:
      ValueError: an unknown method, p, the shape, or damping that the method cannot do.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r} does not exist; choose {', '.join(METHODS)}")
    stack = np.asarray(stack)
    check_stack(stack.shape)
    if not np.issubdtype(stack.dtype, np.floating):
        raise ValueError(f"roots are of real floats, not of {stack.dtype}; cast the stack")
    check_exponent(p, whole=False)
    if method == "newton":
        check_newton(stack.shape, p, damping)
    if retries < 0:
        raise ValueError(f"retries = {retries} must not be negative")
    count = max(1, BYTES // (8 * stack.shape[1] ** 2))
    parts = [stack[start : start + count] for start in range(0, len(stack), count)] or [stack]
    with np.errstate(all="ignore"):  # what overflows is not finite, hence not ok
        found = [
            _tried(part, p, METHODS[method], damping, tolerance, retries) for part in parts
        ]
    return RootReport(*map(np.concatenate, zip(*found, strict=True)))


def _tried(
    stack: np.ndarray,
    p: float,
    method: Method,
    damping: Damping,
    tolerance: float,
    retries: int,
) -> RootReport:
    a, finite, unit = normalised(stack.astype(np.float64), np)
    attempt = method(a, unit, p)
    found = _report(len(stack), stack.shape[1])
    left = np.arange(len(stack))
    for _ in range(retries + 1):
        _put(found, left, attempt(left, damping), float(damping.epsilon))
        good = found.residual[left] <= tolerance
        left = left[~good & finite[left]]
        if not len(left) or not damping.epsilon:  # ten times nothing is nothing
            break
        damping = damping.raised(LARGER)
    root, sound = without_nan(
        (found.root * (unit ** (-1 / p))[:, None, None]).astype(stack.dtype), np
    )
    for numbers in (found.residual, found.error):
        numbers[~finite] = np.nan
    ok = finite & sound & (found.residual <= tolerance)
    return found._replace(root=root, ok=ok)


def _report(count: int, b: int) -> RootReport:
    return RootReport(
        root=np.empty((count, b, b)),
        ok=np.zeros(count, bool),
        residual=np.full(count, np.inf),
        error=np.full(count, np.inf),
        iterations=np.zeros(count, np.int32),
        epsilon=np.zeros(count),
    )


def _put(found: RootReport, where: np.ndarray, tried: Try, epsilon: float) -> None:
    found.root[where] = tried.root
    found.residual[where] = tried.residual
    found.error[where] = tried.error
    found.iterations[where] = tried.iterations
    found.epsilon[where] = epsilon
