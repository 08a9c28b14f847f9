"""Coarse against true gradient on the way to a spurious minimum, in closed form and sampled."""

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
    drawn_teachers,
    with_spurious,
)

METRICS = (
    "ratio",
    "distance",
    "correlation",
    "sampled_correlation",
    "standard_error",
    "cosine",
    "coarse_norm",
    "true_norm",
)


def coarse_correlation(
    *, estimator: str = "relu", nearest: float = 1e-4, points: int = 9, samples: int = 20_000,
    hidden: int = 8, inputs: int = 16,
) -> Measurement:  # fmt: skip
    """Gradients at points ever nearer to the spurious minimum of one random teacher.

    The points lie on a line; v and w (||w|| = 1) move by the same distance. For each:
      distance: from 1 to `nearest`, in equal factors.
      ratio: ||E g||^2 / (||df/dv||^2 + <E g, df/dw>), which bound (12) wants bounded.
      correlation: <E g, df/dw> in closed form.
      sampled_correlation, standard_error: mean and its error over fresh inputs.
      cosine: of the angle between E g and df/dw; 0 where one of them is 0.
      coarse_norm, true_norm: ||E g|| and ||(df/dv, df/dw)||.

    Args:
      estimator: "identity", "relu" or "clipped_relu" (clip 1).
      nearest: the last distance, below 1.
      points: >= 2.
      samples: inputs for each point, >= 2.
      hidden: rows of the input, m >= 2.
      inputs: columns of the input, n >= 2.

    Raises:
      ValueError: an unknown estimator, a number out of range, or a run without
        `precision = "float64"`.
    """
    chosen = check_estimator(estimator)
    check_at_least(2, points=points, samples=samples, hidden=hidden, inputs=inputs)
    if not 0 < nearest < 1:
        raise ValueError(f"nearest = {nearest} must lie between 0 and 1")
    check_float64()
    distances = np.geomspace(1, nearest, points)

    @jax.jit
    def measured(z, student, teacher):
        true = theory.gradient(student, teacher)
        coarse = theory.coarse_gradient(chosen, student, teacher)
        each = theory.sampled_coarse_gradients(chosen, z, student, teacher).w @ true.w
        correlation = theory.correlation(chosen, student, teacher)
        size, tangent = jnp.linalg.norm(coarse.w), jnp.linalg.norm(true.w)
        both = size * tangent
        return {
            "ratio": theory.descent_ratio(chosen, student, teacher),
            "correlation": correlation,
            "sampled_correlation": jnp.mean(each),
            "standard_error": jnp.std(each, ddof=1) / jnp.sqrt(len(each)),
            "cosine": jnp.where(both > 0, correlation / jnp.where(both > 0, both, 1), 0),
            "coarse_norm": size,
            "true_norm": jnp.sqrt(jnp.sum(true.v**2) + tangent**2),
        }

    def yielded(seed: int) -> Lines:
        random = np.random.default_rng(seed)
        known = with_spurious(drawn_teachers(1, hidden, inputs, random=random), random)
        for distance in distances:
            # the same direction at every distance
            aside = np.random.default_rng([seed, 1])
            near = beside_spurious(known, float(distance), length=1.0, random=aside)
            z = jnp.asarray(random.normal(size=(samples, hidden, inputs)))
            student, teacher = (jax.tree.map(lambda x: x[0], each) for each in (near, known))
            found = {"distance": distance, **measured(z, student, teacher)}
            yield {key: float(found[key]) for key in METRICS}

    return Measurement(yielded, points, METRICS)
