"""Muon, as the baseline of methods for matrices: optax's, with the settings of this package."""

import jax
import optax
from optax import contrib

from lpml.optim.schedules import Decay, scheduled


def muon(
    learning_rate: optax.ScalarOrSchedule,
    *,
    beta: float | jax.Array = 0.95,
    nesterov: bool = True,
    iterations: int = 5,
    rms: float | None = None,
    eps: float | jax.Array = 1e-8,
    b1: float | jax.Array = 0.9,
    b2: float | jax.Array = 0.999,
    weight_decay: float | jax.Array = 0.0,
    warmup_steps: int = 0,
    decay: Decay = "none",
    decay_steps: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Muon for what has two axes, Adam for everything else.

    .. math::
      m \leftarrow \beta m + (1 - \beta) g, \qquad
      w \leftarrow w - \alpha (c\, U V^T + \lambda w) \quad\text{with}\quad m = U S V^T

    where a few Newton-Schulz iterations stand for U V^T: its singular values lie about 1, not
    at it, and the length of a step does not fall with the gradient's. So only a rate that
    falls lets it come to rest (see `decay`).

    Args:
      learning_rate: alpha > 0, or a schedule of the step count; Adam has the same.
      beta: decay of the momentum of matrices, in [0, 1).
      nesterov: one step ahead of the momentum, in Adam's too.
      iterations: of Newton and Schulz, >= 1.
      rms: None: c = sqrt(max(1, columns / rows)); a number, 0.2 say, is the root mean square
        that updates have about, c = rms sqrt(max(rows, columns)), as Adam's have: so both
        can share a rate.
      eps: against dividing by 0, of both, > 0.
      b1, b2: decays of Adam's moments, in [0, 1).
      weight_decay: lambda >= 0, of both; scaled by alpha once.
      warmup_steps, decay, decay_steps: of the rate, see `scheduled`.

    Raises:
      ValueError: a number out of its range.

    References:
      Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024;
      Liu et al., Muon is scalable for LLM training, arXiv 2502.16982, for `rms`.
    """
    rate = scheduled(
        learning_rate, warmup_steps=warmup_steps, decay=decay, decay_steps=decay_steps
    )
    for name, value in (("beta", beta), ("b1", b1), ("b2", b2)):
        if isinstance(value, (int, float)) and not 0 <= value < 1:
            raise ValueError(f"{name} = {value} must be in [0, 1)")
    for name, number in (("rms", rms), ("eps", eps)):
        if isinstance(number, (int, float)) and not number > 0:
            raise ValueError(f"{name} = {number} must be positive")
    if isinstance(weight_decay, (int, float)) and weight_decay < 0:
        raise ValueError(f"weight_decay = {weight_decay} must not be negative")
    if iterations < 1:
        raise ValueError(f"iterations = {iterations} must be at least 1")
    chain = contrib.muon(
        rate,
        ns_steps=iterations,
        beta=beta,
        eps=eps,
        weight_decay=weight_decay,
        nesterov=nesterov,
        adam_b1=b1,
        adam_b2=b2,
        adam_weight_decay=weight_decay,
        consistent_rms=rms,
    )
    return optax.with_extra_args_support(chain)
