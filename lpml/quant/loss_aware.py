"""Loss-aware quantisation of weights: levels and scales of least curvature-weighted error."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lpml.formats.float_bits import layout_of, power_of_two, to_bits
from lpml.formats.protocol import check_floats, to_wide
from lpml.quant.activations import check_word
from lpml.quant.loss_aware_alternating import alternate, fitted, largest_unit, reciprocal
from lpml.quant.loss_aware_exact import optimal_unit
from lpml.quant.loss_aware_levels import LevelSet
from lpml.quant.loss_aware_sharing import Sharing
from lpml.quant.loss_aware_sums import maxima
from lpml.quant.quantized_weights import QuantizedWeights, TwoScaleWeights

SOLVERS = ("alternating", "exact", "absmax")
LEAST_CURVATURE = 2.0**-40  # of the largest: says nothing beside it, and never divides by 0


def laq(
    w: Float[Array, "*shape"],
    curvature: Float[Array, "*shape"] | None = None,
    bits: int = 2,
    *,
    levels: str = "linear",
    solver: str = "alternating",
    axis: int | tuple[int, ...] | None = None,
    group: int | None = None,
    init: jax.Array | float | None = None,
    iterations: int = 10,
) -> QuantizedWeights:
    """Codes b and the scale of least loss-aware error: min 1/2 sum d (w - scale b)^2.

    With a diagonal model d of the loss's curvature (the root of Adam's or RMSProp's second
    moment, a Hessian's diagonal) this is the proximal Newton step of LAB (1 bit), LAT (2) and
    LAQ (3 and more). Codes and scale do not change if d is multiplied by a constant; scale is
    homogeneous in w.

    With 1 bit codes are the signs (+1 at 0) and scale = sum d |w| / sum d, the optimum. Else
    each code is the nearest level's for its scale, and the scale is found

    - by "alternating": scale <- sum d w b / sum d b^2, then the nearest b, and again; one pass
      over the data a step. Starts are `init` (or a guess from the mean) and the largest
      weight; the end is no worse than the better of these, so never worse than absmax.
    - "exact": the global optimum up to the rounding of sums, by `optimal_unit`, which sorts
      the weights once: thirty times the time of "alternating" for a million of them.
    - "absmax": not at all: scale is the largest weight, so that nothing is clipped, whatever
      the curvature. This is what most tools do, and what the others are compared with.

    Weights that are zero throughout get codes 0 (1 bit: +1) and scale 0. A weight that is not
    finite takes no part in the scale: NaN gets code 0 (1 bit: +1), an infinite one the largest
    code of its sign; so one bad entry changes nothing else. Curvature below 2^-40 of the
    largest that shares the scale counts as that, and so does what is not finite: zero and
    negative entries (estimates by Hutchinson's method have these) hardly matter, and where
    there are no others all weigh the same.

    No derivatives pass through. Under vmap each slice is quantised for itself.

    Args:
      w: float weights; computed in float64 if they are, else in float32.
      curvature: d, of the shape of `w`; None means ones (BWN, TWN).
      bits: 1 to 8; static.
      levels: "linear": b = 0, +-1/K, ..., +-1 with K = 2^(bits-1) - 1; "log": 0 and +-2^-j,
        j = 0..K-1.
      solver: "alternating", "exact" or, of 2 bits and more, "absmax".
      axis: the axis, or a tuple of them, that keeps its own scales (the channels).
      group: so many consecutive weights of the last axis share a scale.
      init: scales to start from, as an earlier result has them; of use to "alternating".
      iterations: most steps of "alternating"; it ends earlier if no scale moves by 1e-6.

    Raises:
      ValueError: bits, levels, a solver, an axis or a group that do not exist, or operands
        that are no floats or of different shapes.

    References:
      Hou, Yao, Kwok, Loss-aware Binarization of Deep Networks, ICLR 2017; Hou, Kwok,
      Loss-aware Weight Quantization of Deep Networks, ICLR 2018; Hou, Zhang, Kwok, Analysis
      of Quantized Models, ICLR 2019.
    """
    level_set = LevelSet(bits, levels)
    check_word("solver", solver, SOLVERS)
    if solver == "absmax" and bits == 1:
        raise ValueError(
            "solver 'absmax' would make every weight of 1 bit as large as the largest; choose "
            "'alternating', or 2 bits"
        )
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 0:
        raise ValueError(f"iterations = {iterations!r} must be a whole number >= 0")
    w, curvature = _operands(w, curvature)
    sharing = Sharing(w.shape, axis, group)
    if init is not None:
        init = sharing.check_scale(jnp.asarray(init, w.dtype))
    return _laq(w, curvature, init, level_set, sharing, solver, iterations)


def lat2(
    w: Float[Array, "*shape"],
    curvature: Float[Array, "*shape"] | None = None,
    *,
    solver: str = "exact",
    axis: int | tuple[int, ...] | None = None,
    group: int | None = None,
) -> TwoScaleWeights:
    """Ternary weights with a scale for the positive and one for the negative ones.

    The problem falls into two, so each side is `laq` in 2 bits without the weights of the
    other. A side without weights has scale 0.

    Args:
      w: as of `laq`, as are all others.
      curvature: d.
      solver: "alternating" or "exact".
      axis: the axes that keep their own scales.
      group: so many consecutive weights share scales.

    Raises:
      ValueError: as `laq`.
    """
    check_word("solver", solver, SOLVERS[:2])
    positive, negative = (
        laq(side, curvature, 2, solver=solver, axis=axis, group=group)
        for side in (jnp.where(w < 0, 0, w), jnp.where(w > 0, 0, w))
    )
    return TwoScaleWeights(positive.codes + negative.codes, positive.scale, negative.scale)


def objective(
    w: jax.Array, curvature: jax.Array | None, q: jax.Array | QuantizedWeights | TwoScaleWeights
) -> jax.Array:
    """1/2 sum d (w - q)^2, what `laq` makes small; `curvature` None means ones."""
    if hasattr(q, "dequantize"):
        q = q.dequantize()
    errors = jnp.square(w - q)
    return jnp.sum(errors if curvature is None else curvature * errors) / 2


def _operands(w: Any, curvature: Any) -> tuple[jax.Array, jax.Array | None]:
    """Both as constants in float32 or float64; ValueError where they do not fit."""
    check_floats(w)
    w = jax.lax.stop_gradient(to_wide(jnp.asarray(w)))
    if curvature is None:
        return w, None
    check_floats(curvature)
    if curvature.shape != w.shape:
        raise ValueError(
            f"curvature has shape {curvature.shape} and the weights {w.shape}; give one number "
            "per weight"
        )
    return w, jax.lax.stop_gradient(jnp.asarray(curvature).astype(w.dtype))


@functools.partial(jax.jit, static_argnums=(3, 4, 5, 6))
def _laq(w, curvature, init, levels, sharing, solver, iterations):
    inner = sharing.split(w)
    if curvature is not None:
        curvature = sharing.split(curvature)
    u, c, power = normalised(inner, curvature, sharing.axes, levels.bits == 1)
    if levels.bits == 1:
        p, d = fitted(u, c, jnp.ones_like(power), levels, sharing.axes)
        unit = p * reciprocal(d)
    elif solver == "absmax":
        unit = largest_unit(u, levels, sharing.axes)
    else:
        if solver == "exact":
            rows = None if c is None else sharing.rows(c)
            init = optimal_unit(sharing.rows(u), rows, levels).reshape(power.shape)
        elif init is not None:
            init = jnp.maximum(sharing.spread(init), 0) / power / levels.top
        unit = alternate(u, c, init, levels, axes=sharing.axes, iterations=iterations)
    codes = _codes(inner, unit * power, levels).reshape(w.shape)
    scale = sharing.join(unit * levels.top * power)
    return QuantizedWeights(codes, scale, bits=int(levels.bits), levels=levels.levels)


def normalised(
    w: jax.Array, curvature: jax.Array | None, axes: tuple[int, ...], need_c: bool = False
) -> tuple[jax.Array, jax.Array | None, jax.Array]:
    """Magnitudes and curvature in units such that their products are normal numbers.

    Units are powers of two, so nothing is rounded. Weights that are not finite get 0 in both,
    others of a curvature that is not the least one.

    Args:
      w: weights in the inner shape.
      curvature: of that shape, or None for ones.
      axes: along which a unit is shared.
      need_c: whether to return ones rather than None where there is no curvature.

    Returns:
      |w| / unit, below 2; the curvature, likewise; the unit of w, of shape 1 along the axes.
    """

    def magnitudes(w, *d):
        good = jnp.isfinite(w)
        found = [jnp.where(good, jnp.abs(w), 0)]
        usable = [jnp.where(good & jnp.isfinite(one), jnp.maximum(one, 0), 0) for one in d]
        return (good, *found, *usable)

    operands = (w,) if curvature is None else (w, curvature)
    largest = maxima(lambda *x: magnitudes(*x)[1:], operands, axes)
    good, u, *c = magnitudes(*operands)
    power, inverse = _power_below(largest[0])
    u = u * inverse
    if not c:
        return u, good.astype(u.dtype) if need_c else None, power
    _, inverse = _power_below(largest[1])
    return u, jnp.where(good, jnp.maximum(c[0] * inverse, LEAST_CURVATURE), 0), power


def _power_below(x):
    """The largest power of two <= x, and its inverse; 1 and 1 for x = 0."""
    layout = layout_of(x.dtype)
    exponent = (to_bits(x) >> layout.mantissa) - layout.bias
    # from 2^-126 to 2^126 both are normal numbers
    exponent = jnp.clip(jnp.where(x > 0, exponent, 0), 1 - layout.bias, layout.bias - 1)
    return power_of_two(exponent, x.dtype), power_of_two(-exponent, x.dtype)


def _codes(w, unit, levels):
    t = jnp.abs(w) * reciprocal(unit)
    code = levels.encode(levels.nearest(jnp.where(t >= 0, t, 0)))  # NaN: 0, as inf * 0 is
    return jnp.where(w < 0, -code, code).astype(jnp.int8)
