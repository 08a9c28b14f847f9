"""Adam, as the baseline of networks: optax's, with the settings that sweeps trace."""

import jax
import optax

from lpml.optim.few_bits import in_few_bits
from lpml.optim.schedules import Decay, scheduled


def adam(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: float | jax.Array = 0.9,
    b2: float | jax.Array = 0.999,
    eps: float | jax.Array = 1e-8,
    weight_decay: float | jax.Array = 0.0,
    warmup_steps: int = 0,
    decay: Decay = "none",
    decay_steps: int | None = None,
    state_format: str | None = None,
    master_format: str | None = None,
    state_rounding: str = "stochastic",
) -> optax.GradientTransformationExtraArgs:
    """Adam with decoupled weight decay (AdamW where `weight_decay` is not 0).

    Args:
      learning_rate: step size, or a schedule of the step count.
      b1: decay of the mean of gradients, in [0, 1).
      b2: decay of the mean of their squares, in [0, 1).
      eps: added to the root of the latter, > 0.
      weight_decay: the weights shrink by learning_rate * weight_decay a step, >= 0.
      warmup_steps, decay, decay_steps: of the rate, see `scheduled`.
      state_format, master_format: what both means and the weights are stored in, by name; None:
        floats. See `in_few_bits`, also for what keeps the mean of squares from becoming 0.
      state_rounding: of both.

    References:
      Kingma and Ba, Adam, ICLR 2015; Loshchilov and Hutter, ICLR 2019.
    """
    rate = scheduled(
        learning_rate, warmup_steps=warmup_steps, decay=decay, decay_steps=decay_steps
    )
    for name, value in (("b1", b1), ("b2", b2)):
        if isinstance(value, (int, float)) and not 0 <= value < 1:
            raise ValueError(f"{name} = {value} must be in [0, 1)")
    chain = optax.adamw(rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)
    return in_few_bits(chain, state=state_format, master=master_format, rounding=state_rounding)
