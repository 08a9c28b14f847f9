"""How much longer a gradient gets when it is rounded stochastically to few bits."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from lpml.measurements.measurement import Lines, Measurement
from lpml.quant import clip_to_deviations, stochastic_quantize
from lpml.quant.gradients import check_bits

METRICS = ("blow_up", "error", "clip_bias", "size")


def gradient_blow_up(
    *, bits: int = 2, clip: float | None = None, sizes: Sequence[int] = (1600, 73_728, 884_736),
    spike: bool = False, trials: int = 16,
) -> Measurement:  # fmt: skip
    """E ||Q(g)||^2 / E ||g||^2 of SQ_m, with and without clipping, by the size of the tensor.

    A line for each size d has, as means over the trials,
      blow_up: that ratio, of Q(Clip(g)) where `clip` is set. Its root is the factor by which
        the convergence bounds of quantised gradients are slower than those of whole ones.
      error: the standard error of blow_up, from the spread of the trials' own ratios.
      clip_bias: E ||Clip(g) - g||^2 / E ||g||^2; 0 without clipping.
      size: d.
    Every trial draws a gradient of its own and rounds it once. Codes are computed in float32
    as workers do, sums in float64.

    Args:
      bits: m of SQ_m, 2 to 8.
      clip: at so many standard deviations of the entries, > 0; None: not at all.
      sizes: entries of the tensor, each at least 1, in the order of the lines.
      spike: false: standard normal entries. True: one entry is 1, the others are
        1 / (1 + sqrt(d)), with random signs: the direction whose max |g| sum |g| / ||g||^2 is
        the largest that there is, (1 + sqrt(d)) / 2.
      trials: gradients for each size, >= 2.

    Raises:
      ValueError: a number out of its range, or no size.

    References:
      Hou et al., Analysis of quantized models, ICLR 2019, propositions 1 and 2.
    """
    check_bits(bits)
    if clip is not None and not clip > 0:
        raise ValueError(f"clip = {clip} must be positive, or None for no clipping")
    if not sizes or min(sizes) < 1:
        raise ValueError(f"sizes = {list(sizes)} must be one or more numbers, at least 1 each")
    if trials < 2:
        raise ValueError(f"trials = {trials} must be at least 2, for an error can be told")

    def lines(seed: int) -> Lines:
        for size in sizes:
            random = np.random.default_rng((seed, size))
            found = np.array([_norms(*trial(random, size)) for _ in range(trials)])
            sent, cut, whole = found.T
            yield {
                "blow_up": sent.sum() / whole.sum(),
                "error": np.std(sent / whole, ddof=1) / np.sqrt(trials),
                "clip_bias": cut.sum() / whole.sum(),
                "size": float(size),
            }

    def trial(random, size):
        g = (_spike if spike else _normal)(random, size)
        key = jax.random.key(int(random.integers(2**31)))
        return (g, *_sent(g, key, clip, bits=bits))

    return Measurement(lines, len(sizes), METRICS)


def _normal(random, size):
    return random.standard_normal(size, np.float32)


def _spike(random, size):
    g = np.full(size, 1 / (1 + np.sqrt(size)), np.float32)
    g[0] = 1
    return g * random.choice(np.array([-1, 1], np.float32), size)


# One program for all seeds and, as `clip` is traced, for all thresholds.
@partial(jax.jit, static_argnames="bits")
def _sent(
    g: jax.Array, key: jax.Array, clip: float | None, *, bits: int
) -> tuple[jax.Array, jax.Array]:
    """Clip(g) and Q(Clip(g))."""
    cut = jnp.asarray(g) if clip is None else clip_to_deviations(g, clip)
    return cut, stochastic_quantize(cut, bits, key).dequantize()


def _norms(g, cut, sent):
    """||Q(Clip(g))||^2, ||Clip(g) - g||^2 and ||g||^2 in float64."""
    g, cut, sent = (np.asarray(x, np.float64) for x in (g, cut, sent))
    return [float(np.sum(x**2)) for x in (sent, cut - g, g)]
