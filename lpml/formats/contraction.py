"""Products along any axes of arrays, as products of matrices."""

import math
from typing import Any, NamedTuple

import jax

# As of jax.lax.dot_general: (contracted axes of a and b), (batch axes of a and b).
Dimensions = tuple[tuple[Any, Any], tuple[Any, Any]]
MATMUL: Dimensions = (((1,), (0,)), ((), ()))


class Layout(NamedTuple):
    """Orders of axes and shapes that make (batch, m, k) and (batch, k, n) of two operands."""

    order: tuple[tuple[int, ...], tuple[int, ...]]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    batch: bool
    result: tuple[int, ...]


def layout_of(
    shape_a: tuple[int, ...], shape_b: tuple[int, ...], dimension_numbers: Dimensions
) -> Layout:
    """How operands become matrices, or a ValueError if axes do not match."""
    (con_a, con_b), (bat_a, bat_b) = (
        tuple(tuple(axes) for axes in pair) for pair in dimension_numbers
    )
    ok = all(
        -len(shape) <= axis < len(shape)
        for shape, axes in ((shape_a, con_a + bat_a), (shape_b, con_b + bat_b))
        for axis in axes
    )
    pairs = ((con_a, con_b), (bat_a, bat_b))
    if (
        not ok
        or not con_a
        or any(_sizes(shape_a, one) != _sizes(shape_b, other) for one, other in pairs)
    ):
        raise ValueError(
            f"shapes {tuple(shape_a)} and {tuple(shape_b)} do not match in the axes of"
            f" dimension_numbers {dimension_numbers}"
        )
    con_a, bat_a = (tuple(axis % len(shape_a) for axis in axes) for axes in (con_a, bat_a))
    con_b, bat_b = (tuple(axis % len(shape_b) for axis in axes) for axes in (con_b, bat_b))
    free_a = tuple(i for i in range(len(shape_a)) if i not in con_a + bat_a)
    free_b = tuple(i for i in range(len(shape_b)) if i not in con_b + bat_b)
    batch, k = tuple(shape_a[i] for i in bat_a), math.prod(_sizes(shape_a, con_a))
    rows, columns = tuple(shape_a[i] for i in free_a), tuple(shape_b[i] for i in free_b)
    lead = (math.prod(batch),) if batch else ()
    return Layout(
        order=(bat_a + free_a + con_a, bat_b + con_b + free_b),
        shapes=((*lead, math.prod(rows), k), (*lead, k, math.prod(columns))),
        batch=bool(batch),
        result=(*batch, *rows, *columns),
    )


def _sizes(shape, axes):
    return [shape[axis] for axis in axes]


def as_matrices(a: jax.Array, b: jax.Array, layout: Layout) -> tuple[jax.Array, ...]:
    """The operands as matrices, a batch axis in front if there is any batch."""
    return tuple(
        x.transpose(order).reshape(shape)
        for x, order, shape in zip((a, b), layout.order, layout.shapes)
    )


def check_shapes(a: jax.Array, b: jax.Array) -> None:
    """Raises ValueError unless the arrays are matrices (m, k) and (k, n)."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(
            f"shapes {a.shape} and {b.shape} do not multiply: pass matrices (m, k) and (k, n),"
            " and batches by jax.vmap or dot_general's dimension_numbers"
        )
