"""f(a + d) - f(a) of single operations, such that nothing close is subtracted.

A rule gets the operands of one operation and gives the offset of its result, computed in the
dtype of the offsets, to which anchors are cast only where they meet one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lpml.quant.difference_curves import CURVES, Point, power_change
from lpml.quant.difference_windows import pooled, unpooled


class Moved(NamedTuple):
    """A value at the anchor, and where it is beside it."""

    at: jax.Array
    by: Any  # floats: the offset; booleans and integers: the value there; None: no other


class Operation(NamedTuple):
    """One operation of a program, computed at the anchor."""

    primitive: Any
    params: dict[str, Any]
    out: jax.Array  # its result there
    dtype: Any  # of offsets

    def bind(self, *operands: jax.Array, **changed: Any) -> jax.Array:
        """The same operation on other operands."""
        return self.primitive.bind(*operands, **{**self.params, **changed})


Rule = Callable[..., jax.Array]  # (operation, *operands) -> offset of the result


def _offset(x, dtype):
    return jnp.zeros(jnp.shape(x.at), dtype) if x.by is None else x.by


def _there(x, dtype):
    """The value beside the anchor, in the dtype of offsets."""
    at = jnp.asarray(x.at).astype(dtype)
    return at if x.by is None else at + x.by


def _whole_there(x):
    """The value beside the anchor, as accurate as its kind allows."""
    if x.by is None or not jnp.issubdtype(x.at.dtype, jnp.floating):
        return x.at if x.by is None else x.by
    wide = jnp.promote_types(x.at.dtype, x.by.dtype)
    return (x.at.astype(wide) + x.by.astype(wide)).astype(x.at.dtype)


def _gap(x, y, dtype):
    """x - y at the anchor: 0 of equal numbers, also infinite ones."""
    return jnp.where(x == y, 0, jnp.subtract(x, y)).astype(dtype)


def _const(index, x):
    if x.by is not None:
        raise ValueError(f"operand {index} must not depend on the parameters")
    return x.at


# Linear operations: offsets go the way of values.


def _add(op, x, y):
    if x.by is None or y.by is None:
        return jnp.broadcast_to(y.by if x.by is None else x.by, op.out.shape)
    return x.by + y.by


def _sub(op, x, y):
    return _add(op, x, y if y.by is None else y._replace(by=-y.by))


def _linear(op, *operands):
    return op.bind(*(_offset(x, op.dtype) for x in operands))


def _indexed(op, x, *indices):
    return op.bind(
        _offset(x, op.dtype), *(_const(i, index) for i, index in enumerate(indices, 1))
    )


def _gather(op, x, indices):
    # what is out of range is a constant, which has no offset
    return op.bind(_offset(x, op.dtype), _const(1, indices), fill_value=0)


def _scatter_add(op, x, indices, updates):
    names = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
    return lax.scatter_add(
        _offset(x, op.dtype),
        _const(1, indices),
        _offset(updates, op.dtype),
        **{name: op.params[name] for name in names},
    )


def _converted(op, x):
    if not jnp.issubdtype(op.out.dtype, jnp.floating):
        return op.bind(_whole_there(x))
    if jnp.issubdtype(x.at.dtype, jnp.floating):
        return x.by
    return x.by.astype(op.dtype) - x.at.astype(op.dtype)


# Bilinear operations: d(x y) = dx y + (x + dx) dy.


def _bilinear(multiply):
    def rule(op, x, y):
        terms = []
        if x.by is not None:
            terms.append(multiply(x.by, jnp.asarray(y.at).astype(op.dtype), op))
        if y.by is not None:
            terms.append(multiply(_there(x, op.dtype), y.by, op))
        return jnp.broadcast_to(sum(terms[1:], terms[0]), op.out.shape)

    return rule


def _dot_general(x, y, op):
    names = ("dimension_numbers", "precision")
    params = {name: op.params[name] for name in names}
    return lax.dot_general(x, y, **params, preferred_element_type=op.dtype)


def _convolution(x, y, op):
    names = (
        "window_strides",
        "padding",
        "lhs_dilation",
        "rhs_dilation",
        "dimension_numbers",
        "feature_group_count",
        "batch_group_count",
        "precision",
    )
    params = {name: op.params[name] for name in names}
    return lax.conv_general_dilated(x, y, **params, preferred_element_type=op.dtype)


def _div(op, x, y):
    if y.by is None:
        return jnp.broadcast_to(x.by / jnp.asarray(y.at).astype(op.dtype), op.out.shape)
    # (x + dx) / (y + dy) - q = (dx - q dy) / (y + dy)
    q = op.out.astype(op.dtype)
    return (_offset(x, op.dtype) - q * y.by) / _there(y, op.dtype)


# Choices: what is compared is the distance at the anchor and the offset beside it.


def _extremum(choose):
    def rule(op, x, y):
        sides = (_gap(v.at, op.out, op.dtype) + _offset(v, op.dtype) for v in (x, y))
        return jnp.broadcast_to(choose(*sides), op.out.shape)

    return rule


def _reduced(choose):
    def rule(op, x):
        axes = op.params["axes"]
        most = jnp.expand_dims(op.out, axes)
        return choose(_gap(x.at, most, op.dtype) + x.by, axis=axes)

    return rule


def _compared(op, x, y):
    if not jnp.issubdtype(x.at.dtype, jnp.floating):
        return op.bind(_whole_there(x), _whole_there(y))
    left = _gap(x.at, y.at, op.dtype) + _offset(x, op.dtype)
    return op.bind(left, jnp.broadcast_to(_offset(y, op.dtype), left.shape))


def _select(op, which, *cases):
    there = _whole_there(which)
    if not jnp.issubdtype(op.out.dtype, jnp.floating):
        return lax.select_n(there, *(_whole_there(case) for case in cases))
    offset = lax.select_n(there, *(_offset(case, op.dtype) for case in cases))
    if which.by is None:
        return offset
    chosen = lax.select_n(there, *(case.at for case in cases))
    return _gap(chosen, op.out, op.dtype) + offset


def _steps(op, x):
    """Functions that are constant but for jumps."""
    return (op.bind(_whole_there(x)) - op.out).astype(op.dtype)


def _discrete(op, *operands):
    return op.bind(*(_whole_there(x) for x in operands))


def _pooled(op, x):
    return pooled(x.at, x.by, op.out, op.params)


def _unpooled(op, source, x):
    return unpooled(
        (source.at, _offset(source, op.dtype)), (x.at, _offset(x, op.dtype)), op.params
    )


def _curved(op, x):
    point = Point(x.at.astype(op.dtype), x.by, op.out.astype(op.dtype), op.params)
    return CURVES[op.primitive.name](point)


def _pow(op, x, exponent):
    power = {"exponent": jnp.asarray(_const(1, exponent)).astype(op.dtype)}
    return power_change(Point(x.at.astype(op.dtype), x.by, op.out.astype(op.dtype), power))


RULES: dict[str, Rule] = {
    **dict.fromkeys(CURVES, _curved),
    "pow": _pow,
    **dict.fromkeys(("add", "add_any"), _add),
    "sub": _sub,
    "neg": lambda _, x: -x.by,
    **dict.fromkeys(
        ("reduce_sum", "cumsum", "reduce_window_sum", "concatenate", "stack", "pad"), _linear
    ),
    "dynamic_slice": _indexed,
    "gather": _gather,
    "scatter-add": _scatter_add,
    "convert_element_type": _converted,
    "mul": _bilinear(lambda x, y, _: x * y),
    "dot_general": _bilinear(_dot_general),
    "conv_general_dilated": _bilinear(_convolution),
    "div": _div,
    "max": _extremum(jnp.maximum),
    "min": _extremum(jnp.minimum),
    "reduce_max": _reduced(jnp.max),
    "reduce_min": _reduced(jnp.min),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), _compared),
    "select_n": _select,
    **dict.fromkeys(("sign", "floor", "ceil", "round"), _steps),
    **dict.fromkeys(("and", "or", "not", "xor", "is_finite"), _discrete),
    "reduce_window_max": _pooled,
    "select_and_scatter_add": _unpooled,
}

# Operations that only move numbers about: they act on an offset as it is held.
MOVES = (
    *("reshape", "transpose", "broadcast_in_dim", "squeeze", "expand_dims", "rev", "slice"),
    *("copy", "stop_gradient", "split", "unstack"),
)
