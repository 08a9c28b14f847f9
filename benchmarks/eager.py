"""Formats called outside of jit: in one program, as they are, and operation by operation.

    PYTHONPATH=. python benchmarks/eager.py

Rounding float32 to nearest; operation by operation is the same call under `jax.disable_jit`.
Milliseconds of the wall, medians of several calls that take turns; and seconds of the
processor for the first call of a shape, which compiles (without a compile cache).
"""

import statistics
import time

import jax

from lpml import formats

CALLS = 5
NAMES = ("e4m3fn", "mxfp8e4m3", "nvfp4", "vsq4")


def seconds(fmt, x, clock):
    start = clock()
    jax.block_until_ready(fmt.round(x))
    return clock() - start


def main():
    jax.config.update("jax_enable_compilation_cache", False)
    print(
        f"{'':12} {'numbers':>8} {'ms: program':>12} {'operations':>11} {'first, s':>9} {'':>6}"
    )
    for name in NAMES:
        fmt = formats.by_name(name)
        for numbers in (1 << 12, 1 << 22):
            x = jax.random.normal(jax.random.key(0), (numbers // 64, 64))
            first, calls = [], ([], [])
            for separate in (False, True):
                with jax.disable_jit(separate):
                    first.append(seconds(fmt, x, time.process_time))
            for _ in range(CALLS):
                for separate in (False, True):
                    with jax.disable_jit(separate):
                        calls[separate].append(1e3 * seconds(fmt, x, time.perf_counter))
            one, many = map(statistics.median, calls)
            print(
                f"{name:12} {numbers:8} {one:12.2f} {many:11.1f}",
                f"{first[0]:9.2f} {first[1]:6.2f}",
            )


if __name__ == "__main__":
    main()
