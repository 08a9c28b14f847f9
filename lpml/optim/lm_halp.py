"""LM-HALP: HALP for linear models with nothing but integers in the inner loop."""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lpml.formats import Fixed, child_key
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
from lpml.optim.dither import words
from lpml.optim.offset_grid import IntegerGrid
from lpml.optim.periodic import (
    PeriodicTransformation,
    Refreshed,
    check_learning_rate,
    not_yet_known,
    periodic,
    require_key,
)


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
    l2: float = 0.0,
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
      l2: factor of the L2 term (l2 / 2) ||w||^2 that the objective has; in a config it is the
        model's. Acts on z by an integer product, on the anchor through the full gradient.

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
    if isinstance(learning_rate, (int, float)) and not 0 <= learning_rate * l2 < 1:
        raise ValueError(f"learning_rate * l2 = {learning_rate * l2} must be 0 to 1")
    check_learning_rate(learning_rate)
    check_mu(mu)
    arithmetic = _Words(bits, input_bits)
    grid = IntegerGrid(Fixed(1.0, bits))

    def init(params):
        leaves = jax.tree.leaves(params)
        if len(leaves) != 1 or leaves[0].ndim != 2:
            raise ValueError("lm_halp trains linear models without bias: one (d, K) matrix")
        (leaf,) = leaves
        anchor = as_anchor(params)
        wide = Fixed(1.0, 2 * bits).code_dtype
        return LMHALPState(
            step=jnp.zeros((), jnp.int32),
            anchor=anchor,
            codes=jax.tree.map(lambda p: grid.origin(p.shape), params),
            scale=jax.tree.map(lambda a: jnp.zeros((), a.dtype), anchor),
            step_grad=jax.tree.map(lambda p: jnp.zeros(p.shape, wide), params),
            full_grad=not_yet_known(anchor),
            outputs=jnp.full((samples, leaf.shape[1]), jnp.nan, jnp.float32),
            mu=first_mu(mu),
            saturated=jnp.zeros((), jnp.float32),
            peak=jnp.zeros((), jnp.float32),
            widest=jnp.zeros((), jnp.int32),
        )

    def inner_update(grads, state, params, *, batch, output_difference_fn, key=None, **_):
        del grads  # the integers below stand for it
        key = require_key(key, "lm_halp")
        gamma_key, decay_key, z_key = (child_key(key, i) for i in range(3))
        (z,), tree = jax.tree.flatten(state.codes)
        (s,), (h,) = jax.tree.leaves(state.scale), jax.tree.leaves(state.step_grad)
        s = s.astype(jnp.float32)
        x = arithmetic.inputs(batch["x"], input_scale)
        delta = arithmetic.product(x, z).astype(jnp.float32) * (s * jnp.float32(input_scale))
        phi = state.outputs[batch["index"]]
        beta = learning_rate * output_difference_fn(phi, delta, batch) / len(x)
        unit = jnp.where(s > 0, s * 2.0**-arithmetic.shift / input_scale, 1)  # s_p = s_g / s_x
        gamma = Fixed(unit, bits).encode(beta, "stochastic", bits=words(gamma_key, beta.shape))
        move = arithmetic.product(x.T, gamma) + h
        if l2:
            move = move + arithmetic.scaled(z, learning_rate * l2, decay_key)
        new_z, clipped = arithmetic.subtract(z, move, z_key)
        clipped += jnp.sum(
            jnp.abs(gamma.astype(jnp.int32)) >= arithmetic.largest, dtype=jnp.float32
        )
        codes = tree.unflatten([grid.encode(new_z)])
        # a NaN has no integer code: carry it to the parameters, where the loop sees it
        alarm = jnp.sum(beta * 0)
        updates = jax.tree.map(
            lambda w, p: w.astype(p.dtype) - p + alarm.astype(p.dtype),
            iterate(state, codes),
            params,
        )
        return updates, state._replace(
            step=state.step + 1,
            codes=codes,
            saturated=state.saturated + clipped,
            peak=jnp.maximum(state.peak, jnp.max(jnp.abs(new_z)).astype(jnp.float32)),
            widest=jnp.maximum(state.widest, jnp.max(jnp.abs(move))),
        )

    def refresh(state, params, *, full_grad_fn, outputs_fn, key=None, **_):
        anchor = iterate(state, state.codes)
        full_grad = cast_like(full_grad_fn(anchor), anchor)
        new_mu = next_mu(mu, state, grid, inner_steps, full_grad)
        scale = spacing(full_grad, new_mu, grid, per_leaf=False)
        step_grad = jax.tree.map(
            lambda g, s: Fixed(s * 2.0**-arithmetic.shift, 2 * bits).encode(
                learning_rate * g, "stochastic", key=require_key(key, "lm_halp")
            ),
            full_grad,
            scale,
        )
        state = recentred(
            state, grid, anchor=anchor, full_grad=full_grad, mu=new_mu, scale=scale
        )
        state = state._replace(
            step_grad=step_grad, outputs=outputs_fn(anchor).astype(jnp.float32)
        )
        return Refreshed(cast_like(anchor, params), state)

    def report_with_width(state):
        return report(state, grid, inner_steps) | {"halp/widest_accumulator": state.widest}

    return periodic(
        init, inner_update, every=inner_steps, refresh=refresh, report=report_with_width
    )


