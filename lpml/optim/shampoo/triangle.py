"""Symmetric matrices by half: their triangle folded into a rectangle, and Cholesky's factor."""

import jax
import jax.numpy as jnp

PANEL = 16  # columns of a factor that are found between two products
# The least square of a pivot, in units of the diagonal: statistics are of low rank at first,
# and float32 leaves some 1e-7 where zeros should be.
LEAST = 1e-6


def folded(matrices: jax.Array) -> jax.Array:
    """What is below the diagonals: [K, b, b] to [K, ceil(b / 2), b], without gaps or gathers.

    Row i has i entries and row b - 1 - i as many as row i lacks, but for the diagonal: turned
    by half a circle the lower rows lie behind the upper ones. In between, and behind the
    middle row of an odd b, are zeros.
    """
    b = matrices.shape[-1]
    half = -(-b // 2)
    below, behind = _places(b)
    turned = matrices[:, ::-1, ::-1][:, :half]
    return jnp.where(below, matrices[:, :half], jnp.where(behind, turned, 0))


def unfolded(rows: jax.Array) -> jax.Array:
    """The matrices of `folded`, zeros on their diagonals and above."""
    half, b = rows.shape[-2:]
    below, behind = _places(b)
    upper = jnp.where(below, rows, 0)
    lower = jnp.where(behind, rows, 0)[:, ::-1, ::-1]
    return jnp.concatenate([upper, lower[:, 2 * half - b :]], axis=1)


def _places(b):
    """Of a folded rectangle: where the upper rows are, and where the lower ones."""
    row, column = jnp.arange(-(-b // 2))[:, None], jnp.arange(b)
    return column < row, (column > row) & (2 * row != b - 1)


def cholesky(matrices: jax.Array) -> jax.Array:
    """Lower triangular F [K, b, b] with F F^T = C for C of unit diagonal, singular or not.

    Squares of pivots are at least LEAST, so a C that is not quite positive semidefinite gets a
    factor too, of something near it. Products and elementwise operations only: LAPACK's calls
    in one program may wait for each other for ever on CPUs (see `eigh_roots`), and no compiler
    cuts them along K. b^3 / 3 multiplications become b^3 so.
    """
    b = matrices.shape[-1]
    width = min(PANEL, b)
    missing = -b % width
    whole = jnp.pad(matrices, ((0, 0), (0, missing), (0, missing)))
    index = jnp.arange(b + missing)

    def panel(k, factor):
        start = k * width
        rows = jax.lax.dynamic_slice_in_dim(factor, start, width, axis=1)
        block = jax.lax.dynamic_slice_in_dim(whole, start, width, axis=2)
        block -= multiply("kij,ktj->kit", factor, rows)
        columns = []
        for t in range(width):
            square = jax.lax.dynamic_slice_in_dim(block[:, :, t], start + t, 1, axis=1)
            pivot = jnp.sqrt(jnp.maximum(square, LEAST))
            column = jnp.where(index > start + t, block[:, :, t] / pivot, 0)
            column = jnp.where(index == start + t, pivot, jnp.clip(column, -1, 1))
            across = jax.lax.dynamic_slice_in_dim(column, start, width, axis=1)
            block -= column[:, :, None] * across[:, None, :]
            columns.append(column)
        found = jnp.stack(columns, axis=2)
        return jax.lax.dynamic_update_slice_in_dim(factor, found, start, axis=2)

    panels = (b + missing) // width
    factor = jax.lax.fori_loop(0, panels, panel, jnp.zeros_like(whole))
    return factor[:, :b, :b]


def multiply(equation: str, *operands: jax.Array) -> jax.Array:
    """Einsum in all the bits that the operands have."""
    return jnp.einsum(equation, *operands, precision=jax.lax.Precision.HIGHEST)
