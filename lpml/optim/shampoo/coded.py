"""Stacks of symmetric matrices in few bits: float diagonals, and codes of half the rest.

With S^2 the diagonal of A, C = S^-1 A S^-1 has a unit diagonal and, if A is positive
semidefinite, no entry beyond 1: so its entries need no scale. S stays in floats, and what
is below the diagonal is coded, of C ("entries") or of its Cholesky factor F ("factor").

Of entries, rounding errors E move every eigenvalue of C by up to |E|, about 2 sigma sqrt(b)
for errors of deviation sigma: int8 of b = 128 moves them by 0.05, int4 by 0.9. F F^T is
positive semidefinite whatever F is rounded to, and small eigenvalues move by sigma^2 b.
"""

import dataclasses

import jax
import jax.numpy as jnp

from lpml.formats import Format, Scaled, random_bits
from lpml.optim.box import box_edge, is_scaled
from lpml.optim.packed_codes import BYTE, packed, state_format, unpacked
from lpml.optim.shampoo.triangle import cholesky, folded, multiply, unfolded

FORMS = ("entries", "factor")


@dataclasses.dataclass(frozen=True)
class Coding:
    """How matrices become codes. Hashable: it is a part of the structure of a state.

    Args:
      format: of a known width. Blocks of scaled formats lie along the rows of half a matrix
        (the last one padded), a scale per "tensor" is one per matrix.
      form: "entries" or "factor", see the module.
    """

    format: Format | Scaled
    form: str = "factor"

    @classmethod
    def named(cls, format: str | Format | Scaled, form: str = "factor") -> "Coding":
        """Of the name of a format, or of a format.

        Raises:
          ValueError: no such format or form; one with a width or a scale that is traced.
        """
        if form not in FORMS:
            raise ValueError(f"form {form!r} does not exist; choose {', '.join(FORMS)}")
        return cls(state_format(format), form)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Coded:
    """K symmetric matrices b x b; every leaf has the axis K first."""

    diagonal: jax.Array  # [K, b] floats, exact
    pivots: jax.Array | None  # [K, b] floats, the diagonals of the factors; None of entries
    codes: jax.Array  # [K, ceil(b / 2), bytes or b], uint8 up to 8 bits, packed
    scales: tuple[jax.Array, ...]  # of scaled formats; packed where they are codes
    coding: Coding = dataclasses.field(metadata={"static": True})


def encoded(stack: jax.Array, coding: Coding, *, words: jax.Array | None = None) -> Coded:
    """Codes of [K, b, b] symmetric matrices of diagonals >= 0.

    Args:
      stack: floats. What is above the diagonal is not looked at.
      coding: how.
      words: [K, ceil(b / 2), b] uniform uint32 round stochastically; None rounds to nearest.
    """
    diagonal = jnp.diagonal(stack, axis1=1, axis2=2)
    scale = jnp.sqrt(jnp.maximum(diagonal, 0))
    inverse = jnp.where(scale > 0, 1 / jnp.where(scale > 0, scale, 1), 0)
    unit = jnp.clip(stack * inverse[:, :, None] * inverse[:, None, :], -1, 1)
    pivots = None
    if coding.form == "factor":
        unit = cholesky(unit)
        pivots = jnp.diagonal(unit, axis1=1, axis2=2)
    codes, scales = _written(folded(unit), coding.format, words)
    return Coded(diagonal, pivots, codes, scales, coding)


def decoded(coded: Coded) -> jax.Array:
    """The symmetric matrices [K, b, b], in the dtype of their diagonals."""
    diagonal = coded.diagonal
    dtype, b = diagonal.dtype, diagonal.shape[-1]
    below = unfolded(_read(coded, dtype, b))
    if coded.pivots is None:
        unit = below + below.swapaxes(1, 2)
    else:
        factor = below + coded.pivots[:, :, None] * jnp.eye(b, dtype=dtype)
        # rows of length 1 again, which a diagonal of 1 means
        length = jnp.sqrt(multiply("kij,kij->ki", factor, factor))[:, :, None]
        factor /= jnp.where(length > 0, length, 1)  # zeros only fill up a stack on a mesh
        unit = multiply("kij,ktj->kit", factor, factor)
    scale = jnp.sqrt(diagonal)
    matrices = unit * (scale[:, :, None] * scale[:, None, :])  # in this order symmetric
    return jnp.where(jnp.eye(b, dtype=bool), diagonal[:, :, None], matrices)


def words_for(coded: Coded, key: jax.Array) -> jax.Array:
    """Random words for the next `encoded`; hashes, for rounding asks little of them."""
    number, b = coded.diagonal.shape
    return random_bits(key, (number, -(-b // 2), b), "hash")


def _written(rows, fmt, words):
    """Codes and scales of numbers of at most 1 in magnitude; each matrix by itself."""
    mode = "nearest" if words is None else "stochastic"
    if not is_scaled(fmt):
        codes = fmt.encode(rows * box_edge(fmt, rows.dtype), mode, bits=words)
        return packed(codes, fmt.static_bits), ()
    found = jax.vmap(lambda x, bits: fmt.encode(x, mode, bits=bits))(rows, words)
    scales = [packed(found.scales, _scale_bits(fmt))]
    return packed(found.codes, fmt.static_bits), tuple(
        scales if found.outer is None else [*scales, found.outer]
    )


def _read(coded, dtype, b):
    fmt = coded.coding.format
    codes = unpacked(coded.codes, fmt.static_bits, b, fmt.code_dtype)
    if not is_scaled(fmt):
        return fmt.decode(codes, dtype) / box_edge(fmt, dtype)
    like = jax.eval_shape(fmt.encode, jax.ShapeDtypeStruct(codes.shape[1:], dtype))
    scales, *outer = coded.scales
    if jnp.issubdtype(like.scales.dtype, jnp.integer):
        scales = unpacked(scales, _scale_bits(fmt), like.scales.shape[-1], like.scales.dtype)
    found = dataclasses.replace(like, codes=codes, scales=scales, outer=(*outer, None)[0])
    return jax.vmap(lambda each: fmt.decode(each, dtype))(found)


def _scale_bits(fmt):
    """Of a scale's code; E8M0 of powers of two has 8."""
    return getattr(fmt.scale_format, "static_bits", BYTE)
