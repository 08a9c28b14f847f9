"""State and master weights of any optimizer, stored as codes of a number format.

Of the tensors that training consists of, a model rounds weights, activations and gradients.
What is left are the optimizer's own: its state (S) and the weights that it moves (M).
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lpml.formats import Format, Scaled, check_mode, child_key
from lpml.formats.scaled import ScaledArray
from lpml.optim.box import is_scaled
from lpml.optim.dither import leaf_keys, words
from lpml.optim.packed_codes import bytes_of, packed, state_format, unpacked
from lpml.optim.periodic import PeriodicTransformation
from lpml.optim.projected import ProjectedTransformation

# The children of a step's key that round; an inner transformation has those of its leaves.
OF_STATE, OF_MASTER = 2**30 + 1, 2**30 + 2
SECOND_MOMENT = "nu"  # the field's name in optax's states


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Stored:
    """A tensor as codes: flat, so that all blocks of scaled formats but the last are full."""

    codes: jax.Array  # uint8 up to 8 bits, packed; else of the format's code_dtype
    scales: Any  # of scaled formats: a code or a float per block; else None
    outer: jax.Array | None  # of scaled formats: the float above them
    format: Any = dataclasses.field(metadata={"static": True})
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    dtype: str = dataclasses.field(metadata={"static": True})
    root: bool = dataclasses.field(metadata={"static": True})  # codes are of the square root


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FewBitsState:
    """State of `in_few_bits`."""

    inner: Any  # the inner state; its floating tensors are `Stored` if S has a format
    master: Any  # like the parameters, of `Stored`; None: the parameters are the masters
    state_bytes: float = dataclasses.field(metadata={"static": True})  # per weight
    master_bytes: float = dataclasses.field(metadata={"static": True})  # per weight


def in_few_bits(
    inner: optax.GradientTransformation,
    *,
    state: str | Format | Scaled | None = None,
    master: str | Format | Scaled | None = None,
    rounding: str = "stochastic",
) -> optax.GradientTransformationExtraArgs:
    r"""Stores an optimizer's state and its master weights in number formats.

    .. math::
      (u_t, s_t) = \mathrm{inner}(g_t, D(S_{t-1}), w_{t-1}), \quad S_t = C_S(s_t), \quad
      M_t = C_M(D(M_{t-1}) + u_t), \quad w_t = D(M_t)

    with codes C and their values D. A second moment v (a field `nu` of the state) is stored
    as the root of v, whose range is that of gradients and not of their squares; and what is
    not 0 never becomes 0: such a number gets the smallest code of its block in its place. So
    m / (sqrt(v) + eps) has no denominator of eps alone because of rounding: where v is wrong
    it is too large, and the step too short.

    Args:
      inner: the optimizer; one without refreshes.
      state: format of the floating tensors of its state, of a width known before the program
        runs. Blocks of scaled formats lie along the flattened tensor. None: floats.
      master: likewise of the weights. Parameters then are the values of their codes, in the
        parameters' dtype, and a network computes with these. None: as they are.
      rounding: of both; "stochastic" needs the extra argument `key` in update, a fresh one per
        step. To nearest, changes below half a spacing are lost.

    Returns:
      `inner` itself without formats; else a `ProjectedTransformation` that reports
      `state_bytes` and `master_bytes`, per weight.

    Raises:
      ValueError: no such format or rounding, or an inner optimizer with refreshes.
    """
    check_mode(rounding)
    inner = optax.with_extra_args_support(inner)
    if isinstance(inner, PeriodicTransformation):
        raise ValueError("an optimizer with refreshes cannot have its state in few bits")
    of_state, of_master = _storable(state), _storable(master)
    if of_state is None and of_master is None:
        return inner

    def init(params):
        start = _encoded_state(inner.init(params), of_state, "nearest", None)
        masters = _encoded(params, of_master, "nearest", None)
        weights = max(sum(leaf.size for leaf in jax.tree.leaves(params)), 1)
        held = params if masters is None else masters
        return FewBitsState(start, masters, bytes_of(start) / weights, bytes_of(held) / weights)

    def update(grads, state, params=None, *, key=None, **extra):
        if params is None:
            raise ValueError("optimizers with weights or state in few bits need `params`")
        updates, found = inner.update(grads, _decoded(state.inner), params, key=key, **extra)
        found = _encoded_state(found, of_state, rounding, _child(key, OF_STATE))
        if of_master is None:
            return updates, dataclasses.replace(state, inner=found)
        moved = jax.tree.map(jnp.add, _decoded(state.master), updates)
        masters = _encoded(moved, of_master, rounding, _child(key, OF_MASTER))
        # not every format has a code for NaN, and a loop must see it
        updates = jax.tree.map(
            lambda m, q, p: jnp.where(jnp.isfinite(m), q, m) - p,
            moved, _decoded(masters), params,
        )  # fmt: skip
        return updates, dataclasses.replace(state, inner=found, master=masters)

    def visible(state, params):
        if state.master is None:
            return params
        values = _decoded(state.master)
        return jax.tree.map(lambda p, q: jnp.where(jnp.isfinite(p), q, p), params, values)

    def report(state):
        return {
            "state_bytes": jnp.asarray(state.state_bytes, jnp.float32),
            "master_bytes": jnp.asarray(state.master_bytes, jnp.float32),
        }

    return ProjectedTransformation(init, update, visible=visible, report=report)


def _storable(format):
    """The format of codes in a state; None: floats."""
    if format is None or format == "none":
        return None
    fmt = state_format(format)
    element = fmt.element if is_scaled(fmt) else fmt
    if not getattr(element, "signed", True):
        raise ValueError(f"format {format!r} of a state must have negative numbers")
    return fmt


def _child(key, number):
    return None if key is None else child_key(key, number)


def _encoded(tree, fmt, rounding, key):
    """All tensors of a tree as `Stored`; None without a format."""
    if fmt is None:
        return None
    leaves, structure = jax.tree.flatten(tree)
    keys = leaf_keys(rounding, key, len(leaves))
    stored = [store(x, fmt, rounding, key=own) for x, own in zip(leaves, keys)]
    return jax.tree.unflatten(structure, stored)


def _encoded_state(tree, fmt, rounding, key):
    """The floating tensors of an optimizer's state as `Stored`; counters as they are."""
    if fmt is None:
        return tree
    found, structure = jax.tree_util.tree_flatten_with_path(tree)
    keys = leaf_keys(rounding, key, len(found))
    stored = [
        store(x, fmt, rounding, key=own, root=_is_second_moment(path))
        if jnp.issubdtype(x.dtype, jnp.floating)
        else x
        for (path, x), own in zip(found, keys)
    ]
    return jax.tree.unflatten(structure, stored)


