"""Low-precision iterates: any optimizer, with every iterate rounded to a number format."""

from typing import Any, NamedTuple

import jax
import optax

from lpml.formats import Format, check_mode, child_key
from lpml.native import Backend
from lpml.optim.dither import dither
from lpml.optim.iterate_format import iterate_format
from lpml.optim.linear_problem import LinearProblem, constants, takes_kernels
from lpml.optim.native_svrg import native_sgd
from lpml.optim.periodic import (
    PeriodicTransformation,
    check_learning_rate,
    check_weight_decay,
)
from lpml.optim.svrg import svrg

# The child of a step's key that rounds; an inner transformation has those of its leaves.
ROUNDING = 2**30


class RoundedState(NamedTuple):
    """State of `rounded`."""

    inner: Any  # state of the wrapped transformation


def rounded(
    inner: optax.GradientTransformation, fmt: Any, *, rounding: str = "stochastic"
) -> optax.GradientTransformationExtraArgs:
    """Keeps the iterate on a number format: w_t = Q(w_{t-1} + update).

    Args:
      inner: the optimizer that proposes the update.
      fmt: a format of `lpml.formats`: anything with `round(x, mode, bits=...)`.
      rounding: `"stochastic"` needs the extra argument `key` in update, a fresh one per step.

    Returns:
      A transformation; where `inner` has a `refresh`, so has this one.
    """
    check_mode(rounding)
    inner = optax.with_extra_args_support(inner)

    def init(params):
        return RoundedState(inner.init(params))

    def update(grads, state, params=None, *, key=None, **extra):
        updates, inner_state = inner.update(grads, state.inner, params, key=key, **extra)
        leaves, tree = jax.tree.flatten(params)
        # a key apart from those that `inner` may draw from the same one
        own = None if key is None else child_key(key, ROUNDING)
        words = dither(rounding, own, leaves, after=extra.get("value"))
        moves = [
            fmt.round(w + u, rounding, bits=b) - w
            for w, u, b in zip(leaves, jax.tree.leaves(updates), words)
        ]
        return jax.tree.unflatten(tree, moves), RoundedState(inner_state)

    if not isinstance(inner, PeriodicTransformation):
        return optax.GradientTransformationExtraArgs(init, update)

    def refresh(state, params, **kwargs):
        params, inner_state = inner.refresh(state.inner, params, **kwargs)
        return params, RoundedState(inner_state)

    return PeriodicTransformation(
        init,
        update,
        every=inner.every,
        refresh=refresh,
        report=lambda state: inner.report(state.inner),
    )


def sgd(
    learning_rate: optax.ScalarOrSchedule,
    *,
    weight_decay: float | jax.Array = 0.0,
    backend: Backend = "jax",
    threads: int = 1,
    problem: LinearProblem | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Plain stochastic gradient descent: w - alpha (grad + weight_decay w).

    Args:
      learning_rate: step size alpha, or a schedule of the step count.
      weight_decay: factor of the L2 term (weight_decay / 2) ||w||^2.
      backend: as of `svrg`; the kernels' weights are float32.
      threads: as of `svrg`.
      problem: as of `svrg`.
    """
    check_learning_rate(learning_rate)
    check_weight_decay(weight_decay)
    reasons = constants(learning_rate=learning_rate, weight_decay=weight_decay)
    if takes_kernels(backend, problem, threads, reasons):
        assert problem is not None
        return native_sgd(
            float(learning_rate),
            problem,
            weight_decay=float(weight_decay),
            threads=threads,
        )
    chain = optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate))
    return optax.with_extra_args_support(chain)


def lp_sgd(
    learning_rate: optax.ScalarOrSchedule,
    *,
    bits: int | jax.Array | None = None,
    radius: float | jax.Array | None = None,
    format: str | Format | None = None,
    rounding: str = "stochastic",
    weight_decay: float | jax.Array = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """SGD with an iterate of few bits (LP-SGD of the HALP paper).

    Args:
      learning_rate: step size, or a schedule of the step count.
      bits: width of a fixed-point iterate, 2 to 32; 8 by default.
      radius: the largest weight that has a code, > 0: delta = radius / (2^(bits-1) - 1); 1 by
        default. The box is fixed for the whole run, so it must hold the optimum.
      format: what the iterate is held in if not fixed point of `bits`: `"e4m3fn"`, `"posit8"`,
        `"mxfp8e4m3"`, any name of `lpml.formats.by_name`, or a format. Its values are taken
        as they are (`"int8"` are the integers) unless a `radius` stretches them: the
        largest value of a minifloat then is radius, and so is 2^(2^es) of a posit, to where
        it is accurate (see `box_edge`). Formats that scale blocks refuse a radius; their
        blocks lie along the inputs of a kernel, the last one padded, and a number that is
        alone in its block is hardly rounded at all.
      rounding: see `lpml.formats.round_to_integer`.
      weight_decay: factor of the L2 term (weight_decay / 2) ||w||^2.
    """
    inner = sgd(learning_rate, weight_decay=weight_decay)
    return rounded(inner, iterate_format(format, bits, radius), rounding=rounding)


def lp_svrg(
    learning_rate: optax.ScalarOrSchedule,
    *,
    inner_steps: int,
    bits: int | jax.Array | None = None,
    radius: float | jax.Array | None = None,
    format: str | Format | None = None,
    rounding: str = "stochastic",
    option: str = "I",
    weight_decay: float | jax.Array = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """SVRG with an iterate of few bits (LP-SVRG, algorithm 2 of the HALP paper).

    Stalls at a gradient norm proportional to the spacing at the optimum. Arguments as in
    `lp_sgd` and `svrg`.
    """
    inner = svrg(
        learning_rate, inner_steps=inner_steps, option=option, weight_decay=weight_decay
    )
    return rounded(inner, iterate_format(format, bits, radius), rounding=rounding)
