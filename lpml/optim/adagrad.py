"""AdaGrad, as the baseline of sums of squares: optax's, with the settings that sweeps trace."""

import jax
import optax

from lpml.optim.schedules import Decay, scheduled


def adagrad(
    learning_rate: optax.ScalarOrSchedule,
    *,
    initial: float | jax.Array = 0.1,
    eps: float | jax.Array = 1e-7,
    weight_decay: float | jax.Array = 0.0,
    warmup_steps: int = 0,
    decay: Decay = "none",
    decay_steps: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Diagonal AdaGrad with decoupled weight decay.

    .. math::
      s_t = s_{t-1} + g_t^2, \qquad
      w_t = w_{t-1} - \alpha \left(\frac{g_t}{\sqrt{s_t + \epsilon}} + \lambda w_{t-1}\right)

    Args:
      learning_rate: alpha > 0, or a schedule of the step count.
      initial: s_0 >= 0, of every weight. Where s is 0 the weight stays.
      eps: > 0, within the root.
      weight_decay: lambda >= 0; scaled by alpha once.
      warmup_steps, decay, decay_steps: of the rate, see `scheduled`.

    Raises:
      ValueError: a number out of its range.

    References:
      Duchi, Hazan and Singer, Adaptive subgradient methods for online learning and stochastic
      optimization, JMLR 12, 2011.
    """
    rate = scheduled(
        learning_rate, warmup_steps=warmup_steps, decay=decay, decay_steps=decay_steps
    )
    for name, value in (("initial", initial), ("weight_decay", weight_decay)):
        if isinstance(value, (int, float)) and value < 0:
            raise ValueError(f"{name} = {value} must not be negative")
    if isinstance(eps, (int, float)) and not eps > 0:
        raise ValueError(f"eps = {eps} must be positive")
    return optax.with_extra_args_support(
        optax.chain(
            optax.scale_by_rss(initial, eps),
            optax.add_decayed_weights(weight_decay),
            optax.scale_by_learning_rate(rate),
        )
    )
