"""Gradients in a few bits, rounded stochastically: what workers send to one another.

SQ_m of Hou, Zhang and Kwok (ICLR 2019): with s = max |g| and K = 2^(m-1) - 1, each entry
becomes one of the two neighbours among {-K, ..., K} s / K, with the probabilities that make
its expectation g. m = 2 is TernGrad.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from lpml.formats import random_bits, round_to_integer
from lpml.formats.float_bits import from_bits, magnitude, to_bits

BITS = range(2, 9)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class QuantizedGradient:
    """The numbers codes * scale.

    Args:
      codes: int8 in -K..K, K = 2^(bits-1) - 1.
      scale: float32 that broadcasts against them: s / K, the distance of neighbours; NaN
        where an entry under it was not finite.
      bits: width of a code, static.
    """

    codes: jax.Array
    scale: jax.Array
    bits: int = dataclasses.field(metadata={"static": True})

    def dequantize(self) -> jax.Array:
        """The numbers, float32, in the shape of the codes."""
        return dequantized(self.codes, self.scale)


def stochastic_quantize(
    g: jax.Array,
    bits: int,
    key: jax.Array,
    *,
    axis: int | tuple[int, ...] | None = None,
    rng: str = "hash",
) -> QuantizedGradient:
    """SQ_m: unbiased codes of `bits` bits, with one scale or one for each index of `axis`.

    An entry that is not finite makes its scale NaN, and with it all that the scale belongs
    to: a gradient that overflowed cannot come out as one that is merely small. Entries that
    are all 0, or below 2^-126 K, become 0.

    Args:
      g: floats of any shape; computed in float32.
      bits: 2 to 8.
      key: PRNG key.
      axis: axes that keep their own scale; None: one scale.
      rng: where the random words come from, see `lpml.formats.random_bits`.

    Raises:
      ValueError: `bits` out of range, or an axis that `g` does not have.
    """
    check_bits(bits)
    over = _all_but(axis, g.ndim)
    scale = spacing(largest_magnitude(g, over), bits)
    codes = codes_on(g, scale, bits, random_bits(key, g.shape, rng))
    return QuantizedGradient(codes, scale, bits)


def clip_to_deviations(g: jax.Array, c: float) -> jax.Array:
    """sign(g) min(|g|, c sigma), with sigma the standard deviation of all entries of `g`.

    For Gaussian entries it bounds the noise of SQ_m whatever their number (`blow_up_bound`)
    at the price of a small bias (`clip_bias`). The sums are taken in an order of their own,
    so that the bits do not depend on the program around them. Entries that are not finite
    make all of them NaN.
    """
    if isinstance(c, (int, float)) and not c > 0:
        raise ValueError(f"c = {c} must be positive")
    x = g.astype(jnp.float32).ravel()
    # squares of small gradients would be flushed to 0, those of large ones overflow
    unit = largest_magnitude(x, (0,))[0]
    x = x / jnp.where(unit > 0, unit, 1)
    mean = ordered_sum(x) / x.size
    sigma = jnp.sqrt(ordered_sum(_product(x - mean, x - mean)) / x.size)
    most = c * sigma * unit
    return jnp.clip(g, -most.astype(g.dtype), most.astype(g.dtype))


def quantization_variance(g: jax.Array, bits: int) -> jax.Array:
    """E ||Q(g) - g||^2 = (s / K)^2 sum f (1 - f), f the fraction of K |g| / s; a scalar."""
    check_bits(bits)
    step = jnp.max(jnp.abs(g)) / largest_code(bits)
    steps = jnp.abs(g) / jnp.where(step > 0, step, 1)
    rest = steps - jnp.floor(steps)
    return step**2 * jnp.sum(rest * (1 - rest))


def blow_up_bound(
    bits: int, size: int, clip: float | None = None, *, sharp: bool = False
) -> float:
    """A bound of E ||Q(g)||^2 / ||g||^2 over all gradients of `size` entries.

    1 + (1 + sqrt(2 size - 1)) / (2 K), as the paper has it. Clipped at `clip` standard
    deviations it is 1 + sqrt(2 / pi) clip / K for Gaussian entries, whatever their number.

    Args:
      bits: 2 to 8.
      size: number of entries.
      clip: of `clip_to_deviations`; None: not clipped.
      sharp: 1 + (1 + sqrt(size)) / (2 K) in place of the paper's, where not clipped: the
        largest possible max |g| sum |g| / ||g||^2 is (1 + sqrt(size)) / 2.
    """
    check_bits(bits)
    top = largest_code(bits)
    if clip is not None:
        return 1 + math.sqrt(2 / math.pi) * clip / top
    return 1 + (1 + math.sqrt(size if sharp else 2 * size - 1)) / (2 * top)


def clip_bias(c: float) -> float:
    """E (Clip(g) - g)^2 / sigma^2 of one Gaussian entry clipped at c sigma.

    sqrt(2 / pi) (sqrt(pi / 2) (1 + c^2) (1 - erf(c / sqrt 2)) - c exp(-c^2 / 2)).
    """
    tail = math.sqrt(math.pi / 2) * (1 + c * c) * math.erfc(c / math.sqrt(2))
    return math.sqrt(2 / math.pi) * (tail - c * math.exp(-c * c / 2))


def check_bits(bits: int) -> None:
    """Raises ValueError unless SQ_m exists for m = `bits`."""
    if isinstance(bits, bool) or not isinstance(bits, int) or bits not in BITS:
        raise ValueError(f"bits = {bits!r} must be a whole number from {BITS[0]} to {BITS[-1]}")


def largest_code(bits: int) -> int:
    """K = 2^(bits-1) - 1."""
    return int(2 ** (bits - 1)) - 1


def largest_magnitude(g: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """max |g| over `axes`, which stay with size 1: float32, NaN if an entry is NaN, 0 if none.

    Taken over the patterns, whose order is that of the magnitudes with NaN above infinity:
    XLA's maximum of floats forgets NaN in reductions of some thousand numbers on CPUs.
    """
    patterns = magnitude(to_bits(jnp.asarray(g, jnp.float32)))
    return from_bits(jnp.max(patterns, axis=axes, keepdims=True, initial=0))


def spacing(size: jax.Array, bits: int) -> jax.Array:
    """The scale s / K of float32 numbers up to `size` = s; NaN where s is not finite."""
    return jnp.where(jnp.isfinite(size), size / largest_code(bits), jnp.nan)


def codes_on(g: jax.Array, scale: jax.Array, bits: int, words: jax.Array) -> jax.Array:
    """int8 codes of `g` in units of `scale`, rounded by random `words`; 0 where that is NaN."""
    # below the smallest normal number there is no accurate quotient
    usable = scale >= jnp.finfo(jnp.float32).tiny
    steps = g.astype(jnp.float32) / jnp.where(usable, scale, 1)
    top = largest_code(bits)
    codes = jnp.clip(round_to_integer(steps, "stochastic", bits=words), -top, top)
    return jnp.where(usable, codes, 0).astype(jnp.int8)


def dequantized(codes: jax.Array, scale: jax.Array) -> jax.Array:
    """codes * scale in float32, never fused into a sum that the caller takes next."""
    return _product(codes.astype(jnp.float32), scale)


def ordered_sum(x: jax.Array) -> jax.Array:
    """The sum of (n,) floats, by halves: the same bits in every program."""
    x = jnp.pad(x, (0, (1 << (x.shape[0] - 1).bit_length()) - x.shape[0]))
    while x.shape[0] > 1:
        half = x.shape[0] // 2
        x = x[:half] + x[half:]
    return x[0]


def _product(x, y):
    # compilers fuse a product into a sum that follows, and round once, but not a choice
    values = x * y
    return jnp.where(jnp.isnan(values), jnp.nan, values)


def _all_but(axis, ndim):
    """The axes that share a scale, for `axis` those that do not."""
    if axis is None:
        return tuple(range(ndim))
    kept = (axis,) if isinstance(axis, int) else tuple(axis)
    for one in kept:
        if not -ndim <= one < ndim:
            raise ValueError(f"axis {one} does not exist in an array of {ndim} axes")
    kept = tuple(one % ndim for one in kept)
    return tuple(i for i in range(ndim) if i not in kept)
