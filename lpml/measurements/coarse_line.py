"""The loss on samples along the negative coarse gradient: ragged for few, smooth for many."""

import jax
import jax.numpy as jnp
import numpy as np

from lpml import theory
from lpml.measurements.measurement import Lines, Measurement
from lpml.measurements.teachers import (
    check_at_least,
    check_estimator,
    check_float64,
    check_positive,
    drawn_students,
    drawn_teachers,
)
from lpml.theory import TwoLayer

METRICS = ("climb", "rising_share", "fall", "rate", "sample_loss", "population_loss")


def coarse_line(
    *, samples: int = 1000, estimator: str = "relu", longest: float = 1.0, points: int = 100,
    repeats: int = 10, length: float = 4.0, hidden: int = 8, inputs: int = 16,
) -> Measurement:  # fmt: skip
    """Moves (v, w) by -rate times the coarse gradient of a sample, for growing rates.

    Teacher, student and sample are drawn anew for each repeat. A line per rate:
      rate: longest/points times the number of the line.
      climb: sum of the rises of the sample's loss before the least so far, over the fall to it;
        0 for a smooth descent; mean over the repeats, as are the next two.
      rising_share: of the steps from one rate to the next that come before the least loss so
        far, the share along which the sample's loss rises.
      fall: how far the least loss so far is below that at rate 0, relative.
      sample_loss, population_loss: those of the first repeat, over its population loss at 0.

    Args:
      samples: inputs of a sample, N.
      estimator: "identity", "relu" or "clipped_relu" (clip 1).
      longest: the largest rate, > 0.
      points: how many rates.
      repeats: how many problems.
      length: ||w|| of the student, > 0.
      hidden: rows of the input, m.
      inputs: columns of the input, n >= 2.

    Raises:
      ValueError: an unknown estimator, a number out of range, or a run without
        `precision = "float64"`.
    """
    chosen = check_estimator(estimator)
    check_positive(longest=longest, length=length)
    check_at_least(1, samples=samples, points=points, repeats=repeats, hidden=hidden)
    check_at_least(2, inputs=inputs)
    check_float64()
    rates = longest * np.arange(points + 1) / points

    @jax.jit
    def along(
        z: jax.Array, student: TwoLayer, teacher: TwoLayer
    ) -> tuple[jax.Array, jax.Array]:
        """Losses at all rates, of the sample and of the population."""
        slope = theory.sampled_coarse_gradient(chosen, z, student, teacher)
        inner, change = z @ student.w, z @ slope.w
        wanted = jnp.where(z @ teacher.w > 0, 1.0, 0.0) @ teacher.v

        def losses(rate):
            moved = TwoLayer(student.v - rate * slope.v, student.w - rate * slope.w)
            fired = jnp.where(inner - rate * change > 0, 1.0, 0.0)
            sampled = jnp.mean((fired @ moved.v - wanted) ** 2) / 2
            return sampled, theory.loss(moved, teacher)

        return jax.lax.map(losses, jnp.asarray(rates))

    def yielded(seed: int) -> Lines:
        random = np.random.default_rng(seed)
        curves = []
        for _ in range(repeats):
            teachers = drawn_teachers(1, hidden, inputs, random=random)
            students = drawn_students(teachers, length=length, random=random)
            student, teacher = (jax.tree.map(lambda x: x[0], m) for m in (students, teachers))
            z = jnp.asarray(random.normal(size=(samples, hidden, inputs)))
            curves.append([np.asarray(losses) for losses in along(z, student, teacher)])
        first = np.array(curves[0]) / curves[0][1][0]
        for point in range(1, points + 1):
            found = [_so_far(sampled[: point + 1]) for sampled, _ in curves]
            climb, rising, fall = np.mean(found, axis=0)
            yield {
                "climb": float(climb),
                "rising_share": float(rising),
                "fall": float(fall),
                "rate": float(rates[point]),
                "sample_loss": float(first[0, point]),
                "population_loss": float(first[1, point]),
            }

    return Measurement(yielded, points, METRICS)


def _so_far(losses):
    """Rises before the least loss over the fall, their share of the steps, and the fall."""
    least = int(np.argmin(losses))
    if not least:
        return 0.0, 0.0, 0.0
    steps = np.diff(losses[: least + 1])
    fall = losses[0] - losses[least]
    return np.sum(steps[steps > 0]) / fall, np.mean(steps > 0), fall / losses[0]
