"""LM-HALP: HALP for linear models with nothing but integers in the inner loop."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lpml.formats import Fixed
from lpml.optim.bit_centering import adapted_mu, as_anchor, cast_like, saturated_share, spacing
from lpml.optim.periodic import PeriodicTransformation, Refreshed, periodic, require_key
from lpml.optim.svrg import not_yet_known


class LMHALPState(NamedTuple):
    """State of `lm_halp`: d inputs, K outputs, N samples; single-leaf trees of shape (d, K)."""

    step: jax.Array  # () int32, steps taken
    anchor: optax.Params  # float64 if x64 is enabled, else the parameters' dtype
    codes: optax.Params  # z: int8 up to 8 bits, int16 up to 16
    scale: optax.Params  # (), anchor dtype: spacing s of z
    step_grad: optax.Updates  # h = alpha full_grad in codes of spacing s_g, int16 or int32
    full_grad: optax.Updates  # anchor dtype
    outputs: jax.Array  # (N, K) float32: phi_i = x_i . anchor, cached once per epoch
    mu: jax.Array  # () float32
    saturated: jax.Array  # () float32: z and gamma codes clipped since the last recentering
    peak: jax.Array  # () float32: largest |z| code since the last recentering
    widest: jax.Array  # () int32: largest |gamma x + h| so far, to be within the wide word


def lm_halp(
    learning_rate: float,
    *,
    inner_steps: int,
    samples: int,
    input_scale: float | None,
    bits: int = 8,
    input_bits: int = 8,
    mu: float | Literal["auto"] = "auto",
    weight_decay: float = 0.0,
) -> PeriodicTransformation:
    r"""The all-integer form of HALP for losses :math:`l_i(x_i \cdot w)`.

    With the anchor's outputs :math:`\phi_i = x_i \cdot \tilde w` cached, a step is one integer
    dot product, one scalar and one integer axpy:

    .. math::
      \gamma = Q_{s_p}\big(\alpha (l_i'(\phi_i + x_i \cdot z) - l_i'(\phi_i))\big), \qquad
      z \leftarrow Q_{s}\big(z - (\gamma x_i + h)\big), \qquad
      h = Q_{s_g}(\alpha \nabla f(\tilde w)).

    Products live on the spacing :math:`s_g = s_x s_p = s / 2^{b_x}` in words of twice the width
    whose sums saturate; the dot product is summed in 32 bits.

    Args:
      learning_rate: step size alpha, a constant: it is baked into h for an epoch.
      inner_steps: steps T between two recenterings.
      samples: N, the number of training samples.
      input_scale: spacing s_x of the inputs' grid; the inputs must lie on it.
      bits: width of z and of gamma, 4 to 16.
      input_bits: width of the inputs, 4 to 16.
      mu: see `halp`.
      weight_decay: not supported by the integer step: must be 0.

    Returns:
      A `PeriodicTransformation`. `update` needs the extras `key`, `batch` (with `x` (B, d) and
      `index` (B,)) and `output_difference_fn(phi, delta, batch)`, the change of the loss's
      derivative by the outputs; `refresh` needs `outputs_fn(params)`, all outputs (N, K).

    References:
      De Sa et al., arXiv 1803.03383, section 5 (LM-HALP).
    """
    if input_scale is None:
        raise ValueError("lm_halp needs inputs on an integer grid: set data.input_bits")
    if not (4 <= bits <= 16 and 4 <= input_bits <= 16):
        raise ValueError(f"bits = {bits} and input_bits = {input_bits} must be 4 to 16")
    if weight_decay:
        raise ValueError("lm_halp has no weight_decay; put the L2 term into the model's `l2`")
    if isinstance(mu, str) and mu != "auto":
        raise ValueError(f'mu = {mu!r} must be a positive number or "auto"')
    code, wide = Fixed(1.0, bits), Fixed(1.0, 2 * bits)
    # s / s_g = 2^shift. Up to 15 bits z 2^shift fills a word of twice the width, and sums
    # saturate there, beyond the box that z is clipped to anyway; 16 bits keep two bits free.
    shift = min(input_bits, 30 - bits)
    product_dtype = jnp.int32
    ends = (-(2 ** (2 * bits - 1)), 2 ** (2 * bits - 1) - 1)

    def saturate(value):
        return jnp.clip(value, *ends)

    def init(params):
        (leaf,) = jax.tree.leaves(params)
        zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, code.code_dtype), params)
        anchor = as_anchor(params)
        return LMHALPState(
            step=jnp.zeros((), jnp.int32),
            anchor=anchor,
            codes=zeros,
            scale=jax.tree.map(lambda a: jnp.zeros((), a.dtype), anchor),
            step_grad=jax.tree.map(lambda p: jnp.zeros(p.shape, wide.code_dtype), params),
            full_grad=not_yet_known(anchor),
            outputs=jnp.full((samples, leaf.shape[1]), jnp.nan, jnp.float32),
            mu=jnp.asarray(1.0 if isinstance(mu, str) else mu, jnp.float32),
            saturated=jnp.zeros((), jnp.float32),
            peak=jnp.zeros((), jnp.float32),
            widest=jnp.zeros((), jnp.int32),
        )

    def inner_update(grads, state, params, *, batch, output_difference_fn, key=None, **_):  # noqa: ARG001
        gamma_key, z_key = jax.random.split(require_key(key, "lm_halp"))
        (z,), tree = jax.tree.flatten(state.codes)
        (s,), (h,) = jax.tree.leaves(state.scale), jax.tree.leaves(state.step_grad)
        x = jnp.round(batch["x"] / input_scale).astype(_int_dtype(input_bits))
        if len(x) << (bits + input_bits - 2) > 2**30:
            raise ValueError(f"a batch of {len(x)} can overflow the 32-bit sums of lm_halp")
        s32 = s.astype(jnp.float32)
        dot = jnp.matmul(x, z, preferred_element_type=product_dtype)  # (B, K) integers
        delta = dot.astype(jnp.float32) * (s32 * jnp.float32(input_scale))
        phi = state.outputs[batch["index"]]
        beta = learning_rate * output_difference_fn(phi, delta, batch) / len(x)
        # in units of s_p = s_g / s_x
        unit = jnp.where(s32 > 0, s32 * 2.0**-shift / input_scale, 1)
        gamma = Fixed(unit, bits).encode(beta, "stochastic", key=gamma_key)
        move = jnp.matmul(x.T, gamma, preferred_element_type=product_dtype) + h
        raw = (z.astype(product_dtype) << shift) - move
        target = saturate(raw)
        # an arithmetic shift after adding uniform low bits: stochastic rounding in integers
        low = jax.random.bits(z_key, target.shape, jnp.uint32) >> (32 - shift)
        free = saturate(target + low.astype(product_dtype)) >> shift
        high_end = 2 ** (bits - 1) - 1
        new_z = jnp.clip(free, -high_end - 1, high_end)
        codes = tree.unflatten([new_z.astype(code.code_dtype)])
        clipped = jnp.sum((new_z != free) | (target != raw), dtype=jnp.float32)
        clipped += jnp.sum(jnp.abs(gamma.astype(product_dtype)) >= high_end, dtype=jnp.float32)
        updates = jax.tree.map(
            lambda a, step, q, p: (a + step * q.astype(a.dtype)).astype(p.dtype) - p,
            state.anchor, state.scale, codes, params,
        )  # fmt: skip
        # a NaN has no integer code: carry it to the parameters, where the loop sees it
        updates = jax.tree.map(lambda u: u + jnp.sum(beta * 0).astype(u.dtype), updates)
        return updates, state._replace(
            step=state.step + 1,
            codes=codes,
            saturated=state.saturated + clipped,
            peak=jnp.maximum(state.peak, jnp.max(jnp.abs(new_z)).astype(jnp.float32)),
            widest=jnp.maximum(state.widest, jnp.max(jnp.abs(move))),
        )

    def refresh(state, params, *, full_grad_fn, outputs_fn, key=None, **_):
        anchor = jax.tree.map(
            lambda a, s, z: a + s * z.astype(a.dtype), state.anchor, state.scale, state.codes
        )
        full_grad = cast_like(full_grad_fn(anchor), anchor)
        new_mu = state.mu
        if isinstance(mu, str):
            adapted = adapted_mu(state, code, inner_steps)
            new_mu = jnp.where(state.step == 0, state.mu, adapted)
        grid = spacing(full_grad, new_mu, code, per_leaf=False)
        step_grad = jax.tree.map(
            lambda g, s: Fixed(s * 2.0**-shift, 2 * bits).encode(
                learning_rate * g, "stochastic", key=require_key(key, "lm_halp")
            ),
            full_grad,
            grid,
        )
        state = state._replace(
            anchor=anchor,
            codes=jax.tree.map(jnp.zeros_like, state.codes),
            scale=grid,
            step_grad=step_grad,
            full_grad=full_grad,
            outputs=outputs_fn(anchor).astype(jnp.float32),
            mu=new_mu,
            saturated=jnp.zeros((), jnp.float32),
            peak=jnp.zeros((), jnp.float32),
        )
        return Refreshed(cast_like(anchor, params), state)

    def report(state):
        return {
            "halp/saturated": saturated_share(state, inner_steps),
            "halp/peak_code": state.peak / code.limits()[1],
            "halp/scale": jnp.stack(jax.tree.leaves(state.scale)).max(),
            "halp/mu": state.mu,
            "halp/widest_accumulator": state.widest,
        }

    return periodic(init, inner_update, every=inner_steps, refresh=refresh, report=report)


def _int_dtype(bits: int) -> jnp.dtype:
    return Fixed(1.0, bits).code_dtype
