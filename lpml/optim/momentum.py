"""SGD with momentum and a rate that falls at milestones: the recipe of image networks."""

from collections.abc import Sequence
from typing import Literal

import jax
import optax

from lpml.optim.few_bits import in_few_bits
from lpml.optim.periodic import check_learning_rate, check_weight_decay
from lpml.optim.schedules import Decay, decayed, held_back, stepped


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
    warmup: Literal["constant", "linear"] = "constant",
    decay: Decay = "none",
    decay_steps: int | None = None,
    state_format: str | None = None,
    master_format: str | None = None,
    state_rounding: str = "stochastic",
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
      warmup: "linear" makes the rate grow in these steps, from `warmup_rate` to alpha_t.
      decay, decay_steps: of the rate after the warm-up, besides milestones; see `scheduled`.
      state_format, master_format: what the momentum and the weights are stored in, by name;
        None: floats. See `in_few_bits`.
      state_rounding: of both.

    Raises:
      ValueError: a number out of its range.

    References:
      Sutskever et al., On the importance of initialization and momentum in deep learning,
      ICML 2013, up to the place of the rate.
    """
    check_learning_rate(learning_rate)
    if isinstance(momentum, (int, float)) and not 0 <= momentum < 1:
        raise ValueError(f"momentum = {momentum} must be in [0, 1)")
    check_weight_decay(weight_decay)
    if warmup not in ("constant", "linear"):
        raise ValueError(f"warmup {warmup!r} does not exist; choose constant or linear")
    rate = stepped(learning_rate, milestones, factor)
    rate = decayed(rate, decay, decay_steps, after=warmup_steps)
    rate = held_back(rate, warmup_steps, warmup_rate, linear=warmup == "linear")
    chain = optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.sgd(rate, momentum=momentum, nesterov=nesterov),
    )
    return in_few_bits(chain, state=state_format, master=master_format, rounding=state_rounding)
