r"""f(a + d) - f(a) of a whole program by its offsets alone: bit centering through layers.

Of every intermediate value v of f the program carries its value at the anchor a and the offset
that d makes of it,

.. math:: \delta v = v(a + d) - v(a),

and each operation's offset comes from those of its operands without subtracting close numbers:
δ(x y) = δx y + (x + δx) δy, δ exp x = exp(x) expm1(δx), and so on. Where f is the gradient of a
network's loss these are HALP's forward and backward passes on the offset: offsets keep the
relative accuracy of their dtype however small d is, and may be held in few bits.

References:
  De Sa et al., High-accuracy low-precision training, arXiv 1803.03383; the layers as in the
  float16 code of its authors (HazyResearch/halp), which keeps anchors' values where this
  computes them anew.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from lpml.quant.difference_rules import MOVES, RULES, Moved, Operation
from lpml.quant.offset_formats import Held, OffsetFormat, offset_format

# Operations that call a program of their own, and the parameter that holds it.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}


def difference(
    fn: Callable[[Any], Any],
    anchor: Any,
    offset: Any,
    *,
    format: str | OffsetFormat | None = None,
) -> Any:
    """fn(anchor + offset) - fn(anchor), accurate relative to the offset.

    Anchors are computed as `fn` does, in their own dtype. Offsets are computed in the widest
    dtype of `offset` and, after every operation that does arithmetic, rounded to `format`.

    Args:
      fn: from a tree of floats to a tree of floats. What it calls may be differentiated
        already: pass `jax.grad(loss)` for the difference of gradients.
      anchor: where it starts.
      offset: a tree of its shape.
      format: what offsets between two operations are held in, or its name, see
        `offset_format`; None: not rounded.

    Returns:
      A tree shaped as that of `fn`, in the dtype of the offsets.

    Raises:
      ValueError: an operation of `fn` on offsets that has no rule (loops, and layers that
        round: they work on the bits of numbers), in one sentence that names it; or a format
        that holds no offsets.
    """
    held_in = offset_format(format) if format is None or isinstance(format, str) else format
    closed, shape = jax.make_jaxpr(fn, return_shape=True)(anchor)
    moves = jax.tree.leaves(offset)
    dtype = jnp.result_type(*moves)
    operands = [
        Moved(at, held_in.hold(by.astype(dtype)))
        for at, by in zip(jax.tree.leaves(anchor), moves, strict=True)
    ]
    run = _Run(held_in, dtype)
    wanted = [True] * len(closed.jaxpr.outvars)
    outs = run.program(closed.jaxpr, closed.consts, operands, wanted)
    values = [
        jnp.zeros(jnp.shape(out.at), dtype) if out.by is None else run.read(out).by
        for out in outs
    ]
    return jax.tree.unflatten(jax.tree.structure(shape), values)


class _Run:
    """One evaluation. Values are `Moved`, whose offsets of floats are `Held`."""

    def __init__(self, held_in: OffsetFormat, dtype: Any):
        self.held_in, self.dtype = held_in, dtype

    def program(
        self, jaxpr: Any, consts: Sequence[Any], operands: Sequence[Moved], wanted: list[bool]
    ) -> list[Moved]:
        """The results of a program that are wanted; others are of no use."""
        values = dict(zip(jaxpr.constvars, (Moved(c, None) for c in consts), strict=True))
        values |= dict(zip(jaxpr.invars, operands, strict=True))

        def value(name):
            return Moved(name.val, None) if isinstance(name, Literal) else values[name]

        for equation, used in _needed(jaxpr, wanted):
            results = self.equation(equation, [value(v) for v in equation.invars], used)
            values |= dict(zip(equation.outvars, results, strict=True))
        unwanted = Moved(jnp.zeros(()), None)
        return [
            value(v) if want else unwanted
            for v, want in zip(jaxpr.outvars, wanted, strict=True)
        ]

    def equation(self, equation: Any, operands: list[Moved], used: list[bool]) -> list[Moved]:
        """The results of one operation."""
        name = equation.primitive.name
        if name in CALLS:
            inner = equation.params[CALLS[name]]
            jaxpr, consts = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
            return self.program(jaxpr, consts, operands, used)
        params = equation.primitive.get_bind_params(equation.params)

        def at_once(*values):
            out = equation.primitive.bind(*values, **params)
            return list(out) if equation.primitive.multiple_results else [out]

        outs = at_once(*(x.at for x in operands))
        if all(x.by is None for x in operands):
            return [Moved(out, None) for out in outs]
        if name in MOVES:
            return _moved_about(at_once, outs, operands[0].by)
        if name not in RULES:
            raise ValueError(
                f"offsets do not go through the operation {name!r}; leave the layers' offsets "
                "away for this model"
            )
        operation = Operation(equation.primitive, params, outs[0], self.dtype)
        by = RULES[name](operation, *(self.read(x) for x in operands))
        held = self.held_in.hold(by) if jnp.issubdtype(by.dtype, jnp.floating) else by
        return [Moved(outs[0], held)]

    def read(self, x: Moved) -> Moved:
        """The same with its offset in the dtype that is computed in."""
        if not isinstance(x.by, Held):
            return x
        return Moved(x.at, self.held_in.read(x.by, self.dtype))


def _moved_about(at_once, outs, by):
    if not isinstance(by, Held):
        return [Moved(out, now) for out, now in zip(outs, at_once(by), strict=True)]
    codes = at_once(by.codes)
    return [Moved(out, Held(code, by.scale)) for out, code in zip(outs, codes, strict=True)]


def _needed(jaxpr, wanted):
    """The operations that the wanted results depend on, and which of their results are used.

    What nobody uses (an accuracy beside a loss) may be of any kind.
    """
    live = {v for v, want in zip(jaxpr.outvars, wanted, strict=True) if want and _named(v)}
    kept = []
    for equation in reversed(jaxpr.eqns):
        used = [v in live for v in equation.outvars]
        if any(used):
            kept.append((equation, used))
            live |= {v for v in equation.invars if _named(v)}
    return kept[::-1]


def _named(v):
    return not isinstance(v, Literal)
