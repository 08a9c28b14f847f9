"""The frame of the solvers inside of a program: everything but the mathematics of one root."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lpml.optim.roots.products import normalised, without_nan
from lpml.optim.roots.report import Damping, RootReport

# Without it, GPUs and TPUs multiply in fewer bits than float32 has.
multiply = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)

# X, true residual, own error, iterations
One = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


def solve_all(
    stack: jax.Array,
    p: int,
    damping: Damping,
    tolerance: float,
    mapped: Callable[[jax.Array, jax.Array], One],
) -> RootReport:
    """Scales the stack, maps a solver over it, and says which roots may be used.

    Args:
      stack: [K, b, b].
      p: the exponent of the root, >= 1.
      damping: of the report; the solver applies it.
      tolerance: on the true residual.
      mapped: from matrices A / unit [K, b, b] and units [K]; one of each of `One` for each.
    """
    wide = stack.astype(jnp.promote_types(stack.dtype, jnp.float32))
    a, finite, unit = normalised(wide, jnp)
    root, residual, error, iterations = mapped(a, unit)
    # (unit)^(-1/p) apart, for unit * matrix could leave the range
    root = (root * (unit ** (-1 / p))[:, None, None]).astype(stack.dtype)
    root, sound = without_nan(root, jnp)
    return RootReport(
        root,
        finite & sound & (residual <= tolerance),
        jnp.where(finite, residual, jnp.nan),
        jnp.where(finite, error, jnp.nan),
        iterations,
        jnp.full(len(stack), damping.epsilon, wide.dtype),
    )