def _is_second_moment(path):
    return any(getattr(part, "name", None) == SECOND_MOMENT for part in path)


def _decoded(tree):
    return jax.tree.map(
        lambda x: restore(x) if isinstance(x, Stored) else x,
        tree,
        is_leaf=lambda x: isinstance(x, Stored),
    )


def store(
    x: jax.Array, fmt: Any, rounding: str, *, key: Any = None, root: bool = False
) -> Stored:
    """Codes of a tensor of floats.

    Args:
      x: of any shape; >= 0 with `root`.
      fmt: a format of known width; a scaled one pads its last block.
      rounding: the mode; "stochastic" needs a key.
      key: PRNG key, raw or typed.
      root: store sqrt(x), and no 0 for what is not 0.
    """
    flat = jnp.sqrt(x).reshape(-1) if root else x.reshape(-1)
    noise = None if key is None else words(key, flat.shape)
    found = fmt.encode(flat, rounding, bits=noise)
    if root:
        lost = (flat > 0) & (fmt.decode(found, flat.dtype) == 0)
        least = fmt.encode(flat, "away")
        if is_scaled(fmt):  # scales do not depend on how elements are rounded
            codes = jnp.where(lost, least.codes, found.codes)
            found = dataclasses.replace(found, codes=codes)
        else:
            found = jnp.where(lost, least, found)
    about = dict(format=fmt, shape=x.shape, dtype=str(x.dtype), root=root)
    if not is_scaled(fmt):
        return Stored(packed(found, fmt.static_bits), None, None, **about)
    return Stored(packed(found.codes, fmt.static_bits), found.scales, found.outer, **about)


def restore(stored: Stored) -> jax.Array:
    """The values of codes, in the shape and dtype of the tensor they are of."""
    fmt = stored.format
    codes: Any = unpacked(
        stored.codes, fmt.static_bits, math.prod(stored.shape), fmt.code_dtype
    )
    if is_scaled(fmt):
        codes = ScaledArray(codes, stored.scales, stored.outer, -1)
    values = fmt.decode(codes, stored.dtype).reshape(stored.shape)
    return values * values if stored.root else values
