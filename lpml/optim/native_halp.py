"""HALP of linear models whose inner steps a compiled kernel takes, all in integers."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lpml import native
from lpml.formats import Fixed, round_to_integer
from lpml.optim.bit_centering import (
    TOO_MANY_SATURATED,
    as_anchor,
    cast_like,
    first_mu,
    next_mu,
    report,
    saturated_share,
)
from lpml.optim.linear_problem import (
    LinearProblem,
    as_leaf,
    as_rows,
    flat,
    no_single_steps,
    reach_of,
    targets,
    the_leaf,
    to_codes,
)
from lpml.optim.native_gradient import full_gradient, grid_codes
from lpml.optim.offset_grid import IntegerGrid
from lpml.optim.periodic import (
    PeriodicTransformation,
    Refreshed,
    not_yet_known,
    periodic,
    require_key,
)

# Of what 16 bits hold, the part that coefficient and full gradient together are meant to use,
# where the coefficient is taken to grow by that factor over the last epoch's largest.
USED, GROWTH = 0.8, 1.5


class NativeHALPState(NamedTuple):
    """State of `halp` with the compiled kernels: d inputs, K outputs, N samples."""

    step: jax.Array  # () int32, steps taken
    anchor: optax.Params  # (d, K), float64 if x64 is enabled, else the parameters' dtype
    codes: jax.Array  # (K, stride) int8 or int16
    scale: jax.Array  # (), anchor dtype: spacing of the codes
    full_grad: optax.Updates  # (d, K), anchor dtype
    h: jax.Array  # (K, stride) int16: rate * full gradient, see `lpml.native.halp_steps`
    shift: jax.Array  # () int32, the fraction bits of h
    noise: jax.Array  # (K, chunks, 16) uint32, state of the kernels' generators
    seed: jax.Array  # (2,) uint32
    watched: jax.Array  # (8,) uint32, see `lpml.native.seen`
    predictions: jax.Array  # (N, K) float32 at the anchor; (0, K) for squared error
    outputs: jax.Array  # (N, K) float64 at the anchor; (0, K) where the inputs are on no grid
    mu: jax.Array  # () float32: the box reaches ||full_grad|| / mu
    crowded: jax.Array  # () int32, epochs in a row with too many clipped codes


class _Usage(NamedTuple):
    """How the codes were used, in the shape that `bit_centering` reads."""

    step: jax.Array
    codes: jax.Array
    scale: jax.Array
    saturated: jax.Array
    peak: jax.Array
    mu: jax.Array
    full_grad: optax.Updates


def native_halp(
    learning_rate: float,
    problem: LinearProblem,
    *,
    inner_steps: int,
    bits: int,
    mu: Any,
    weight_decay: float,
    threads: int,
) -> PeriodicTransformation:
    """`halp` with `backend="native"`; arguments as there.

    The rows are held as codes of `bits` bits for the inner steps. Where the inputs lie on a
    grid of 8 bits these are the inputs, and the full gradient is computed from them too, by
    exact integer products. Otherwise the full gradient is that of the inputs as they are, and
    the rounding of the rows is a noise that vanishes at the anchor, as the offset does.
    """
    places = native.Places(threads)
    dtype = jnp.int8 if bits == 8 else jnp.int16
    grid = IntegerGrid(Fixed(1.0, bits))
    decay = problem.l2 + weight_decay
    loss = problem.loss
    assert loss is not None

    def exact():
        return bits == 8 and problem.input_scale is not None and _x64()

    def init(params):
        leaf = the_leaf(params)
        outputs, stride = leaf.shape[1], native.stride_of(len(leaf), dtype)
        anchor = as_anchor(params)
        predicted = 0 if loss == "squared" else problem.samples
        return NativeHALPState(
            step=jnp.zeros((), jnp.int32),
            anchor=anchor,
            codes=jnp.zeros((outputs, stride), dtype),
            scale=jnp.zeros((), the_leaf(anchor).dtype),
            full_grad=not_yet_known(anchor),
            h=jnp.zeros((outputs, stride), jnp.int16),
            shift=jnp.full((), -1, jnp.int32),  # which the kernels refuse
            noise=jnp.zeros(native.noise_shape(outputs, stride), jnp.uint32),
            seed=jnp.zeros(2, jnp.uint32),
            watched=native.nothing_seen(),
            predictions=jnp.zeros((predicted, outputs), jnp.float32),
            outputs=jnp.zeros(
                (problem.samples if exact() else 0, outputs), jnp.result_type(float)
            ),
            mu=_first_mu(mu, len(leaf)),
            crowded=jnp.zeros((), jnp.int32),
        )

    def prepare(train):
        rows, scale = row_codes(train["x"], bits, problem.input_scale)
        made = {"rows": rows, "row_scale": scale, "targets": targets(train["y"], np.float64)}
        return made | ({} if exact() else grid_codes(train["x"], problem.input_scale))

    def usage(state):
        seen = native.seen(state.watched)
        codes = state.codes[:, : len(the_leaf(state.anchor))]  # padding cannot saturate
        return _Usage(
            state.step, codes, state.scale, seen.saturated, seen.peak, state.mu, state.full_grad
        )

    def inner_loop(state, params, prepared, indices, count, *, key):
        del key  # the noise is seeded by the refresh
        scale = state.scale * prepared["row_scale"]
        gain = (
            learning_rate * prepared["row_scale"] / jnp.where(state.scale > 0, state.scale, 1)
        )
        codes, noise, watched = native.halp_steps(
            state.codes,
            state.noise,
            state.watched,
            rows=prepared["rows"],
            h=state.h,
            steps=native.Steps(indices[:, 0], count, state.step),
            at_anchor=state.predictions,
            seed=state.seed,
            scalars=jnp.stack([scale, gain, learning_rate * decay]).astype(jnp.float32),
            shift=state.shift,
            loss=loss,
            places=places,
        )
        state = state._replace(
            step=state.step + count, codes=codes, noise=noise, watched=watched
        )
        return cast_like(moved(state), params), state, native.seen(watched).bad_step

    def moved(state):
        """The iterate, in the anchor's dtype."""
        features = len(the_leaf(state.anchor))
        offset = as_leaf(state.codes, features).astype(state.scale.dtype) * state.scale
        return jax.tree.map(lambda a: a + offset, state.anchor)

    def refresh(state, params, *, prepared, key=None, **over):
        anchor = moved(state)
        outputs, predictions = state.outputs, state.predictions
        if exact():
            passed = _coded_pass(state, prepared, loss, places)
            outputs = passed.outputs
            if loss != "squared":
                predictions = passed.predictions
            full_grad = jax.tree.map(
                lambda a: as_leaf(passed.gradient, len(a)) + problem.l2 * a, anchor
            )
        else:
            whole = full_gradient(anchor, problem, places, prepared=prepared, **over)
            full_grad = whole.gradient
            if whole.predictions is not None:
                predictions = whole.predictions
        full_grad = jax.tree.map(lambda g, a: g + weight_decay * a, full_grad, anchor)
        new_mu, crowded = _box(mu, usage(state), grid, inner_steps, state.crowded, full_grad)
        norm = optax.tree.norm(full_grad)
        scale = (norm / (new_mu * grid.edge(norm.dtype))).astype(state.scale.dtype)
        steps_of_code = jnp.where(scale > 0, learning_rate * the_leaf(full_grad) / scale, 0)
        h_key, noise_key, seed_key = jax.random.split(require_key(key, "native halp"), 3)
        steepest = native.seen(state.watched).steepest
        shift, unit = _fraction(
            bits, jnp.max(jnp.abs(steps_of_code)), steepest, learning_rate * decay
        )
        h = round_to_integer(steps_of_code * unit, "stochastic", key=h_key)
        h = as_rows(jnp.clip(h, -32767, 32767).astype(jnp.int16), state.codes.shape[1])
        # a generator must not start at 0, where it would stay
        noise = jax.random.bits(noise_key, state.noise.shape, jnp.uint32) | 1
        state = state._replace(
            anchor=anchor,
            codes=jnp.zeros_like(state.codes),
            scale=scale,
            full_grad=full_grad,
            h=h,
            shift=shift,
            noise=noise,
            seed=jax.random.bits(seed_key, (2,), jnp.uint32),
            watched=native.nothing_seen(),
            predictions=predictions,
            outputs=outputs,
            mu=new_mu,
            crowded=crowded,
        )
        return Refreshed(cast_like(anchor, params), state)

    def told(state):
        clipped = native.seen(state.watched).clipped
        return report(usage(state), grid, inner_steps) | {"halp/clipped_slopes": clipped}

    return periodic(
        init,
        no_single_steps,
        every=inner_steps,
        refresh=refresh,
        report=told,
        prepare=prepare,
        inner_loop=inner_loop,
    )


