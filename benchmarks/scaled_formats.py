"""Elements per second of fake quantisation by scaled formats, beside a copy, in one run.

    python benchmarks/scaled_formats.py

Each format works on 10^7 float32, in place (donated), interleaved with the donated copy -x;
shares of the copy's rate are those of the best rounds, as other work on the machine only ever
adds time, and the median of the rounds' own. Random words come from the counter hash.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

from lpml import formats

ROUNDS = 15
SHAPE = (1280, 7808)
NAMES = (
    *("vsq4", "vsq4v64m8", "mxfp4", "mxfp6e2m3", "mxfp8e4m3", "mxint8"),
    *("nvfp4", "int4channel", "fp8tensor"),
)


def candidates():
    yield "copy", lambda x: -x
    for name in NAMES:
        yield name, formats.by_name(name).round
    yield "vsq4, outer per tensor", formats.VSQ(outer="tensor").round
    yield "nvfp4, four over six", formats.NVFP4("four_over_six").round
    yield "vsq4 along axis 0", functools.partial(formats.VSQ().round, axis=0)
    yield "vsq4, stochastic", functools.partial(drawn, formats.VSQ())


def drawn(fmt, x):
    bits = formats.random_bits(jax.random.key(0), x.shape, "hash")
    return fmt.round(x, "stochastic", bits=bits)


def main():
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    argument = jax.ShapeDtypeStruct(x.shape, x.dtype)
    programs, numbers, seconds = {}, {}, {}
    for name, function in candidates():
        programs[name] = jax.jit(function, donate_argnums=0).lower(argument).compile()
        numbers[name], seconds[name] = jnp.array(x, copy=True), []
    for _ in range(ROUNDS):
        for name, program in programs.items():
            start = time.perf_counter()
            # what is rounded once stays among the values: every round does the same work
            numbers[name] = jax.block_until_ready(program(numbers[name]))
            seconds[name].append(time.perf_counter() - start)
    copy = np.array(seconds["copy"])
    print(f"{x.size:.0e} float32 on {jax.devices()[0]}, best of {ROUNDS} interleaved rounds")
    for name, times in seconds.items():
        best, typical = min(times), np.median(copy / np.array(times))
        extra = programs[name].memory_analysis().temp_size_in_bytes / x.nbytes
        print(
            f"  {name:>22}  {best * 1e3:>7.1f} ms  {x.size / best / 1e6:>6.0f} M/s"
            f"  {copy.min() / best:>5.0%} of the copy's rate (median {typical:.0%})"
            f"  {extra:>5.0%} extra memory"
        )


if __name__ == "__main__":
    main()
