"""Loss-aware quantisation as a config names it: the inner optimizer and its rate by name."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from lpml.optim.loss_aware import all_but, loss_aware_quantization, weights_only
from lpml.optim.periodic import check_learning_rate
from lpml.optim.schedules import decayed, stepped

INNER = ("adam", "rmsprop", "sgd")


def loss_aware(
    learning_rate: float | jax.Array,
    *,
    bits: int | None = None,
    inner: Literal["adam", "rmsprop", "sgd"] = "adam",
    levels: Literal["linear", "log"] = "linear",
    solver: Literal["alternating", "exact", "absmax"] = "alternating",
    per: Literal["tensor", "channel"] = "tensor",
    group: int | None = None,
    iterations: int = 10,
    weighted: bool = True,
    exempt: Sequence[str] = (),
    clip: float | None = 1.0,
    b1: float | jax.Array = 0.9,
    b2: float | jax.Array = 0.999,
    eps: float | jax.Array = 1e-8,
    weight_decay: float | jax.Array = 0.0,
    schedule: Literal["constant", "sqrt"] = "constant",
    milestones: Sequence[int] = (),
    factor: float = 0.1,
) -> optax.GradientTransformationExtraArgs:
    """Trains kernels of `bits` bits with `loss_aware_quantization` around a known optimizer.

    Biases and normalisation stay in full precision.

    Args:
      learning_rate: eta > 0, of the master weights.
      bits: 1 (LAB), 2 (LAT) or 3 to 8 (LAQ); None: the same optimizer with weights in full
        precision, kept in the same box.
      inner: "adam", "rmsprop" (v without bias correction, no momentum: the paper's analysis)
        or "sgd".
      levels: "linear" or "log", as of `lpml.quant.laq`.
      solver: "alternating", "exact" or "absmax", as of `lpml.quant.laq`.
      per: a scale per "tensor" or per "channel" (the last axis of a kernel: its outputs).
      group: so many consecutive weights of the last axis share a scale, in place of `per`.
      iterations: most steps of "alternating".
      weighted: whether errors are weighted with the curvature; false: quantisation that
        looks at the weights alone (BWN, TWN).
      exempt: names of layers whose kernels stay in full precision, e.g. the first and last.
      clip: kernels are kept in [-clip, clip]; None: they are not.
      b1: decay of Adam's mean of gradients, or sgd's momentum.
      b2: decay of the second moment.
      eps: added to its root.
      weight_decay: decoupled, of the master weights, times the rate.
      schedule: "constant", or "sqrt": eta / sqrt(t) at step t = 1, 2, ...
      milestones: steps from which on the rate is `factor` times what it was.
      factor: > 0.

    Raises:
      ValueError: a setting that does not exist or is out of its range.
    """
    check_learning_rate(learning_rate)
    if inner not in INNER:
        raise ValueError(f"inner {inner!r} does not exist; choose from {', '.join(INNER)}")
    if per not in ("tensor", "channel"):
        raise ValueError(f"per {per!r} does not exist; choose tensor or channel")
    if schedule not in ("constant", "sqrt"):
        raise ValueError(f"schedule {schedule!r} does not exist; choose constant or sqrt")
    rate = decayed(learning_rate, "sqrt" if schedule == "sqrt" else "none", None)
    rate = stepped(rate, milestones, factor)
    directions = {
        "adam": lambda: optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        "rmsprop": lambda: optax.scale_by_rms(decay=b2, eps=eps, eps_in_sqrt=False),
        "sgd": lambda: optax.trace(decay=b1),
    }
    chain = optax.chain(
        directions[inner](),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(rate),
    )
    mask = all_but(*exempt) if exempt else weights_only
    if bits is None:
        return optax.with_extra_args_support(optax.chain(chain, kept_in_box(clip, mask)))
    return loss_aware_quantization(
        chain,
        bits,
        levels=levels,
        solver=solver,
        axis=-1 if per == "channel" and group is None else None,
        group=group,
        iterations=iterations,
        curvature="moment" if weighted else None,
        b2=b2,
        eps=eps,
        clip=clip,
        mask=mask,
    )


def kept_in_box(
    clip: float | None, mask: Callable[[Any], Any] = weights_only
) -> optax.GradientTransformationExtraArgs:
    """Cuts updates so that the parameters of `mask` stay in [-clip, clip]; None: everywhere."""
    if clip is not None and not clip > 0:
        raise ValueError(f"clip = {clip} must be positive, or None for no projection")

    def update(updates, state, params=None, **extra):
        del extra
        if clip is None:
            return updates, state
        cut = jax.tree.map(
            lambda u, p, q: jnp.clip(p + u, -clip, clip) - p if q else u,
            updates,
            params,
            mask(params),
        )
        return cut, state

    return optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)
