"""SVRG: stochastic gradients whose noise a full gradient at an anchor takes away."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from lpml.native import Backend
from lpml.optim.linear_problem import LinearProblem, constants, takes_kernels
from lpml.optim.native_svrg import native_svrg
from lpml.optim.periodic import (
    PeriodicTransformation,
    Refreshed,
    check_learning_rate,
    check_weight_decay,
    learning_rate_at,
    not_yet_known,
    periodic,
    require_key,
)

OPTIONS = ("I", "II")


class SVRGState(NamedTuple):
    """State of `svrg`; trees have the shapes of the parameters."""

    step: jax.Array  # () int32, steps taken
    anchor: optax.Params  # the point of the full gradient, dtype of the parameters
    full_grad: optax.Updates  # gradient at the anchor, dtype of the parameters
    chosen: optax.Params | None  # option II: the iterate that becomes the next anchor
    chosen_at: jax.Array  # () int32, the inner step that iterate belongs to


def svrg(
    learning_rate: optax.ScalarOrSchedule,
    *,
    inner_steps: int,
    option: str = "I",
    weight_decay: float | jax.Array = 0.0,
    backend: Backend = "jax",
    threads: int = 1,
    problem: LinearProblem | None = None,
) -> PeriodicTransformation:
    r"""Stochastic variance reduced gradient descent.

    .. math::
      w_t = w_{t-1} - \alpha (\nabla f_i(w_{t-1}) - \nabla f_i(\tilde w) + \nabla f(\tilde w))

    with a new anchor :math:`\tilde w` every `inner_steps` steps.

    Args:
      learning_rate: step size alpha, or a schedule of the step count.
      inner_steps: steps T between two full gradients; 2 N / batch size is customary.
      option: `"I"`: the anchor is the last iterate (practice); `"II"`: one of the iterates
        w_0 .. w_{T-1} drawn uniformly (the proof's choice).
      weight_decay: factor of an L2 term (weight_decay / 2) ||w||^2 added to the objective.
      backend: `"jax"`; `"native"`: compiled float32 kernels for linear models on the CPU, one
        sample a step, many steps a call (see `native_svrg`); `"auto"`: these where they can.
      threads: of the kernels, 1 to 64.
      problem: the linear model, for the kernels; a config fills it in.

    Returns:
      A transformation whose `update` needs the extra argument `grad_fn(params)`, the gradient
      of the same batch at other parameters, and a `refresh` (see `PeriodicTransformation`).

    References:
      Johnson and Zhang, Accelerating stochastic gradient descent using predictive variance
      reduction, NIPS 2013, figure 1.
    """
    check_learning_rate(learning_rate)
    check_option(option)
    check_weight_decay(weight_decay)
    reasons = [
        None if option == "I" else "they have no option II",
        *constants(learning_rate=learning_rate, weight_decay=weight_decay),
    ]
    if takes_kernels(backend, problem, threads, reasons):
        assert problem is not None
        return native_svrg(
            float(learning_rate),
            problem,
            inner_steps=inner_steps,
            weight_decay=float(weight_decay),
            threads=threads,
        )

    def init(params):
        return SVRGState(
            step=jnp.zeros((), jnp.int32),
            anchor=jax.tree.map(jnp.array, params),
            full_grad=not_yet_known(params),
            chosen=jax.tree.map(jnp.array, params) if option == "II" else None,
            chosen_at=jnp.zeros((), jnp.int32),
        )

    def inner_update(grads, state, params, *, grad_fn, **_):
        rate = learning_rate_at(learning_rate, state.step)
        chosen = state.chosen
        if option == "II":
            take = state.step % inner_steps == state.chosen_at
            chosen = jax.tree.map(lambda p, c: jnp.where(take, p, c), params, chosen)

        def step(grad, anchor_grad, full_grad, w):
            direction = grad - anchor_grad + full_grad + weight_decay * w
            return (-rate * direction).astype(w.dtype)

        updates = jax.tree.map(step, grads, grad_fn(state.anchor), state.full_grad, params)
        return updates, state._replace(step=state.step + 1, chosen=chosen)

    def refresh(state, params, *, full_grad_fn, key=None, **_):
        anchor, chosen_at = params, state.chosen_at
        if option == "II":
            first = state.step == 0
            anchor = jax.tree.map(lambda p, c: jnp.where(first, p, c), params, state.chosen)
            key = require_key(key, "option II")
            chosen_at = jax.random.randint(key, (), 0, inner_steps, jnp.int32)
        full_grad = jax.tree.map(lambda g, w: g.astype(w.dtype), full_grad_fn(anchor), anchor)
        # copies, because a donated state must not hold one buffer under two names
        state = state._replace(
            anchor=jax.tree.map(jnp.copy, anchor), full_grad=full_grad, chosen_at=chosen_at
        )
        return Refreshed(anchor, state)

    return periodic(init, inner_update, every=inner_steps, refresh=refresh)


def check_option(option: str) -> None:
    """Raises ValueError unless `option` is one of the paper's two."""
    if option not in OPTIONS:
        raise ValueError(f"option {option!r} does not exist; choose from {', '.join(OPTIONS)}")
