"""Convolutions whose gradients are convolutions that XLA's CPU compiler has fast code for."""

import functools
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.custom_derivatives import SymbolicZero


class Window(NamedTuple):
    """A convolution of channels-last images with a kernel (*window, inputs, outputs).

    XLA's fast code for CPUs takes images (batch, *space, channels) and a kernel laid out as
    above. It transposes what is laid out otherwise, as JAX's gradients of a convolution are,
    but not inside of a loop, where it falls back on code that is 4 to 17 times slower: passes
    over a data set, a chunk at a time, are such loops. `in_images` and `in_kernel` are the
    same convolution, laid out so that their transposes, the gradients, are as it wants them.
    """

    strides: tuple[int, ...]
    padding: Any
    dilation: tuple[int, ...]

    def __call__(self, x: jax.Array, w: jax.Array, precision: Any = None) -> jax.Array:
        """The images (batch, *places, outputs)."""
        if not _lays_out():
            return self.plain(x, w, precision)
        return _convolved(self, x, w, precision)

    def in_images(self, x: jax.Array, w: jax.Array, precision: Any = None) -> jax.Array:
        """The same, for its transpose by the images."""
        if not _lays_out():
            return self.plain(x, w, precision)
        last = x.ndim - 1
        kernel = (last - 1, last, *range(last - 1))  # of (*window, outputs, inputs)
        return self._by(x, w.swapaxes(-1, -2), _images(last), kernel, _images(last), precision)

    def in_kernel(self, x: jax.Array, w: jax.Array, precision: Any = None) -> jax.Array:
        """The same, for its transpose by the kernel.

        The batch is there what is summed over, and the inputs are the images.
        """
        if not _lays_out():
            return self.plain(x, w, precision)
        last = x.ndim - 1
        space = range(1, last)
        across = x.transpose(last, *space, 0)
        kernel = w.transpose(last - 1, *range(last - 1), last)  # (inputs, *window, outputs)
        # axes of (N, C, *space) in the images, of (O, I, *space) in the kernel
        y = self._by(
            across, kernel, (last, 0, *space), (last, 0, *space),
            (last - 1, last, *range(last - 1)), precision,
        )  # fmt: skip
        return y.transpose(last - 1, *range(last - 1), last)

    def plain(self, x: jax.Array, w: jax.Array, precision: Any = None) -> jax.Array:
        """The same, as JAX differentiates it."""
        last = x.ndim - 1
        kernel = (last, last - 1, *range(last - 1))
        return self._by(x, w, _images(last), kernel, _images(last), precision)

    def _by(self, x, w, images, kernel, result, precision):
        return lax.conv_general_dilated(
            x,
            w,
            self.strides,
            self.padding,
            rhs_dilation=self.dilation,
            dimension_numbers=lax.ConvDimensionNumbers(images, kernel, result),
            precision=precision,
        )


def _lays_out():
    # a GPU's libraries have code of their own for gradients, which XLA knows by JAX's layout
    return jax.default_backend() == "cpu"


def _images(last):
    """Where (N, C, *space) are in channels-last images."""
    return (0, last, *range(1, last))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 3))
def _convolved(window, x, w, precision):
    return window.plain(x, w, precision)


@functools.partial(_convolved.defjvp, symbolic_zeros=True)
def _changed(window, precision, at, by):
    (x, w), (dx, dw) = at, by
    y = _convolved(window, x, w, precision)
    changes = []
    if not isinstance(dx, SymbolicZero):
        changes.append(window.in_images(dx, w, precision))
    if not isinstance(dw, SymbolicZero):
        changes.append(window.in_kernel(x, dw, precision))
    return y, sum(changes[1:], changes[0])
