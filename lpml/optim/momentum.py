"""SGD with momentum and a rate that falls at milestones: the recipe of image networks."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from lpml.optim.periodic import check_learning_rate


def momentum(
    learning_rate: float | jax.Array,
    *,
    momentum: float | jax.Array = 0.9,
    nesterov: bool = False,
    weight_decay: float | jax.Array = 0.0,
    milestones: Sequence[int] = (),
    factor: float = 0.1,
    warmup_steps: int = 0,
    warmup_rate: float | jax.Array = 0.0,
) -> optax.GradientTransformationExtraArgs:
    r"""Stochastic gradient descent with (heavy-ball or Nesterov) momentum.

    .. math::
      g_t = \nabla f(w_t) + \lambda w_t, \quad m_{t+1} = \beta m_t + g_t, \quad
      w_{t+1} = w_t - \alpha_t m_{t+1}

    and, with `nesterov`, w_t - alpha_t (g_t + beta m_{t+1}). There is no dampening, so a
    constant gradient is followed at the rate alpha / (1 - beta).

    Args:
      learning_rate: alpha_0 > 0, before the first milestone.
      momentum: beta, in [0, 1).
      nesterov: see above.
      weight_decay: lambda >= 0, of every parameter; the decay goes through the momentum.
      milestones: steps, growing and >= 1, from which on the rate is `factor` times smaller
        or larger than before.
      factor: > 0; alpha_t = alpha_0 factor^(number of milestones <= t), after the warm-up.
      warmup_steps: so many first steps, at least 0, have the rate `warmup_rate` instead.
      warmup_rate: >= 0; 0 leaves the weights where they are while the momentum builds up.

    Raises:
      ValueError: a number out of its range.

    References:
      Sutskever et al., On the importance of initialization and momentum in deep learning,
      ICML 2013, up to the place of the rate.
    """
    check_learning_rate(learning_rate)
    if isinstance(momentum, (int, float)) and not 0 <= momentum < 1:
        raise ValueError(f"momentum = {momentum} must be in [0, 1)")
    if isinstance(weight_decay, (int, float)) and weight_decay < 0:
        raise ValueError(f"weight_decay = {weight_decay} must not be negative")
    if not factor > 0:
        raise ValueError(f"factor = {factor} must be positive")
    steps = list(milestones)
    if any(late <= early for early, late in zip([0, *steps], steps)):
        raise ValueError(f"milestones = {steps} must grow and be at least 1")
    _check_warmup(warmup_steps, warmup_rate)
    rate = learning_rate
    if steps:
        rate = optax.piecewise_constant_schedule(learning_rate, dict.fromkeys(steps, factor))
    if warmup_steps:
        rate = _after_warmup(rate, warmup_steps, warmup_rate)
    return optax.with_extra_args_support(
        optax.chain(
            optax.add_decayed_weights(weight_decay),
            optax.sgd(rate, momentum=momentum, nesterov=nesterov),
        )
    )


def _check_warmup(steps, rate):
    if steps < 0:
        raise ValueError(f"warmup_steps = {steps} must not be negative")
    if isinstance(rate, (int, float)) and rate < 0:
        raise ValueError(f"warmup_rate = {rate} must not be negative")


def _after_warmup(rate, steps, first):
    """The schedule `rate`, of which the first steps are replaced: milestones do not move."""
    later = rate if callable(rate) else lambda _: rate
    return lambda step: jnp.where(step < steps, first, later(step))
