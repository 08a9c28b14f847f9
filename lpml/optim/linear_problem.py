"""What the compiled kernels know of a problem, and who is to take the steps."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lpml import native


class LinearProblem(NamedTuple):
    """A linear model and its data, as far as a loop of an optimizer's own must know them.

    Attributes:
      samples: N, the training samples.
      loss: `"squared"`, `"logistic"` or `"softmax"`; None: another.
      l2: factor of the L2 term that the objective has.
      batch_size: samples a step.
      input_scale: spacing of the grid on which the inputs lie; None: on none.
    """

    samples: int
    loss: str | None
    l2: float = 0.0
    batch_size: int = 1
    input_scale: float | None = None


def takes_kernels(
    backend: str,
    problem: LinearProblem | None,
    threads: int | jax.Array,
    reasons: Sequence[str | None],
) -> bool:
    """Whether the compiled kernels take the steps.

    Args:
      backend: `"jax"`: never; `"auto"`: where they can; `"native"`: always.
      problem: what there is to solve; None where nobody said.
      threads: of the kernels; an array (optax.inject_hyperparams makes one of every number)
        is for JAX's path alone, which has no use for it.
      reasons: of the algorithm, why they cannot; None where they can.

    Raises:
      ValueError: `"native"` and they cannot, an unknown backend, or a number of threads that
        they cannot share out to.
    """
    injected = isinstance(threads, jax.Array)
    whole = isinstance(threads, int) and not isinstance(threads, bool)
    if not injected and not (whole and 1 <= threads <= 64):
        raise ValueError(f"threads = {threads!r} must be a whole number, 1 to 64")
    if backend not in native.BACKENDS:
        known = ", ".join(native.BACKENDS)
        raise ValueError(f"backend {backend!r} does not exist; choose from {known}")
    if backend == "jax":
        return False
    # compiled last, when nothing else is in the way
    own = (*reasons, "threads must be a plain number" if injected else None)
    why = next(filter(None, (*own, *_of_problem(problem))), None) or native.why_not()
    if why is not None and backend == "native":
        raise ValueError(f"backend 'native' cannot take these steps: {why}; take 'jax'")
    if why is not None:
        _say_once(why)
    return why is None


def _of_problem(problem):
    if problem is None:
        return ("it is not known which linear model is trained (a config says it)",)
    return (
        None if problem.loss in native.LOSSES else "the kernels train linear models alone",
        None
        if problem.batch_size == 1
        else f"the kernels take one sample a step, not batch_size = {problem.batch_size}",
    )


_SAID: set[str] = set()


def _say_once(why: str) -> None:
    if why not in _SAID:
        _SAID.add(why)
        from absl import logging

        logging.warning("backend 'auto' takes its path in JAX: %s", why)


def the_leaf(params: Any) -> jax.Array:
    """The (d, K) matrix that a linear model's parameters are.

    Raises:
      ValueError: they are something else.
    """
    leaves = jax.tree.leaves(params)
    if len(leaves) != 1 or leaves[0].ndim != 2:
        raise ValueError("the kernels train linear models without bias: one (d, K) matrix")
    return leaves[0]


def as_rows(leaf: jax.Array, stride: int) -> jax.Array:
    """A (d, K) matrix as (K, stride), padded with zeros."""
    return jnp.pad(leaf.T, ((0, 0), (0, stride - len(leaf))))


def as_leaf(rows: jax.Array, features: int) -> jax.Array:
    """The (d, K) matrix that `as_rows` was given."""
    return rows[:, :features].T


def flat(x: np.ndarray) -> np.ndarray:
    """Samples as rows: (N, ...) as (N, d)."""
    # an array that is flat already is given back itself, so that nobody lays it twice
    return x if x.ndim == 2 else x.reshape(len(x), -1)


def to_codes(rows: np.ndarray, scale: float, dtype: Any, width: int) -> np.ndarray:
    """Rows (N, d) divided by `scale` and rounded, as codes (N, width), zeros behind; no code
    is the least of its type. Goes in parts, so that there is no second array of floats."""
    codes: np.ndarray = np.zeros((len(rows), width), dtype)
    largest = np.iinfo(dtype).max
    for first in range(0, len(rows), 4096):
        part = slice(first, first + 4096)
        steps = np.rint(rows[part] / scale)
        codes[part, : rows.shape[1]] = np.clip(steps, -largest, largest)
    return codes


def reach_of(rows: np.ndarray) -> float:
    """The largest magnitude; 0 of nothing. The least code's is not one of its own type."""
    low, high = np.min(rows, initial=0), np.max(rows, initial=0)
    return max(-float(low), float(high))


def targets(y: np.ndarray, dtype: type) -> np.ndarray:
    """Targets or classes as the kernels read them: (N,) float32 in steps, float64 in passes."""
    return np.asarray(y, dtype)


def predicted(loss: str, outputs: jax.Array) -> jax.Array:
    """Probabilities (N, K) float32 of outputs (N, K) under `"logistic"` or `"softmax"`."""
    of = jax.nn.sigmoid if loss == "logistic" else jax.nn.softmax
    return of(outputs).astype(jnp.float32)


def no_single_steps(*_: Any, **__: Any) -> Any:
    """Stands for `update` where a loop of the optimizer's own takes all steps."""
    raise ValueError(
        "backend 'native' takes many steps in one call: call its inner_loop, or take 'jax'"
    )


def constants(**settings: Any) -> list[str | None]:
    """Of every setting, why the kernels cannot take it: they want plain numbers."""
    return [
        None
        if isinstance(value, (int, float)) and not isinstance(value, bool)
        else f"{name} must be a plain number, neither traced nor a schedule"
        for name, value in settings.items()
    ]