def row_codes(
    x: np.ndarray, bits: int, input_scale: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs as rows of codes for the kernels: (N, stride) int8 or int16, and their spacing.

    Args:
      x: (N, ...) floats, or codes of the grid `input_scale` that need not be copied.
      bits: 8 or 16.
      input_scale: the inputs' own grid; it is kept where its codes fit.
    """
    rows, dtype = flat(x), np.int8 if bits == 8 else np.int16
    if rows.dtype == dtype and input_scale is not None:
        return native.padded(rows), np.asarray(input_scale)
    # what one in `rows` stands for
    unit = 1.0 if rows.dtype.kind == "f" or input_scale is None else input_scale
    reach, largest = reach_of(rows) * unit, np.iinfo(dtype).max
    scale = reach / largest if reach else 1.0
    if input_scale is not None and reach <= (largest + 0.5) * input_scale:
        # the inputs' own grid, by 16 bits divided as finely as they allow
        fine = 0 if bits == 8 or not reach else math.floor(math.log2(input_scale / scale))
        scale = input_scale * 2.0 ** -max(fine, 0)
    width = native.stride_of(rows.shape[1], dtype)
    return to_codes(rows, scale / unit, dtype, width), np.asarray(scale)


def _coded_pass(state, prepared, loss, places):
    """The full gradient from codes; the outputs move with the offset's codes."""
    scale = prepared["row_scale"]
    rows, first = prepared["rows"], state.step == 0
    outputs = jax.lax.cond(
        first,
        lambda: _outputs_at(the_leaf(state.anchor), rows, scale),
        lambda: state.outputs,
    )
    return native.full_pass(
        state.codes,
        rows=rows,
        y=prepared["targets"],
        outputs=outputs,
        scalars=jnp.stack([scale * state.scale, scale]).astype(jnp.float64),
        loss=loss,
        places=places,
    )


def _outputs_at(weights, rows, scale):
    """Outputs (N, K) of weights (d, K) on rows of codes, a thousand samples at a time."""
    size, part = len(rows), min(1024, len(rows))
    padded = as_rows(weights, rows.shape[1]).T * scale

    def body(i, outputs):
        # the last part overlaps the one before: it is the same numbers once more
        start = jnp.minimum(i * part, size - part)
        some = jax.lax.dynamic_slice_in_dim(rows, start, part).astype(padded.dtype)
        return jax.lax.dynamic_update_slice_in_dim(outputs, some @ padded, start, 0)

    zeros = jnp.zeros((size, weights.shape[1]), padded.dtype)
    any_weight = jnp.any(weights != 0)  # linear models start at 0
    count = jnp.where(any_weight, -(-size // part), 0)
    return jax.lax.fori_loop(0, count, body, zeros)


def _first_mu(mu, features):
    """As `first_mu`, but "auto" starts at sqrt(d) / 4, at least 1.

    Of d coordinates of like size the norm is sqrt(d) times one, so that a box which the norm
    reaches is that much too wide for each; from 1 it takes "auto" five epochs to find that out
    at d = 8192, in which the gradient grows 250-fold.
    """
    if isinstance(mu, str):
        return jnp.float32(max(1.0, features**0.5 / 4))
    return first_mu(mu)


def _box(mu, used, grid, inner_steps, crowded, full_grad):
    """The next mu, and for how many epochs in a row too many codes were clipped.

    A given mu is halved when that happens twice in a row, since a run can stay caught in it,
    and comes back by doubling.
    """
    if isinstance(mu, str):
        return next_mu(mu, used, grid, inner_steps, full_grad), crowded
    full = saturated_share(used, inner_steps) > TOO_MANY_SATURATED
    crowded = jnp.where((used.step > 0) & full, crowded + 1, 0)
    back = jnp.minimum(used.mu * 2, jnp.float32(mu))
    wider = jnp.where(crowded >= 2, used.mu / 2, jnp.where(crowded == 0, back, used.mu))
    return wider, crowded


def _fraction(bits, largest, steepest, decay):
    """How fine the steps of a code are divided: the kernels' shift, and units of h in a step.

    Of 8 bits, as many fraction bits as leave room for the largest step; of 16 bits, the power
    of 2 that h stands for.
    """
    low, high = native.SHIFTS[bits]
    largest = jnp.maximum(largest.astype(jnp.float32), 2.0**-20)
    if bits == 8:
        room = USED * 2.0**15 / (GROWTH * 127 * steepest + largest)
        fraction = jnp.floor(jnp.log2(room))
        # before the first epoch nobody knows how large coefficients get
        fraction = jnp.where(steepest > 0, fraction, low)
        if decay > 0:
            fraction = jnp.minimum(fraction, jnp.floor(8 - jnp.log2(jnp.float32(decay))))
        shift = jnp.clip(fraction, low, high)
        return shift.astype(jnp.int32), jnp.exp2(shift)
    shift = jnp.clip(jnp.ceil(jnp.log2(largest * 2.0**16 / 32767)), low, high)
    return shift.astype(jnp.int32), jnp.exp2(16 - shift)


def _x64():
    return jnp.result_type(float) == jnp.float64
