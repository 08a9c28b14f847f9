"""How a rate changes over the steps: the settings that optimizers have in common.

Steps count from 0, as optax counts them. A rate is a number, which a sweep may trace, or
already a schedule, and is only ever multiplied.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from lpml.optim.periodic import check_learning_rate, learning_rate_at

Decay = Literal["none", "cosine", "linear", "quadratic", "sqrt"]

# What is left of the rate when the part x of the way to `decay_steps` is behind, 0 <= x <= 1.
LEFT: dict[str, Callable[[jax.Array], jax.Array]] = {
    "cosine": lambda x: (1 + jnp.cos(jnp.pi * x)) / 2,
    "linear": lambda x: 1 - x,
    "quadratic": lambda x: (1 - x) ** 2,
}


def scheduled(
    learning_rate: optax.ScalarOrSchedule,
    *,
    warmup_steps: int = 0,
    decay: Decay = "none",
    decay_steps: int | None = None,
) -> optax.ScalarOrSchedule:
    r"""The rate alpha with a linear warm-up of N = `warmup_steps` and then a decay.

    .. math::
      \alpha_t = \alpha \min\left(\frac{t + 1}{N}, 1\right)
        d\left(\frac{\max(t - N, 0)}{T - N}\right)

    so that the first step already moves, step N - 1 has the full rate, and T = `decay_steps`
    is the first step that does not move: with T the length of the training, none is wasted.
    "sqrt" is alpha / sqrt(max((t + 1) / max(N, 1), 1)), which has no end.

    Args:
      learning_rate: alpha > 0, or a schedule that is then multiplied.
      warmup_steps: N >= 0; 0 is no warm-up.
      decay: "none", "cosine" with d(x) = (1 + cos(pi x)) / 2, "linear" 1 - x, "quadratic"
        (1 - x)^2, or "sqrt".
      decay_steps: T > N, which the middle three need; from then on the rate is 0.

    Returns:
      `learning_rate` itself where nothing changes it, else a function of the step.

    Raises:
      ValueError: a number out of its range, or a decay that does not exist.
    """
    check_learning_rate(learning_rate)
    rate = decayed(learning_rate, decay, decay_steps, after=warmup_steps)
    return held_back(rate, warmup_steps, 0.0, linear=True)


def decayed(
    learning_rate: optax.ScalarOrSchedule,
    decay: Decay,
    decay_steps: int | None,
    *,
    after: int = 0,
) -> optax.ScalarOrSchedule:
    """The decay of `scheduled` alone: the whole rate until step `after`."""
    _check_decay(decay, decay_steps, after)
    if decay == "none":
        return learning_rate

    def rate(count):
        at = learning_rate_at(learning_rate, count)
        if decay_steps is None:
            return at / jnp.sqrt(jnp.maximum((count + 1.0) / max(after, 1), 1))
        # a float first: a quotient of two int32 would be float32 where x64 is enabled too
        behind = (count - float(after)) / (decay_steps - after)
        return at * LEFT[decay](jnp.clip(behind, 0, 1))

    return rate


def stepped(
    learning_rate: optax.ScalarOrSchedule, milestones: Sequence[int], factor: float
) -> optax.ScalarOrSchedule:
    """alpha factor^(number of milestones <= t).

    Args:
      learning_rate: alpha, or a schedule that is then multiplied.
      milestones: steps, growing and >= 1; none of them leaves the rate as it is.
      factor: > 0.

    Raises:
      ValueError: a number out of its range.
    """
    steps = list(milestones)
    if not factor > 0:
        raise ValueError(f"factor = {factor} must be positive")
    if any(late <= early for early, late in zip([0, *steps], steps)):
        raise ValueError(f"milestones = {steps} must grow and be at least 1")
    if not steps:
        return learning_rate

    def rate(count):
        at = learning_rate_at(learning_rate, count)
        for step in steps:
            at = jnp.where(count >= step, at * factor, at)
        return at

    return rate


def held_back(
    learning_rate: optax.ScalarOrSchedule,
    steps: int,
    first: float | jax.Array,
    *,
    linear: bool = False,
) -> optax.ScalarOrSchedule:
    """The rate, of which the first steps are replaced: what comes later does not move.

    Args:
      learning_rate: alpha, or a schedule.
      steps: how many, N >= 0.
      first: their rate f, >= 0.
      linear: f + (alpha_t - f) (t + 1) / N in them instead.

    Raises:
      ValueError: a number out of its range.
    """
    if steps < 0:
        raise ValueError(f"warmup_steps = {steps} must not be negative")
    if isinstance(first, (int, float)) and first < 0:
        raise ValueError(f"warmup_rate = {first} must not be negative")
    if not steps:
        return learning_rate

    def rate(count):
        later = learning_rate_at(learning_rate, count)
        before = first + (later - first) * ((count + 1.0) / steps) if linear else first
        return jnp.where(count < steps, before, later)

    return rate


def _check_decay(decay, decay_steps, after):
    if decay in LEFT:
        if decay_steps is None:
            raise ValueError(f"decay {decay!r} needs decay_steps, the step at which it ends")
        if not decay_steps > after:
            raise ValueError(
                f"decay_steps = {decay_steps} must be more than the {after} steps of the "
                "warm-up"
            )
    elif decay not in ("none", "sqrt"):
        known = ", ".join(("none", *LEFT, "sqrt"))
        raise ValueError(f"decay {decay!r} does not exist; choose from {known}")
    elif decay_steps is not None:
        raise ValueError(
            f"decay_steps = {decay_steps} has no meaning for decay {decay!r}; leave it away or "
            f"choose {', '.join(LEFT)}"
        )