@dataclasses.dataclass(frozen=True)
class _Words:
    """The integer arithmetic of a step, on words of `bits` and of twice that."""

    bits: int
    input_bits: int

    @property
    def shift(self) -> int:
        """s / s_g = 2^shift.

        Up to 15 bits z 2^shift fills a word of twice the width, and sums saturate there, beyond
        the box that z is clipped to anyway; 16 bits keep two bits of 32 free.
        """
        return min(self.input_bits, 30 - self.bits)

    @property
    def largest(self) -> int:
        return 2 ** (self.bits - 1) - 1

    def inputs(self, x: jax.Array, input_scale: float) -> jax.Array:
        """The codes of inputs (B, d), exact because they lie on the grid."""
        if len(x) << (self.bits + self.input_bits - 2) > 2**30:
            raise ValueError(f"a batch of {len(x)} can overflow the 32-bit sums of lm_halp")
        codes = x if jnp.issubdtype(x.dtype, jnp.integer) else jnp.round(x / input_scale)
        return codes.astype(Fixed(1.0, self.input_bits).code_dtype)

    def product(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """Integer matrix product, summed in 32 bits."""
        return jnp.matmul(a, b, preferred_element_type=jnp.int32)

    def scaled(self, z: jax.Array, factor: float, key: jax.Array) -> jax.Array:
        """factor * z in units of s_g, by a product with an integer and a rounding shift."""
        low = 30 - self.bits - self.shift  # what fits above a code in 31 bits
        multiplier = jnp.round(factor * 2.0 ** (self.shift + low)).astype(jnp.int32)
        return _shift_right(z.astype(jnp.int32) * multiplier, low, key)

    def subtract(
        self, z: jax.Array, move: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """z - move / 2^shift, stochastically rounded and clipped; and how many were clipped."""
        raw = (z.astype(jnp.int32) << self.shift) - move
        top = 2 ** (2 * self.bits - 1) - 1
        target = jnp.clip(raw, -top - 1, top)
        free = _shift_right(target, self.shift, key)
        new = jnp.clip(free, -self.largest - 1, self.largest)
        return new, jnp.sum((new != free) | (target != raw), dtype=jnp.float32)


def _shift_right(value, by, key):
    """Stochastic rounding in integers: add uniform low bits, then shift arithmetically."""
    if not by:
        return value
    low = words(key, value.shape) >> (32 - by)
    return (value + low.astype(jnp.int32)) >> by
