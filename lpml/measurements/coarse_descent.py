"""Gradient descent with expected coarse gradients on the two-layer model (Algorithm 1)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lpml import theory
from lpml.measurements.measurement import Lines, Measurement
from lpml.measurements.teachers import (
    beside_spurious,
    check_at_least,
    check_estimator,
    check_float64,
    check_positive,
    drawn_students,
    drawn_teachers,
    with_spurious,
)
from lpml.theory import TwoLayer

METRICS = (
    "monotone",
    "at_global",
    "at_spurious",
    "chattering",
    "moving",
    "excess",
    "worst_excess",
    "length",
    "chatter_excess",
    "chatter_length",
    "rise",
)
NOISE = 1e-12  # a rise of the loss by less is rounding
NEAR = 1e-3  # of the loss at w = 0: nearer to a critical value counts as there


class Path(NamedTuple):
    """A student on its way, and what its losses did.

    Attributes:
      student: v (m,), w (n,).
      loss: its loss.
      rise: sum of all rises of the loss so far.
      lately: sum of rises since the last line.
      worst: the largest loss since the last line.
    """

    student: TwoLayer
    loss: jax.Array
    rise: jax.Array
    lately: jax.Array
    worst: jax.Array


def coarse_descent(
    *, estimator: str = "relu", length: float = 10.0, distance: float | None = None,
    balanced: bool = False, rate: float = 0.02, steps: int = 40_000, lines: int = 100,
    teachers: int = 200, hidden: int = 8, inputs: int = 16,
) -> Measurement:  # fmt: skip
    """v <- v - rate df/dv, w <- w - rate E g, for many random teachers at once.

    A line every steps/lines steps. Shares of the teachers:
      monotone: those whose loss has never risen (by more than 1e-12).
      at_global, at_spurious: the loss has not risen since the last line and is within 1e-3 of
        the loss at w = 0 from 0, or from the spurious value with an angle above pi/2. Where the
        two values are so near, global counts.
      chattering: the loss has risen since the last line.
      moving: the rest.
    Medians over the teachers:
      excess, worst_excess: loss over the loss at the spurious point (where that is below 1e-3
        of the loss at w = 0, over this), now and the largest since the last line.
      length: ||w||.
      chatter_excess, chatter_length: worst_excess and length of those chattering; 0 if none.
    And rise: the largest sum of rises of one teacher.

    Args:
      estimator: "identity", "relu" or "clipped_relu" (clip 1).
      length: of w at the start, > 0.
      distance: None: start anywhere; else this far from a spurious minimum (see
        `teachers.beside_spurious`), with only those teachers that have one.
      balanced: teachers with S* = 0, whose spurious minima are global ones.
      rate: > 0.
      steps: a multiple of lines.
      lines: of the log.
      teachers: how many.
      hidden: rows of the input, m.
      inputs: columns of the input, n >= 2.

    Raises:
      ValueError: an unknown estimator, a number out of range, or a run without
        `precision = "float64"`.
    """
    chosen = check_estimator(estimator)
    check_positive(length=length, rate=rate)
    check_at_least(1, steps=steps, lines=lines, teachers=teachers, hidden=hidden)
    check_at_least(2, inputs=inputs)
    if distance is not None:
        check_positive(distance=distance)
    if steps % lines:
        raise ValueError(f"steps = {steps} must be a multiple of lines = {lines}")
    check_float64()

    def step(path: Path, teacher: TwoLayer) -> Path:
        slope = theory.coarse_gradient(chosen, path.student, teacher)
        student = jax.tree.map(lambda x, g: x - rate * g, path.student, slope)
        loss = theory.loss(student, teacher)
        change = loss - path.loss
        rise = jnp.where(change > NOISE, change, 0)
        worst = jnp.maximum(path.worst, loss)
        return Path(student, loss, path.rise + rise, path.lately + rise, worst)

    @jax.jit
    def run(paths: Path, known: TwoLayer) -> Path:
        fresh = paths._replace(lately=jnp.zeros_like(paths.lately), worst=paths.loss)
        many = jax.vmap(step)
        return jax.lax.fori_loop(0, steps // lines, lambda _, p: many(p, known), fresh)

    def yielded(seed: int) -> Lines:
        random = np.random.default_rng(seed)
        known = drawn_teachers(teachers, hidden, inputs, random=random, balanced=balanced)
        if distance is None:
            start = drawn_students(known, length=length, random=random)
        else:
            known = with_spurious(known, random)
            start = beside_spurious(known, distance, length=length, random=random)
        loss = jax.vmap(theory.loss)(start, known)
        paths = Path(start, loss, jnp.zeros_like(loss), jnp.zeros_like(loss), loss)
        for _ in range(lines):
            paths = run(paths, known)
            found = _summary(paths, known)
            yield {key: float(found[key]) for key in METRICS}

    return Measurement(yielded, lines, METRICS)


@jax.jit
def _summary(paths: Path, known: TwoLayer) -> dict[str, jax.Array]:
    spurious = jax.vmap(theory.spurious_loss)(known)
    nothing = TwoLayer(known.v, jnp.zeros_like(known.w))
    near = NEAR * jax.vmap(theory.loss)(nothing, known)
    chattering = paths.lately > 0
    turned = jax.vmap(theory.theta)(paths.student, known)
    at_global = ~chattering & (paths.loss < near)
    at_spurious = ~chattering & ~at_global & (jnp.abs(paths.loss - spurious) < near)
    at_spurious &= turned > jnp.pi / 2
    moving = ~(chattering | at_global | at_spurious)
    base = jnp.maximum(spurious, near)
    lengths = jnp.linalg.norm(paths.student.w, axis=-1)

    def of_chattering(x):
        return jnp.nan_to_num(jnp.nanmedian(jnp.where(chattering, x, jnp.nan)))

    return {
        "monotone": jnp.mean(paths.rise == 0),
        "at_global": jnp.mean(at_global),
        "at_spurious": jnp.mean(at_spurious),
        "chattering": jnp.mean(chattering),
        "moving": jnp.mean(moving),
        "excess": jnp.median(paths.loss / base),
        "worst_excess": jnp.median(paths.worst / base),
        "length": jnp.median(lengths),
        "chatter_excess": of_chattering(paths.worst / base),
        "chatter_length": of_chattering(lengths),
        "rise": jnp.max(paths.rise),
    }
