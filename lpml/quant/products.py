"""Products of a layer, forward and backward, each in formats along its own contracted axis."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from lpml.formats import Format, Scaled, random_bits
from lpml.quant.windows import Window

ROUNDINGS = ("nearest", "stochastic")
FORMATS = ("weights", "activations", "gradients")
# Rounded operands are products of few-bit numbers and float32 scales: where a device would
# shorten float32 operands (TF32), the simulated product would not be the format's.
PRECISION = lax.Precision.HIGHEST

Padding = str | Sequence[tuple[int, int]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Roles:
    """Which format each operand of a layer's products is rounded to; None: not at all.

    A pytree of its formats: their numeric fields may be traced.

    Args:
      weights: of the kernel, in the forward product and in that of the inputs' gradient.
      activations: of the inputs, in the forward product and in that of the kernel's gradient.
        Unsigned formats make negative inputs 0.
      gradients: of the gradient by the outputs, in both backward products.
      gradient_rounding: of the gradients: `"nearest"` or `"stochastic"`; all else is rounded
        to nearest.
    """

    weights: Format | Scaled | None = None
    activations: Format | Scaled | None = None
    gradients: Format | Scaled | None = None
    gradient_rounding: str = dataclasses.field(default="nearest", metadata={"static": True})

    def __post_init__(self):
        if self.gradient_rounding not in ROUNDINGS:
            raise ValueError(
                f"gradient_rounding {self.gradient_rounding!r} does not exist; choose from "
                f"{', '.join(ROUNDINGS)}"
            )
        for role in FORMATS:
            if isinstance(name := getattr(self, role), str):
                raise ValueError(f"{role} = {name!r} is a name; pass formats.by_name({name!r})")

    @property
    def rounds(self) -> bool:
        """Whether anything is rounded."""
        return any(getattr(self, role) is not None for role in FORMATS)

    @property
    def draws(self) -> bool:
        """Whether the backward pass draws random words."""
        return self.gradients is not None and self.gradient_rounding == "stochastic"


FULL_PRECISION = Roles()


def dense(
    x: Float[Array, "*batch inputs"],
    w: Float[Array, "inputs outputs"],
    roles: Roles,
    *,
    key: jax.Array | None = None,
) -> Float[Array, "*batch outputs"]:
    r"""x w, with rounded operands in all three products of a training step.

    .. math::
      y = Q_a(x) Q_w(w), \quad dx = Q_g(g) Q_w(w)^T, \quad dw = Q_a(x)^T Q_g(g)

    Blocks of a scaled format lie along the axis that the product sums over, as hardware wants
    them: inputs in y, outputs in dx, the batch (all leading axes as one) in dw. So the same
    array is rounded twice, with other blocks; a last block that is incomplete is padded with
    zeros. Rounding is straight-through: its derivative is the identity's.

    Args:
      x: inputs.
      w: kernel, of the same dtype.
      roles: the formats. Without any this is the plain product.
      key: for stochastic gradients; without it they are rounded to nearest (evaluation).

    Raises:
      ValueError: shapes that do not multiply.
    """
    if w.ndim != 2 or x.ndim < 1 or x.shape[-1] != w.shape[0]:
        raise ValueError(
            f"inputs {x.shape} and kernel {w.shape} do not multiply: pass (..., i), (i, o)"
        )
    if not roles.rounds:
        return lax.dot_general(x, w, (((x.ndim - 1,), (0,)), ((), ())))
    y = _rounded_product(MATMUL, x.reshape(-1, x.shape[-1]), w, roles, key)
    return y.reshape(*x.shape[:-1], w.shape[1])


def conv(
    x: Float[Array, "batch *space inputs"],
    w: Float[Array, "*window inputs outputs"],
    roles: Roles,
    *,
    strides: Sequence[int] | int = 1,
    padding: Padding = "SAME",
    dilation: Sequence[int] | int = 1,
    key: jax.Array | None = None,
) -> Float[Array, "batch *places outputs"]:
    """Convolution of channels-last images, rounded as in `dense`.

    A convolution sums over its window and one more axis. Blocks lie along that axis, for each
    place of the window apart: input channels in y, output channels in dx, the batch in dw.
    The gradient of a kernel element, sum over places p of sum over images n of
    x[n, p + k] g[n, p], is for each p a product along n, so a block's scales factor out of
    its part of the inner sum.

    Lines with one scale ("axis", `outer="row"`) are, in the kernel, all that adds up to one
    output (dx: input) channel, the window included; in x and g, which serve many windows,
    those of one place. A single factor for the whole product of two-level formats, as in
    accelerators, needs `outer="tensor"` for activations and gradients ("uvsq4t").

    Args:
      x: images.
      w: kernel, of the same dtype.
      roles: the formats; unsigned ones as in `dense`.
      strides: of the window, per axis of space or one for all.
      padding: "SAME", "VALID" or pairs (before, after), per axis of space.
      dilation: of the window.
      key: as in `dense`.

    Raises:
      ValueError: shapes that do not go together; grouped channels among them.
    """
    if x.ndim != w.ndim or x.ndim < 3 or x.shape[-1] != w.shape[-2]:
        raise ValueError(
            f"inputs {x.shape} and kernel {w.shape} make no convolution: pass "
            "(batch, *space, channels) and (*window, channels, outputs)"
        )
    window = Window(
        strides=_per_axis(strides, x.ndim - 2),
        padding=padding if isinstance(padding, str) else tuple(map(tuple, padding)),
        dilation=_per_axis(dilation, x.ndim - 2),
    )
    if not roles.rounds:
        return window(x, w)
    return _rounded_product(window, x, w, roles, key)


class _Matmul:
    """The product of a dense layer, with the names of `Window`."""

    def __call__(self, x, w, precision):
        return jnp.matmul(x, w, precision=precision)

    in_images = in_kernel = __call__


MATMUL = _Matmul()


def _per_axis(count, axes):
    return (count,) * axes if isinstance(count, int) else tuple(count)


def _rounded_product(multiply, x, w, roles, key):
    """`multiply(x, w)`, bilinear: x (batch, ..., inputs), w (*window, inputs, outputs)."""
    known, numbers = _Known.apart(roles)
    return _product(multiply, known, x, w, numbers, key)


class _Known(NamedTuple):
    """The part of `Roles` that is no array, hashable: what the derivative may close over."""

    tree: Any
    leaves: tuple[int | float | None, ...]  # None: an array, passed as an argument

    @classmethod
    def apart(cls, roles: Roles) -> tuple["_Known", tuple[Any, ...]]:
        leaves, tree = jax.tree.flatten(roles)
        known = tuple(leaf if isinstance(leaf, (int, float)) else None for leaf in leaves)
        numbers = tuple(leaf for leaf, at in zip(leaves, known) if at is None)
        return cls(tree, known), numbers

    def joined(self, numbers: tuple[Any, ...]) -> Roles:
        rest = iter(numbers)
        leaves = [next(rest) if leaf is None else leaf for leaf in self.leaves]
        return jax.tree.unflatten(self.tree, leaves)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _product(multiply, known, x, w, numbers, key):
    return _forward(multiply, known, x, w, numbers, key)[0]


def _forward(multiply, known, x, w, numbers, key):
    roles = known.joined(numbers)
    rounded_x = _round(roles.activations, x, -1)
    rounded_w = _round_kernel(roles.weights, w, -2)
    # The backward products need other blocks of the same numbers, so those are what is kept;
    # where rounding knows no axis, it is done once and its result is kept.
    kept_x = x if _has_axis(roles.activations) else rounded_x
    kept_w = w if _has_axis(roles.weights) else rounded_w
    return multiply(rounded_x, rounded_w, PRECISION), (kept_x, kept_w, numbers, key)


def _backward(multiply, known, residuals, g):
    x, w, numbers, key = residuals
    roles = known.joined(numbers)
    by_x, by_w = _rounded_gradients(roles, g, key)
    w_across = _round_kernel(roles.weights, w, -1) if _has_axis(roles.weights) else w
    x_across = _round(roles.activations, x, 0) if _has_axis(roles.activations) else x
    # transposes of the product: unlike jax.vjp they do not compute it again outside of jit
    (dx,) = jax.linear_transpose(lambda x: multiply.in_images(x, w_across, PRECISION), x)(by_x)
    (dw,) = jax.linear_transpose(lambda w: multiply.in_kernel(x_across, w, PRECISION), w)(by_w)
    return dx, dw, None, None


_product.defvjp(_forward, _backward)


def _rounded_gradients(roles, g, key):
    """`g` for the product of dx, in blocks of outputs, and for that of dw, of the batch."""
    fmt = roles.gradients
    if not roles.draws or key is None:
        by_x = _round(fmt, g, -1)
        return by_x, (_round(fmt, g, 0) if _has_axis(fmt) else by_x)
    # Words of their own for each product, as errors that go together would add up. Hashed
    # ones: threefry costs ten times the rounding.
    words = (random_bits(k, g.shape, "hash") for k in jax.random.split(key))
    return tuple(
        _round(fmt, g, axis, mode="stochastic", bits=bits)
        for axis, bits in zip((-1, 0), words, strict=True)
    )


def _has_axis(fmt):
    return isinstance(fmt, Scaled) and fmt.block != "tensor"


def _round(fmt, x, axis, **options):
    if fmt is None:
        return x
    if isinstance(fmt, Scaled):
        return dataclasses.replace(fmt, ragged="pad").round(x, axis=axis, **options)
    return fmt.round(x, **options)


def _round_kernel(fmt, w, axis):
    """`w` (*window, inputs, outputs) rounded along `axis`, the window joined to it.

    What has one scale for a line has one for all that adds up to one output, whatever the
    place in the window; blocks begin anew at every place, where the other operand's do.
    """
    one_a_line = isinstance(fmt, Scaled) and (fmt.block == "axis" or fmt.outer == "row")
    if w.ndim == 2 or not one_a_line:
        return _round(fmt, w, axis)
    across = jnp.moveaxis(w, axis, -2)
    block = fmt.block if isinstance(fmt.block, int) else 1
    length = across.shape[-2]
    gaps = [(0, 0)] * (w.ndim - 2) + [(0, -length % block), (0, 0)]
    padded = jnp.pad(across, gaps)
    lines = _round(fmt, padded.reshape(-1, padded.shape[-1]), 0)
    rounded = lines.reshape(padded.shape)[..., :length, :]
    return jnp.moveaxis(rounded, -2, axis)
