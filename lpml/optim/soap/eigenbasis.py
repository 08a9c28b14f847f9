"""Bases of eigenvectors of stacks of symmetric matrices, followed as these change."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lpml.optim.roots.products import deviation, normalised, without_nan
from lpml.optim.roots.program import multiply

# On max |Q^T Q - I|: far above what rounding does, far below what a failed solver leaves.
TOLERANCE = 1e-2


class Bases(NamedTuple):
    """New bases of K matrices, and what becomes of squares that were taken in the old ones."""

    vectors: jax.Array  # [K, b, b], orthonormal columns, of the old ones' dtype
    transfer: jax.Array  # [K, b (old), b (new)], >= 0, columns sum to 1
    ok: jax.Array  # [K] bool; elsewhere `vectors` are the old ones and `transfer` does nothing


def eigenbases(
    stack: jax.Array, old: jax.Array, known: jax.Array, *, method: str, carried: bool
) -> Bases:
    """Bases in which the matrices are (nearly) diagonal, largest eigenvalues first.

    By "qr" the old basis Q takes one step of orthogonal iteration, the Q of A Q = Q R, after
    its columns were sorted by diag(Q^T A Q): as A changes slowly, Q follows it for a fraction
    of the work of eigh.

    One matrix after another by `lax.map`, as in `eigh_roots` and for its reason; so map over
    [K] here and nowhere else.

    Args:
      stack: [K, b, b] symmetric A, in any units.
      old: [K, b, b] Q.
      known: [K] bool: whether `old` is a basis of an earlier A; if not, eigh makes the first.
      method: "qr", or "eigh" always.
      carried: `transfer` has (Q_old^T Q_new)^2, entry by entry: the squares that numbers have
        in the new basis if they are uncorrelated in the old. If not, it only follows the
        sorting of columns.

    Returns:
      See `Bases`. What is not finite, not orthonormal, or the basis of zeros is not `ok`.
    """
    a, finite, _ = normalised(stack.astype(jnp.promote_types(stack.dtype, jnp.float32)), jnp)

    def one(matrix):
        a, old, known = matrix
        follow = method == "qr"
        new, order = jax.lax.cond(known & follow, _iterated, _solved, a, old)
        moved = multiply(old.T, new) ** 2 if carried else _identity(a)[:, order]
        return new, moved, deviation(multiply(new.T, new), _identity(a), jnp)

    new, transfer, error = jax.lax.map(one, (a, old.astype(a.dtype), known))
    new, sound = without_nan(new, jnp)
    ok = finite & sound & (error <= TOLERANCE) & (stack != 0).any((1, 2))
    chosen = ok[:, None, None]
    return Bases(
        jnp.where(chosen, new.astype(old.dtype), old),
        jnp.where(chosen, transfer, _identity(a)).astype(old.dtype),
        ok,
    )


def _solved(a: jax.Array, old: jax.Array) -> tuple[jax.Array, jax.Array]:
    del old
    _, vectors = jnp.linalg.eigh(a, symmetrize_input=False)
    return vectors[:, ::-1], jnp.arange(len(a))


def _iterated(a: jax.Array, old: jax.Array) -> tuple[jax.Array, jax.Array]:
    along = multiply(a, old)
    order = jnp.argsort(-(old * along).sum(0))
    return jnp.linalg.qr(along[:, order])[0], order


def _identity(a: jax.Array) -> jax.Array:
    return jnp.eye(a.shape[-1], dtype=a.dtype)
