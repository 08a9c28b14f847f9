"""Multiply-adds per second of matmuls in number formats, beside float32's, in one run.

    python benchmarks/dots.py [size ...]

Operands are Gaussian and already values of their format (codes, where a kernel takes those);
kernels are compiled, interleaved, and the median of several rounds is shown.
"""

import functools
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from lpml import formats
from lpml.formats import BFLOAT16, E4M3, E5M2, FLOAT16, VSQ, Minifloat, Posit, Symmetric

ROUNDS = 5
SIZES = (256, 512)
FLOAT32 = Minifloat(8, 23)


def expanding(source, unit):
    matmul = functools.partial(formats.expanding_matmul, source=source, unit=unit)
    return lambda a, b: (jax.jit(matmul), source.round(a), source.round(b))


def exact(source):
    significand = source.mantissa_bits + 1
    matmul = functools.partial(formats.exact_matmul, into=FLOAT32, significand=significand)
    return lambda a, b: (jax.jit(matmul), source.round(a), source.round(b))


def on_codes(matmul, fmt):
    run = jax.jit(functools.partial(matmul, fmt))
    return lambda a, b: (run, fmt.encode(a), fmt.encode(b))


def integer(a, b):
    fmt = Symmetric(0.03, 8)
    product = functools.partial(jnp.matmul, preferred_element_type=jnp.int32)
    return jax.jit(product), fmt.encode(a), fmt.encode(b)


def vsq(a, b):
    fmt = VSQ()
    run = jax.jit(lambda x, y: formats.vsq_matmul(x, y, fmt, fmt))
    return run, fmt.encode(a, axis=-1), fmt.encode(b, axis=-2)


KERNELS = {
    "float32": lambda a, b: (jax.jit(jnp.matmul), a, b),
    "ExSdotp e5m2 -> float16": expanding(E5M2, "exsdotp"),
    "ExFMA e5m2 -> float16": expanding(E5M2, "exfma"),
    "ExSdotp e4m3 -> float16": expanding(E4M3, "exsdotp"),
    "ExSdotp float16 -> float32": expanding(FLOAT16, "exsdotp"),
    "ExFMA float16 -> float32": expanding(FLOAT16, "exfma"),
    "ExSdotp bfloat16 -> float32": expanding(BFLOAT16, "exsdotp"),
    "exact e4m3 -> float32": exact(E4M3),
    "exact e5m2 -> float32": exact(E5M2),
    "exact float16 -> float32": exact(FLOAT16),
    "quire posit8": on_codes(formats.quire_matmul, Posit(8)),
    "quire posit16": on_codes(formats.quire_matmul, Posit(16)),
    "posit16 without quire": on_codes(formats.rounded_matmul, Posit(16)),
    "int8 -> int32": integer,
    "VSQ 4 bits, 16 per scale": vsq,
}


def main():
    for size in map(int, sys.argv[1:] or SIZES):
        rng = np.random.default_rng(0)
        a, b = (jnp.asarray(rng.standard_normal((size, size)), jnp.float32) for _ in range(2))
        running = {name: make(a, b) for name, make in KERNELS.items()}
        rates = {name: [] for name in running}
        for matmul, *operands in running.values():
            jax.block_until_ready(matmul(*operands))
        for _ in range(ROUNDS):
            for name, (matmul, *operands) in running.items():
                start = time.perf_counter()
                jax.block_until_ready(matmul(*operands))
                rates[name].append(size**3 / (time.perf_counter() - start))
        print(f"{size} x {size} x {size}, {jax.devices()[0].device_kind}")
        base = np.array(rates["float32"])
        for name, found in rates.items():
            share = statistics.median(np.array(found) / base)
            print(
                f"  {name:<28} {statistics.median(found) / 1e6:>10.0f} M multiply-adds/s"
                f"  {share:>8.4f} of float32"
            )


if __name__ == "__main__":
    main()
