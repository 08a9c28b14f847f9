"""HALP: SVRG whose few-bit codes hold only the offset from an anchor, and shrink with it."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lpml.formats import Fixed, check_mode, round_to_integer
from lpml.optim.bit_centering import (
    as_anchor,
    cast_like,
    check_mu,
    first_mu,
    iterate,
    next_mu,
    recentred,
    report,
    spacing,
)
from lpml.optim.periodic import (
    PeriodicTransformation,
    Refreshed,
    check_learning_rate,
    learning_rate_at,
    periodic,
    require_key,
)
from lpml.optim.svrg import check_option, not_yet_known

SCALES = ("global", "leaf")


class HALPState(NamedTuple):
    """State of `halp`; P parameters, trees shaped like the parameters.

    The iterate is anchor + scale * codes; the visible parameters are that sum in their own
    dtype. With float32 parameters and 8 bits the state takes 9 P bytes (SVRG and Adam: 8 P);
    with x64 enabled the anchor and the gradient are float64 and it takes 17 P.
    """

    step: jax.Array  # () int32, steps taken
    anchor: optax.Params  # float64 if x64 is enabled, else the parameters' dtype
    codes: optax.Params  # int8 up to 8 bits, int16 up to 16, int32 above
    scale: optax.Params  # () per leaf, anchor dtype: spacing of the offset's grid
    full_grad: optax.Updates  # anchor dtype: gradient of the whole objective at the anchor
    mu: jax.Array  # () float32: the box reaches ||full_grad|| / mu
    saturated: jax.Array  # () float32: coordinates clipped since the last recentering
    peak: jax.Array  # () float32: largest |code| since the last recentering
    chosen: optax.Params | None  # option II: codes of the iterate that becomes the anchor
    chosen_at: jax.Array  # () int32, the inner step those codes belong to


def halp(
    learning_rate: optax.ScalarOrSchedule,
    *,
    inner_steps: int,
    bits: int | jax.Array = 8,
    mu: float | jax.Array | Literal["auto"] = "auto",
    scale: str = "global",
    rounding: str = "stochastic",
    option: str = "I",
    rescale: bool = True,
    weight_decay: float | jax.Array = 0.0,
    inner_dtype: jax.typing.DTypeLike = "float32",
) -> PeriodicTransformation:
    r"""High-accuracy low-precision training: bit-centred low-precision SVRG.

    Every `inner_steps` steps the anchor moves to the iterate and the grid is respaced,

    .. math:: s = \|\nabla f(\tilde w)\| / (\mu (2^{b-1} - 1)), \qquad z = 0,

    and each step moves the offset z, held as `bits`-bit codes on that grid:

    .. math::
      z \leftarrow Q_{s,b}\big(z - \alpha (\nabla f_i(\tilde w + z) - \nabla f_i(\tilde w)
          + \nabla f(\tilde w))\big).

    As the gradient shrinks so do the grid and its rounding noise: no floor at fixed bits.

    Args:
      learning_rate: step size alpha, or a schedule of the step count.
      inner_steps: steps T between two recenterings; 2 N / batch size is customary.
      bits: width of a code, 2 to 32. May be traced (codes are then int32). Beyond 24 bits
        codes are exact only with `inner_dtype="float64"`.
      mu: sets the box ||grad|| / mu the offset can reach, > 0. Strong convexity's constant is
        safe and slow; larger is finer until codes saturate. `"auto"` starts at 1, halves when
        more than one code in a thousand saturated since the last recentering, and grows by at
        most 2 when less than 60% of the range was used (not in the paper).
      scale: `"global"`: one spacing from the norm of the whole gradient (the theorem's);
        `"leaf"`: one per leaf from its own norm (deep networks; the HALP code), never below a
        tenth of the global one. Per leaf, mu should shrink like 1/sqrt(number of leaves).
      rounding: see `lpml.formats.round_to_integer`. With anything but `"stochastic"` the
        small steps are lost: nothing moves.
      option: `"I"`: the anchor moves to the last iterate; `"II"`: to a random one.
      rescale: False keeps the first spacing for ever, for ablation.
      weight_decay: factor of the L2 term (weight_decay / 2) ||w||^2, applied to the whole
        weight, anchor and offset.
      inner_dtype: dtype of the step's arithmetic in units of s; float32 holds every code
        exactly and loses nothing against float64.

    Returns:
      A `PeriodicTransformation`. `update` needs the extras `key` (stochastic rounding) and
      `grad_fn(params)`, the gradient of the same batch at other parameters; given
      `gradient_difference_fn(anchor, offset)` it uses that instead, which avoids the
      cancellation of two close gradients. The truth is in the state: parameters changed by
      anything else are overwritten at the next step.

    References:
      De Sa et al., High-accuracy low-precision training, arXiv 1803.03383, algorithm 3.
    """
    if scale not in SCALES:
        raise ValueError(f"scale {scale!r} does not exist; choose from {', '.join(SCALES)}")
    check_learning_rate(learning_rate)
    check_mu(mu)
    check_mode(rounding)
    check_option(option)
    code = Fixed(1.0, bits)

    def init(params):
        anchor = as_anchor(params)
        zeros = jax.tree.map(lambda p: jnp.zeros(jnp.shape(p), code.code_dtype), params)
        return HALPState(
            step=jnp.zeros((), jnp.int32),
            anchor=anchor,
            codes=zeros,
            scale=jax.tree.map(lambda a: jnp.zeros((), a.dtype), anchor),
            full_grad=not_yet_known(anchor),
            mu=first_mu(mu),
            saturated=jnp.zeros((), jnp.float32),
            peak=jnp.zeros((), jnp.float32),
            chosen=jax.tree.map(jnp.copy, zeros) if option == "II" else None,
            chosen_at=jnp.zeros((), jnp.int32),
        )

    def inner_update(
        grads, state, params, *, key=None, grad_fn=None, gradient_difference_fn=None, **_
    ):
        chosen = state.chosen
        if option == "II":
            take = state.step % inner_steps == state.chosen_at
            chosen = jax.tree.map(lambda z, c: jnp.where(take, z, c), state.codes, chosen)
        offset = jax.tree.map(
            lambda z, s: z.astype(inner_dtype) * s.astype(inner_dtype), state.codes, state.scale
        )
        if gradient_difference_fn is None:
            anchor_grads = grad_fn(cast_like(state.anchor, params))
            difference = jax.tree.map(lambda g, a: g - a, grads, anchor_grads)
        else:
            difference = gradient_difference_fn(state.anchor, offset)
        difference = jax.tree.map(lambda d, z: d + weight_decay * z, difference, offset)
        rate = learning_rate_at(learning_rate, state.step)
        target = _wanted_codes(state, difference, rate.astype(inner_dtype))
        codes, saturated, peak = _round_codes(code, target, rounding, key)
        updates = jax.tree.map(
            lambda w, p: w.astype(p.dtype) - p, iterate(state, codes), params
        )
        return updates, state._replace(
            step=state.step + 1,
            codes=jax.tree.map(lambda z: z.astype(code.code_dtype), codes),
            saturated=state.saturated + saturated,
            peak=jnp.maximum(state.peak, peak),
            chosen=chosen,
        )

    def refresh(state, params, *, full_grad_fn, key=None, **_):
        first = state.step == 0
        codes = state.codes
        if option == "II":
            codes = jax.tree.map(lambda c, z: jnp.where(first, z, c), state.chosen, codes)
            drawn = jax.random.randint(require_key(key, "option II"), (), 0, inner_steps)
            state = state._replace(chosen_at=drawn.astype(jnp.int32))
        anchor = iterate(state, codes)
        full_grad = jax.tree.map(
            lambda g, a: g.astype(a.dtype) + weight_decay * a, full_grad_fn(anchor), anchor
        )
        new_mu = next_mu(mu, state, code, inner_steps)
        grid = spacing(full_grad, new_mu, code, per_leaf=scale == "leaf")
        if not rescale:
            grid = jax.tree.map(lambda new, old: jnp.where(first, new, old), grid, state.scale)
        state = recentred(state, anchor=anchor, full_grad=full_grad, mu=new_mu, scale=grid)
        return Refreshed(cast_like(anchor, params), state)

    return periodic(
        init,
        inner_update,
        every=inner_steps,
        refresh=refresh,
        report=lambda state: report(state, code, inner_steps),
    )


def _wanted_codes(state, difference, rate):
    """z - (alpha / s) (difference + full gradient): the next offset in units of the spacing."""

    def leaf(z, s, diff, full_grad):
        s = s.astype(rate.dtype)
        direction = diff.astype(rate.dtype) + full_grad.astype(rate.dtype)
        move = rate * direction / jnp.where(s > 0, s, 1)
        # spacing 0 means gradient 0: already optimal. A NaN must not be hidden by that.
        return z.astype(rate.dtype) - jnp.where((s > 0) | jnp.isnan(move), move, 0)

    return jax.tree.map(leaf, state.codes, state.scale, difference, state.full_grad)


def _round_codes(code, target, rounding, key):
    """Rounds every leaf to codes (kept as floats, so that a NaN stays visible).

    Returns the codes, how many were clipped, and the largest magnitude.
    """
    leaves, tree = jax.tree.flatten(target)
    keys = [None] * len(leaves)
    if rounding == "stochastic":
        keys = list(jax.random.split(require_key(key, "stochastic rounding"), len(leaves)))
    free = [round_to_integer(u, rounding, key=k) for u, k in zip(leaves, keys)]
    codes = [jnp.clip(z, *code.limits(z.dtype)) for z in free]
    saturated = sum(jnp.sum(z != f, dtype=jnp.float32) for z, f in zip(codes, free))
    peaks = [jnp.max(jnp.abs(z), initial=0).astype(jnp.float32) for z in codes]
    return jax.tree.unflatten(tree, codes), saturated, jnp.stack(peaks).max()
