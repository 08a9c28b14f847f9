"""Whether power-of-two scales get their exponents right where logarithms do not."""

import jax
import jax.numpy as jnp
import numpy as np

from lpml import formats
from lpml.formats import Scaled
from lpml.formats.block_scales import BIAS, LEAST_EXPONENT
from lpml.measurements.measurement import Lines, Measurement

POWERS_OF_TWO = range(-120, 120)


def scale_exponents(*, format: str = "mxfp4") -> Measurement:
    """Wrong exponents among 240 blocks whose largest magnitudes lie just below powers of two.

    Block k holds random numbers below `nextafter(2^k, 0)`, which itself is at a random place
    with a random sign, k from -120 to 119. Its scale under OCP's rule is 2^(k - 1 - e), e
    being the exponent of the largest element, and never below 2^-126. `wrong` counts scales
    of the format that are others; `wrong_by_log2` how often floor(log2(maximum)) in float32
    is not k - 1.

    Args:
      format: an MX format under the rule floor, by its name.

    Raises:
      ValueError: another format.
    """
    fmt = formats.by_name(format)
    if not isinstance(fmt, Scaled) or fmt.rule != "floor" or not isinstance(fmt.block, int):
        raise ValueError(f"{format} has no scales by the rule floor; take mxfp4 or another MX")
    block = fmt.block
    exponents = np.asarray(POWERS_OF_TWO) - 1
    maxima = np.nextafter(np.ldexp(np.float32(1), exponents + 1), np.float32(0))
    shift = np.frexp(float(fmt.element.largest))[1] - 1
    wanted = np.maximum(exponents - shift, LEAST_EXPONENT)

    def lines(seed: int) -> Lines:
        random = np.random.default_rng(seed)
        blocks = random.uniform(-0.9, 0.9, (len(maxima), block))
        places = random.integers(block, size=len(maxima))
        blocks[np.arange(len(maxima)), places] = random.choice([-1, 1], len(maxima))
        encode = jax.jit(lambda x: fmt.encode(x).scales)
        codes = encode(jnp.asarray(blocks * maxima[:, None], jnp.float32))
        found = np.asarray(codes, int)[:, 0] - BIAS
        naive = np.asarray(jax.jit(lambda x: jnp.floor(jnp.log2(x)))(maxima))
        yield {
            "wrong": float(np.sum(found != wanted)),
            "wrong_by_log2": float(np.sum(naive != exponents)),
        }

    return Measurement(lines, 1, ("wrong", "wrong_by_log2"))
