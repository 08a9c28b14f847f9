"""Inverse roots by eigendecomposition inside of a program."""

import jax
import jax.numpy as jnp

from lpml.optim.roots.products import deviation, power
from lpml.optim.roots.program import One, multiply, solve_all
from lpml.optim.roots.report import Damping, RootReport, check_exponent, check_stack
from lpml.optim.roots.spectrum import damped


def eigh_roots(
    stack: jax.Array,
    p: int,
    *,
    damping: Damping = Damping(),  # noqa: B008 (frozen)
    tolerance: float = 0.5,
) -> RootReport:
    """X = D^(-1/p) of every matrix of a stack, one matrix after another.

    `lax.map` and no batched eigh: two of these in one program can wait for each other for ever
    in the thread pool of a CPU. Under vmap `lax.map` would be batched again, so map over [K]
    here and nowhere else.

    Args:
      stack: [K, b, b] symmetric; negative eigenvalues count as 0.
      p: integer >= 1, static: the true residual takes X^p by products.
      damping: of any kind; under "truncate" D is A and the residual max |X^p A - P|, with P the
        projector on the directions kept.
      tolerance: a root is `ok` if its residual is at most this.

    Raises:
      ValueError: p or the shape.
    """
    check_stack(stack.shape)
    check_exponent(p, whole=True)

    def one(a_and_unit):
        return _root(*a_and_unit, int(p), damping)

    return solve_all(stack, p, damping, tolerance, lambda *all: jax.lax.map(one, all))


def _root(a: jax.Array, unit: jax.Array, p: int, damping: Damping) -> One:
    values, vectors = jnp.linalg.eigh(a, symmetrize_input=False)
    spectrum = damped(values, damping, unit, jnp)
    half = vectors * spectrum.weights ** (1 / (2 * p))
    x = multiply(half, half.T)  # symmetric by construction
    identity = jnp.eye(len(a), dtype=a.dtype)
    d = a + multiply(vectors * spectrum.clamp, vectors.T) + spectrum.ridge * identity
    projector = multiply(vectors * spectrum.kept, vectors.T)
    target = projector if damping.truncates else identity
    residual = deviation(multiply(power(x, p, multiply), d), target, jnp)
    return x, residual, residual, jnp.zeros((), jnp.int32)
