"""SVRG and SGD of linear models whose steps a compiled kernel takes, in float32."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lpml import native
from lpml.optim.bit_centering import as_anchor, cast_like
from lpml.optim.linear_problem import (
    LinearProblem,
    as_leaf,
    as_rows,
    flat,
    no_single_steps,
    targets,
    the_leaf,
)
from lpml.optim.native_gradient import full_gradient, grid_codes
from lpml.optim.periodic import PeriodicTransformation, Refreshed, not_yet_known, periodic
from lpml.optim.reporting import ReportingTransformation


class NativeSVRGState(NamedTuple):
    """State of `svrg` with the compiled kernels: d inputs, K outputs, N samples."""

    step: jax.Array  # () int32, steps taken
    anchor: optax.Params  # (d, K), float64 if x64 is enabled, else the parameters' dtype
    offset: jax.Array  # (K, stride) float32, the iterate is anchor + offset
    full_grad: optax.Updates  # (d, K), anchor dtype
    h: jax.Array  # (K, stride) float32: rate * full gradient
    predictions: jax.Array  # (N, K) float32 at the anchor; (0, K) for squared error
    watched: jax.Array  # (8,) uint32, see `lpml.native.seen`


def native_svrg(
    learning_rate: float,
    problem: LinearProblem,
    *,
    inner_steps: int,
    weight_decay: float,
    threads: int,
) -> PeriodicTransformation:
    """`svrg` with `backend="native"`; arguments as there.

    The kernels hold the offset from the anchor in float32, as HALP holds it in codes: its
    rounding shrinks with it, so that the accuracy is the anchor's and the full gradient's.
    """
    places = native.Places(threads)
    loss, decay = problem.loss, problem.l2 + weight_decay
    assert loss is not None

    def init(params):
        leaf = the_leaf(params)
        shape = (leaf.shape[1], native.stride_of(len(leaf), jnp.float32))
        anchor = as_anchor(params)
        samples = 0 if loss == "squared" else problem.samples
        return NativeSVRGState(
            step=jnp.zeros((), jnp.int32),
            anchor=anchor,
            offset=jnp.zeros(shape, jnp.float32),
            full_grad=not_yet_known(anchor),
            h=jnp.full(shape, jnp.nan, jnp.float32),  # a forgotten refresh must be seen
            predictions=jnp.zeros((samples, shape[0]), jnp.float32),
            watched=native.nothing_seen(),
        )

    def prepare(train):
        rows = float_rows(train, input_scale=problem.input_scale)
        return rows | grid_codes(train["x"], problem.input_scale)

    def moved(state):
        """The iterate, in the anchor's dtype."""
        return jax.tree.map(
            lambda a: a + as_leaf(state.offset, len(a)).astype(a.dtype), state.anchor
        )

    def inner_loop(state, params, prepared, indices, count, *, key):
        del key
        offset, watched = native.float_steps(
            state.offset,
            state.watched,
            rows=prepared["rows"],
            h=state.h,
            steps=native.Steps(indices[:, 0], count, state.step),
            at_anchor=state.predictions,
            y=prepared["targets"],
            scalars=jnp.array([learning_rate, 1 - learning_rate * decay], jnp.float32),
            loss=loss,
            places=places,
        )
        state = state._replace(step=state.step + count, offset=offset, watched=watched)
        return cast_like(moved(state), params), state, native.seen(watched).bad_step

    def refresh(state, params, *, key=None, **over):
        del key
        anchor = moved(state)
        passed = full_gradient(anchor, problem, places, **over)
        full_grad = jax.tree.map(lambda g, a: g + weight_decay * a, passed.gradient, anchor)
        h = learning_rate * the_leaf(full_grad)
        if passed.predictions is not None:
            state = state._replace(predictions=passed.predictions)
        state = state._replace(
            anchor=anchor,
            offset=jnp.zeros_like(state.offset),
            full_grad=full_grad,
            h=as_rows(h, state.h.shape[1]).astype(jnp.float32),
            watched=native.nothing_seen(),
        )
        return Refreshed(cast_like(anchor, params), state)

    return periodic(
        init,
        no_single_steps,
        every=inner_steps,
        refresh=refresh,
        prepare=prepare,
        inner_loop=inner_loop,
    )


class NativeSGDState(NamedTuple):
    """State of `sgd` with the compiled kernels."""

    step: jax.Array  # () int32, steps taken
    weights: jax.Array  # (K, stride) float32
    watched: jax.Array  # (8,) uint32, see `lpml.native.seen`


def native_sgd(
    learning_rate: float, problem: LinearProblem, *, weight_decay: float, threads: int
) -> ReportingTransformation:
    """`sgd` with `backend="native"`; arguments as there. Weights and steps are float32."""
    places = native.Places(threads)
    loss, decay = problem.loss, problem.l2 + weight_decay
    assert loss is not None

    def init(params):
        leaf = the_leaf(params)
        stride = native.stride_of(len(leaf), jnp.float32)
        return NativeSGDState(
            step=jnp.zeros((), jnp.int32),
            weights=as_rows(leaf, stride).astype(jnp.float32),
            watched=native.nothing_seen(),
        )

    def inner_loop(state, params, prepared, indices, count, *, key):
        del key
        weights, watched = native.float_steps(
            state.weights,
            state.watched,
            rows=prepared["rows"],
            h=None,
            steps=native.Steps(indices[:, 0], count, state.step),
            at_anchor=jnp.zeros((0,), jnp.float32),
            y=prepared["targets"],
            scalars=jnp.array([learning_rate, 1 - learning_rate * decay], jnp.float32),
            loss=loss,
            places=places,
        )
        state = NativeSGDState(state.step + count, weights, watched)
        params = jax.tree.map(lambda p: as_leaf(weights, len(p)).astype(p.dtype), params)
        return params, state, native.seen(watched).bad_step

    return ReportingTransformation(
        init,
        no_single_steps,
        prepare=functools.partial(float_rows, input_scale=problem.input_scale),
        inner_loop=inner_loop,
    )


def float_rows(
    train: dict[str, np.ndarray], *, input_scale: float | None = None
) -> dict[str, Any]:
    """The samples as float32 rows (N, stride), and their targets (N,).

    Inputs that are integer codes become `input_scale` times these: all of them, which takes
    four times the memory of int8.
    """
    rows = flat(train["x"])
    codes = rows.dtype.kind == "i" and input_scale is not None
    rows = rows if rows.dtype == np.float32 else rows.astype(np.float32)
    if codes:
        rows *= np.float32(input_scale)
    return {"rows": native.padded(rows), "targets": targets(train["y"], np.float32)}
