"""SOAP as an optimizer: its direction, weight decay and rate joined."""

from typing import Literal

import jax
import optax

from lpml.optim.clock import Clock
from lpml.optim.schedules import Decay, scheduled
from lpml.optim.shampoo.blocks import Blocking
from lpml.optim.soap.refresh import Turning
from lpml.optim.soap.transformation import scale_by_soap


def soap(
    learning_rate: optax.ScalarOrSchedule,
    *,
    block_size: int = 128,
    max_dim: int = 8192,
    merge: bool = True,
    vectors: bool = False,
    b1: float | jax.Array = 0.95,
    b2: float | jax.Array = 0.95,
    shampoo_beta: float | jax.Array = 0.95,
    eps: float | jax.Array = 1e-8,
    basis: Literal["qr", "eigh"] = "qr",
    carried: bool = False,
    refresh_every: int = 10,
    start_at: int = 1,
    weight_decay: float | jax.Array = 0.0,
    warmup_steps: int = 0,
    decay: Decay = "none",
    decay_steps: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""SOAP: Adam in the eigenvectors of Shampoo's statistics, with decoupled weight decay.

    .. math::
      w \leftarrow w - \alpha (U + \lambda w)

    with U as in `scale_by_soap`.

    Args:
      learning_rate: alpha > 0, or a schedule of the step count; one that suits Adam.
      block_size, max_dim, merge, vectors: which matrices a tensor gets, see `Blocking`.
      b1: decay of the mean of gradients, in [0, 1).
      b2: decay of the mean of their squares, in [0, 1).
      shampoo_beta: decay of the statistics, in (0, 1]; 1 sums them.
      eps: added to the root of the mean of squares, > 0.
      basis: "qr" follows the eigenvectors by one step of orthogonal iteration a refresh,
        "eigh" solves for them.
      carried: whether a new basis takes over the squares of the old one, see `eigenbases`.
      refresh_every: steps between two refreshes, >= 1.
      start_at: the step (from 1) behind which the first is; until then it is Adam.
      weight_decay: lambda >= 0; scaled by alpha once.
      warmup_steps, decay, decay_steps: of the rate, see `scheduled`.

    Raises:
      ValueError: a number out of its range, or a word that is none of these.

    References:
      As in `scale_by_soap`.
    """
    rate = scheduled(
        learning_rate, warmup_steps=warmup_steps, decay=decay, decay_steps=decay_steps
    )
    if isinstance(weight_decay, (int, float)) and weight_decay < 0:
        raise ValueError(f"weight_decay = {weight_decay} must not be negative")
    direction = scale_by_soap(
        Blocking(block_size, max_dim, 1, merge, vectors),
        Turning(Clock(refresh_every, start_at), basis, carried),
        b1=b1,
        b2=b2,
        shampoo_beta=shampoo_beta,
        eps=eps,
    )
    chain = optax.chain(
        direction, optax.add_decayed_weights(weight_decay), optax.scale_by_learning_rate(rate)
    )
    return optax.with_extra_args_support(chain)
