"""Weights in few bits, chosen with regard to the loss: a wrapper of any optax optimizer."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lpml.optim.projected import ProjectedTransformation
from lpml.quant import QuantizedWeights, laq

Params = Any
Mask = Any | Callable[[Params], Any]
Curvature = Literal["moment"] | None


class LossAwareState(NamedTuple):
    """What lies behind the quantised parameters.

    Attributes:
      master: the weights in full precision; None where a parameter is not quantised, as it is
        its own.
      quantized: `QuantizedWeights` (codes int8, scales) of every quantised parameter, else
        None.
      moment: second moment of the gradients, where the inner state has none; else ().
      inner: state of the inner transformation.
      skipped: () int32, updates left out because a gradient was not finite.
    """

    master: Params
    quantized: Params
    moment: Params
    inner: optax.OptState
    skipped: jax.Array


def weights_only(params: Params) -> Any:
    """The mask that quantises kernels: floats of two axes or more, so neither biases nor
    normalisation."""
    return jax.tree.map(_is_kernel, params)


def all_but(*names: str) -> Callable[[Params], Any]:
    """The mask `weights_only`, without the layers of these names (a part of a leaf's path).

    Raises:
      ValueError: when used: a name that no leaf has.
    """

    def mask(params):
        paths = [_names(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        for name in names:
            if not any(name in path for path in paths):
                known = ", ".join(dict.fromkeys(path[0] for path in paths if path))
                raise ValueError(f"there is no layer {name!r} to exempt; there are {known}")
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: _is_kernel(leaf) and not set(names) & set(_names(path)),
            params,
        )

    return mask


def loss_aware_quantization(
    inner: optax.GradientTransformation,
    bits: int = 3,
    *,
    levels: str = "linear",
    solver: str = "alternating",
    axis: int | tuple[int, ...] | None = None,
    group: int | None = None,
    iterations: int = 10,
    curvature: Curvature = "moment",
    b2: float | jax.Array = 0.999,
    eps: float | jax.Array = 1e-8,
    clip: float | None = 1.0,
    mask: Mask = weights_only,
) -> ProjectedTransformation:
    r"""Trains weights of few bits: LAB (1 bit), LAT (2) and LAQ (3 and more).

    The parameters that a loop sees are the quantised ones, where the gradient is taken. The
    state holds the master weights in full precision, which the inner transformation moves:

    .. math::
      w_{t+1} = \mathrm{clip}(w_t + u_t), \quad
      \hat w_{t+1} = \arg\min_{\alpha b} \sum_i d_i (w_{t+1, i} - \alpha b_i)^2, \quad
      d = \sqrt{v_{t+1}} + \epsilon

    with u_t the update of `inner` for the gradient at \hat w_t, and v the second moment of
    these gradients. It belongs at the outside: weight decay, clipping of gradients, momentum
    and schedules go into `inner`; `optax.MultiSteps`, `optax.partition` and
    `optax.inject_hyperparams` may be around it. A gradient with an entry that is not finite, or
    whose square is not, changes nothing but the counter `skipped`.

    Updates lead to the grid up to the rounding of an addition (see `ProjectedTransformation`);
    lpml's train state has the exact values, and so does
    `params = tx.visible(opt_state, params)`, which also projects the first parameters.

    Args:
      inner: moves the master weights.
      bits: 1 to 8.
      levels: see `lpml.quant.laq`, as of the next four.
      solver: "alternating" (started at the scale of before), "exact" or "absmax".
      axis: the axes that keep their own scales; None: a scale per tensor.
      group: so many weights along the last axis share a scale.
      iterations: most steps of "alternating"; few suffice, as it starts at the scale of the
        step before and goes on in the next.
      curvature: "moment": d as above, with v from the state of `inner` where it has one
        (Adam, RMSProp, also inside of a chain), else from an average of its own; None: d = 1,
        quantisation that does not look at the loss. `update(..., curvature=tree)` takes the
        place of both for a step: a tree of d like the parameters, such as a Hessian's
        diagonal; None in it means ones.
      b2: decay of the average of its own, in [0, 1).
      eps: added to the root, >= 0.
      clip: master weights are kept in [-clip, clip]; None: they may drift off, which costs
        accuracy, because alpha follows them.
      mask: which parameters are quantised, as a tree of booleans or a function of the
        parameters: `weights_only`, `all_but("Conv_0", "Dense_2")`.

    Raises:
      ValueError: a setting out of its range.

    References:
      Hou, Yao, Kwok, ICLR 2017, algorithm 1; Hou, Kwok, ICLR 2018; Hou, Zhang, Kwok, Analysis
      of quantized models, ICLR 2019, section 3.
    """
    if curvature not in ("moment", None):
        raise ValueError(f"curvature = {curvature!r} does not exist; choose 'moment' or None")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip = {clip} must be positive, or None for no projection")
    for name, value, most in (("b2", b2, 1), ("eps", eps, float("inf"))):
        if isinstance(value, (int, float)) and not 0 <= value < most:
            raise ValueError(f"{name} = {value} must be in [0, {most})")
    inner, default = optax.with_extra_args_support(inner), curvature

    def quantise(w: jax.Array, d: jax.Array | None, before: QuantizedWeights | None) -> Any:
        return laq(
            w,
            d,
            bits,
            levels=levels,
            solver=solver,
            axis=axis,
            group=group,
            iterations=iterations,
            init=None if before is None or solver == "exact" else before.scale,
        )

    whole = group if isinstance(group, int) and group > 0 else 1
    quantise(jnp.zeros((1, whole)), None, None)  # refuses what laq refuses

    def boxed(w):
        return w if clip is None else jnp.clip(w, -clip, clip)

    def init(params: Params) -> LossAwareState:
        chosen = mask(params) if callable(mask) else mask
        master = jax.tree.map(lambda w, q: boxed(w) if q else None, params, chosen)
        inner_state = inner.init(_filled(master, params))
        own = _keeps_moment(curvature, inner_state, params)
        return LossAwareState(
            master=master,
            quantized=_over(lambda w: quantise(w, None, None), master),
            moment=_over(jnp.zeros_like, master) if own else (),
            inner=inner_state,
            skipped=jnp.zeros((), jnp.int32),
        )

    def update(grads, state, params=None, *, curvature=curvature, **extra):
        if params is None:
            raise ValueError("loss_aware_quantization needs the current `params` in update")
        if isinstance(curvature, str) and curvature != "moment":
            raise ValueError(
                f"curvature = {curvature!r} does not exist; hand in a tree, 'moment' or None"
            )
        # squares too, as an infinite second moment would never become finite again
        finite = jnp.all(
            jnp.stack([jnp.all(jnp.isfinite(g * g)) for g in jax.tree.leaves(grads)])
        )
        # a branch and not a selection, which would read the whole state once more
        return jax.lax.cond(
            finite,
            lambda: moved(grads, state, params, curvature, extra),
            lambda: (
                jax.tree.map(jnp.zeros_like, params),
                state._replace(skipped=state.skipped + 1),
            ),
        )

    def moved(grads, state, params, curvature, extra):
        """The update for a gradient that is finite."""
        masters = _filled(state.master, params)
        moves, inner_state = inner.update(grads, state.inner, masters, **extra)
        masters = optax.apply_updates(masters, moves)
        master = _over(lambda _, w: boxed(w), state.master, masters)
        moment, v = state.moment, second_moment(inner_state, params)
        if _keeps_moment(default, inner_state, params):
            moment = v = _over(lambda v, g: b2 * v + (1 - b2) * g * g, moment, grads)
        if isinstance(curvature, str):
            curvature = _over(lambda v: jnp.sqrt(v) + eps, v)
        elif curvature is None:
            curvature = jax.tree.map(lambda _: None, params)
        quantized = _over(
            lambda w, before, d: quantise(w, d, before), master, state.quantized, curvature
        )
        new = LossAwareState(master, quantized, moment, inner_state, state.skipped)
        aims = visible(new, masters)
        return jax.tree.map(lambda q, p: (q - p).astype(p.dtype), aims, params), new

    def visible(state: LossAwareState, params: Params) -> Params:
        exact = jax.tree.map(lambda q: q.dequantize(), state.quantized, is_leaf=_is_quantized)
        return jax.tree.map(
            lambda q, p: p if _is_none(q) else q.astype(p.dtype),
            exact,
            params,
            is_leaf=_is_none,
        )

    def report(state: LossAwareState) -> dict[str, jax.Array]:
        return {"skipped_steps": state.skipped}

    return ProjectedTransformation(init, update, visible=visible, report=report)


def master_params(opt_state: optax.OptState, params: Params) -> Params:
    """The weights in full precision: masters where there are any, else the parameters.

    Args:
      opt_state: of `loss_aware_quantization`, or a state that has it inside.
      params: the visible parameters.
    """
    return _filled(_own(opt_state).master, params)


def quantized_params(opt_state: optax.OptState, params: Params) -> Params:
    """`QuantizedWeights` (codes and scales) where a parameter is quantised, else itself."""
    return jax.tree.map(
        lambda q, p: q if _is_quantized(q) else p,
        _own(opt_state).quantized,
        params,
        is_leaf=lambda x: _is_none(x) or _is_quantized(x),
    )


class BitsReport(NamedTuple):
    """Bytes of the parameters: as they are quantised, and as float32."""

    quantized: int
    float32: int

    @property
    def ratio(self) -> float:
        """How many times smaller."""
        return self.float32 / self.quantized


def bits_report(opt_state: optax.OptState, params: Params) -> BitsReport:
    """What the parameters take: codes of their true width, scales, and the rest in float32."""
    parts = jax.tree.leaves(quantized_params(opt_state, params), is_leaf=_is_quantized)
    size = sum(p.nbytes if _is_quantized(p) else 4 * p.size for p in parts)
    return BitsReport(size, sum(4 * p.size for p in jax.tree.leaves(params)))


def second_moment(inner_state: optax.OptState, params: Params) -> Params | None:
    """The tree `nu` of Adam's or RMSProp's state, wherever in a state it is.

    None where there is none of the parameters' structure, or more than one.
    """
    states = jax.tree.leaves(inner_state, is_leaf=lambda x: hasattr(x, "nu"))
    found = [state.nu for state in states if hasattr(state, "nu")]
    if len(found) != 1 or len({*map(jax.tree.structure, (found[0], params))}) > 1:
        return None
    return found[0]


def _keeps_moment(curvature, inner_state, params):
    """Whether the second moment is an average of its own."""
    return curvature == "moment" and second_moment(inner_state, params) is None


def _own(opt_state):
    states = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, LossAwareState))
    found = [state for state in states if isinstance(state, LossAwareState)]
    if len(found) != 1:
        raise ValueError(
            f"the optimizer's state holds {len(found)} states of loss_aware_quantization, not "
            "one"
        )
    return found[0]


def _over(function, first, *rest):
    """`function` over the leaves of `first`; what is None or masked in it stays."""
    return jax.tree.map(
        lambda leaf, *others: leaf if _is_none(leaf) else function(leaf, *others),
        first,
        *rest,
        is_leaf=lambda x: _is_none(x) or _is_quantized(x),
    )


def _filled(master, params):
    return jax.tree.map(lambda m, p: p if _is_none(m) else m, master, params, is_leaf=_is_none)


def _is_none(x):
    """Nothing, or what `optax.partition` leaves to another transformation."""
    return x is None or isinstance(x, optax.MaskedNode)


def _is_kernel(leaf):
    return jnp.ndim(leaf) >= 2 and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _is_quantized(x):
    return isinstance(x, QuantizedWeights)


def _names(path):
    return [jax.tree_util.keystr((key,), simple=True) for key in path]
