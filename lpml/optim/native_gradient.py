"""Full gradients of linear models by a compiled pass over the data."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lpml import native
from lpml.optim.bit_centering import cast_like
from lpml.optim.linear_problem import (
    LinearProblem,
    as_leaf,
    flat,
    predicted,
    reach_of,
    the_leaf,
    to_codes,
)


class FullGradient(NamedTuple):
    """What a pass over N samples gives.

    Attributes:
      gradient: like the parameters, of the objective with its L2 term.
      predictions: (N, K) float32 probabilities; None for squared error.
    """

    gradient: Any
    predictions: jax.Array | None


def grid_codes(x: np.ndarray, input_scale: float | None) -> dict[str, np.ndarray]:
    """Inputs on a grid of 8 bits as its codes, an eighth of what a pass over float64 reads.

    Args:
      x: (N, ...) inputs.
      input_scale: spacing of their grid; None: on none.

    Returns:
      `grid`: (N, d) int8. Nothing where the inputs are on no such grid, or are codes already.
    """
    rows = flat(x)
    if input_scale is None or rows.dtype.kind == "i":
        return {}
    if reach_of(rows) > (np.iinfo(np.int8).max + 0.5) * input_scale:
        return {}
    return {"grid": to_codes(rows, input_scale, np.int8, rows.shape[1])}


def full_gradient(
    anchor: Any,
    problem: LinearProblem,
    places: native.Places,
    *,
    data: dict[str, jax.Array],
    prepared: dict[str, Any],
    full_grad_fn: Callable[[Any], Any],
    outputs_fn: Callable[[Any], jax.Array],
) -> FullGradient:
    """The gradient at the anchor, of compiled float64 sums; of JAX's where those cannot be.

    Args:
      anchor: parameters, one (d, K) leaf.
      problem: the model.
      places: which kernels.
      data: the training set, `x` (N, ...) and `y` (N,).
      prepared: with `grid`, what `grid_codes` made of it.
      full_grad_fn: JAX's gradient of the objective.
      outputs_fn: JAX's outputs (N, K).
    """
    loss, weights = problem.loss, the_leaf(anchor)
    assert loss is not None
    rows = prepared.get("grid", data["x"])
    codes = jnp.issubdtype(rows.dtype, jnp.integer)
    if weights.dtype != jnp.float64 or (codes and rows.dtype != jnp.int8):
        predictions = None if loss == "squared" else predicted(loss, outputs_fn(anchor))
        return FullGradient(cast_like(full_grad_fn(anchor), anchor), predictions)
    scale = problem.input_scale if codes else None
    passed = native.full_pass(
        weights.T,
        rows=rows.reshape(len(rows), -1),
        y=data["y"].astype(jnp.float64),
        scalars=jnp.array([1.0, 1.0 if scale is None else scale]),
        loss=loss,
        places=places,
    )
    gradient = jax.tree.map(lambda a: as_leaf(passed.gradient, len(a)) + problem.l2 * a, anchor)
    return FullGradient(gradient, None if loss == "squared" else passed.predictions)
