"""HALP: SVRG whose few-bit codes hold only the offset from an anchor, and shrink with it."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lpml.formats import Format, check_mode
from lpml.native import Backend
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
from lpml.optim.dither import leaf_keys
from lpml.optim.linear_problem import LinearProblem, constants, takes_kernels
from lpml.optim.native_halp import native_halp
from lpml.optim.offset_grid import offset_grid
from lpml.optim.periodic import (
    PeriodicTransformation,
    Refreshed,
    check_learning_rate,
    check_weight_decay,
    learning_rate_at,
    not_yet_known,
    periodic,
    require_key,
)
from lpml.optim.svrg import check_option
from lpml.quant import difference as difference_through_layers
from lpml.quant import offset_format

SCALES = ("global", "leaf")


class HALPState(NamedTuple):
    """State of `halp`; P parameters, trees shaped like the parameters.

    The iterate is anchor + scale * values of the codes; the visible parameters are that sum in
    their own dtype. With float32 parameters and 8 bits the state takes 9 P bytes (SVRG and
    Adam: 8 P); with x64 enabled the anchor and the gradient are float64 and it takes 17 P.
    """

    step: jax.Array  # () int32, steps taken
    anchor: optax.Params  # float64 if x64 is enabled, else the parameters' dtype
    codes: optax.Params  # int8 up to 8 bits, int16 up to 16, int32 above; a format's own type
    scale: optax.Params  # () per leaf, anchor dtype: spacing, the offset is scale * value
    full_grad: optax.Updates  # anchor dtype: gradient of the whole objective at the anchor
    mu: jax.Array  # () float32: the box reaches ||full_grad|| / mu
    saturated: jax.Array  # () float32: coordinates wanted beyond the box since recentering
    peak: jax.Array  # () float32: largest |value| since the last recentering
    chosen: optax.Params | None  # option II: codes of the iterate that becomes the anchor
    chosen_at: jax.Array  # () int32, the inner step those codes belong to


def halp(
    learning_rate: optax.ScalarOrSchedule,
    *,
    inner_steps: int,
    bits: int | jax.Array | None = None,
    format: str | Format | None = None,
    mu: float | jax.Array | Literal["auto"] = "auto",
    scale: str = "global",
    rounding: str = "stochastic",
    option: str = "I",
    rescale: bool = True,
    weight_decay: float | jax.Array = 0.0,
    inner_dtype: jax.typing.DTypeLike = "float32",
    layer_offsets: str | None = None,
    backend: Backend = "jax",
    threads: int = 1,
    problem: LinearProblem | None = None,
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
      bits: width of a fixed-point code, 2 to 32; 8 by default. May be traced (codes are then
        int32). Beyond 24 bits codes are exact only with `inner_dtype="float64"`.
      format: what the offset's values are if not integers: `"posit8"`, `"e4m3fn"`, any
        elementwise format of `lpml.formats` or its name. Its codes are the state. The box ends
        at its largest value, and for posits at 2^(2^es), see `box_edge`; offsets beyond that
        count as saturated, although wider formats still hold them. Formats that scale blocks
        are refused: a block's scale that moves would round all of the block again.
      mu: sets the box ||grad|| / mu the offset can reach, > 0. Strong convexity's constant is
        safe and slow; larger is finer until codes saturate. `"auto"` starts at 1, halves when
        more than one code in a thousand saturated since the last recentering, and grows by at
        most 2 when range lies idle, hardly a code is clipped, or the gradient grew (not in the
        paper). With the kernels a given mu is halved, too, while more than one code in a
        thousand saturates two epochs in a row, and doubles back to what was given.
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
      layer_offsets: what a network's layers pass on, forward and backward, when only the
        offset goes through them (`lpml.quant.difference`): "float32", or the few bits of
        "float16", "bfloat16", "e4m3fn", "int8" (see `lpml.quant.offset_format`). None: the
        model's `gradient_difference_fn` if it has one, else two gradients are subtracted.
      backend: who takes the inner steps. `"jax"`: any model, one step at a time. `"native"`:
        compiled integer kernels for linear models on the CPU, one sample a step, 8 or 16
        bits, many steps a call (see `native_halp`); of the paths it is the fast one. `"auto"`:
        the kernels where they can, JAX elsewhere.
      threads: of the kernels, 1 to 64; the codes do not tell how many.
      problem: the linear model, for the kernels; a config fills it in.

    Returns:
      A `PeriodicTransformation`. `update` needs the extras `key` (stochastic rounding) and
      `grad_fn(params)`, the gradient of the same batch at other parameters; given
      `gradient_difference_fn(anchor, offset)` it uses that instead, which avoids the
      cancellation of two close gradients, as `layer_offsets` does for any `grad_fn`. The truth
      is in the state: parameters changed by anything else are overwritten at the next step.

    References:
      De Sa et al., High-accuracy low-precision training, arXiv 1803.03383, algorithm 3.
    """
    if scale not in SCALES:
        raise ValueError(f"scale {scale!r} does not exist; choose from {', '.join(SCALES)}")
    check_learning_rate(learning_rate)
    check_mu(mu)
    check_mode(rounding)
    check_option(option)
    check_weight_decay(weight_decay)
    offset_format(layer_offsets)
    reasons = [
        None if format is None else f"they hold integers, not format {format}",
        None if _is_any(bits, None, 8, 16) else f"they hold 8 or 16 bits, not {bits}",
        None if rounding == "stochastic" else f"they do not round by {rounding!r}",
        None if option == "I" else "they have no option II",
        None if rescale else "they have no scale that stays",
        None if layer_offsets is None else "they have no layers",
        *constants(learning_rate=learning_rate, weight_decay=weight_decay),
        *(() if isinstance(mu, str) else constants(mu=mu)),
    ]
    if takes_kernels(backend, problem, threads, reasons):
        assert problem is not None
        return native_halp(
            float(learning_rate),
            problem,
            inner_steps=inner_steps,
            bits=int(8 if bits is None else bits),
            mu=mu,
            weight_decay=float(weight_decay),
            threads=threads,
        )
    grid = offset_grid(format, bits)

    def init(params):
        anchor = as_anchor(params)
        zeros = jax.tree.map(lambda p: grid.origin(jnp.shape(p)), params)
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
        grads, state, params, *,
        key=None, grad_fn=None, gradient_difference_fn=None, value=None, **_,
    ):  # fmt: skip
        chosen = state.chosen
        if option == "II":
            take = state.step % inner_steps == state.chosen_at
            chosen = jax.tree.map(lambda z, c: jnp.where(take, z, c), state.codes, chosen)
        values = jax.tree.map(lambda z: grid.decode(z, inner_dtype), state.codes)
        offset = jax.tree.map(lambda z, s: z * s.astype(inner_dtype), values, state.scale)
        if layer_offsets is not None:
            difference = difference_through_layers(
                grad_fn, cast_like(state.anchor, params), offset, format=layer_offsets
            )
        elif gradient_difference_fn is None:
            anchor_grads = grad_fn(cast_like(state.anchor, params))
            difference = jax.tree.map(lambda g, a: g - a, grads, anchor_grads)
        else:
            difference = gradient_difference_fn(state.anchor, offset)
        difference = jax.tree.map(lambda d, z: d + weight_decay * z, difference, offset)
        rate = learning_rate_at(learning_rate, state.step)
        target = _wanted(state, values, difference, rate.astype(inner_dtype))
        values, saturated, peak = _round(grid, target, rounding, key, value)
        updates = jax.tree.map(
            lambda w, p: w.astype(p.dtype) - p, iterate(state, values), params
        )
        return updates, state._replace(
            step=state.step + 1,
            codes=jax.tree.map(grid.encode, values),
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
        anchor = iterate(
            state,
            jax.tree.map(lambda z, a: grid.decode(z, a.dtype), codes, state.anchor),
        )
        full_grad = jax.tree.map(
            lambda g, a: g.astype(a.dtype) + weight_decay * a, full_grad_fn(anchor), anchor
        )
        new_mu = next_mu(mu, state, grid, inner_steps, full_grad)
        spaced = spacing(full_grad, new_mu, grid, per_leaf=scale == "leaf")
        if not rescale:
            spaced = jax.tree.map(
                lambda new, old: jnp.where(first, new, old), spaced, state.scale
            )
        state = recentred(
            state, grid, anchor=anchor, full_grad=full_grad, mu=new_mu, scale=spaced
        )
        return Refreshed(cast_like(anchor, params), state)

    return periodic(
        init,
        inner_update,
        every=inner_steps,
        refresh=refresh,
        report=lambda state: report(state, grid, inner_steps),
    )


def _is_any(value, *options):
    """Whether it is one of the options; not where it is traced."""
    return not isinstance(value, jax.Array) and value in options


def _wanted(state, values, difference, rate):
    """z - (alpha / s) (difference + full gradient): the next offset in units of the spacing."""

    def leaf(z, s, diff, full_grad):
        s = s.astype(rate.dtype)
        direction = diff.astype(rate.dtype) + full_grad.astype(rate.dtype)
        move = rate * direction / jnp.where(s > 0, s, 1)
        # spacing 0 means gradient 0: already optimal. A NaN must not be hidden by that.
        return z - jnp.where((s > 0) | jnp.isnan(move), move, 0)

    return jax.tree.map(leaf, values, state.scale, difference, state.full_grad)


def _round(grid, target, rounding, key, value):
    """Rounds every leaf to the grid, after the loss of the step where that is known.

    Returns the values, how many were wanted beyond the edge, and the largest magnitude.
    """
    leaves, tree = jax.tree.flatten(target)
    keys = leaf_keys(rounding, key, len(leaves))
    rounded = [grid.round(u, rounding, key=k, after=value) for u, k in zip(leaves, keys)]
    values = [r.values for r in rounded]
    beyond = sum(r.beyond for r in rounded).astype(jnp.float32)
    peak = jnp.stack([r.peak.astype(jnp.float32) for r in rounded]).max()
    return jax.tree.unflatten(tree, values), beyond, peak
