"""Elements per second of rounding to number formats, beside a copy and a cast, in one run.

    PYTHONPATH=. python benchmarks/formats.py [--elements=10000000]

One compiled program per row over the same float32 array, which it may overwrite (donated: a
fresh output, as encode alone and decode alone need, measures page faults); rows take turns,
median of several rounds. The copy is -x; XLA runs it on one thread on CPUs and the costlier
rows on all, so they may pass it where one thread does not exhaust the memory.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from lpml.formats import BFLOAT16, E2M1, E4M3FN, E5M2, FLOAT16, Fixed, Minifloat, random_bits

ROUNDS = 11
KEY = jax.random.key(0)


def stochastic(fmt, rng):
    return lambda x: fmt.round(x, "stochastic", bits=random_bits(KEY, x.shape, rng))


def cast(x):
    # without the barrier XLA drops the pair of casts
    return jax.lax.optimization_barrier(x.astype(jnp.float8_e4m3fn)).astype(x.dtype)


ROWS = {
    "copy": lambda x: -x,
    "lax.reduce_precision(5, 10)": lambda x: jax.lax.reduce_precision(x, 5, 10),
    "e4m3fn by astype and back": cast,
    "e4m3fn": E4M3FN.round,
    "e4m3fn away": lambda x: E4M3FN.round(x, "away"),
    "e5m2": E5M2.round,
    "e2m1": E2M1.round,
    "float16": FLOAT16.round,
    "bfloat16": BFLOAT16.round,
    "fixed, 8 bits of 0.02": Fixed(0.02, 8).round,
    "e4m3fn encode": E4M3FN.encode,
    "e4m3fn encode, decode": lambda x: E4M3FN.decode(E4M3FN.encode(x)),
    "float16 encode, decode": lambda x: FLOAT16.decode(FLOAT16.encode(x)),
    "random words, hash": lambda x: x + random_bits(KEY, x.shape, "hash").astype(x.dtype),
    "e4m3fn stochastic, hash": stochastic(E4M3FN, "hash"),
    "e4m3fn stochastic, rbg": stochastic(E4M3FN, "rbg"),
    "e4m3fn stochastic, threefry": stochastic(E4M3FN, "threefry"),
    "fixed stochastic, hash": stochastic(Fixed(0.02, 8), "hash"),
}


def programs(x):
    made = {name: jax.jit(f, donate_argnums=0) for name, f in ROWS.items()}
    encode = jax.jit(E4M3FN.encode)
    made["e4m3fn encode"] = encode  # codes do not fit the donated buffer
    traced = jax.jit(lambda x, e, m: Minifloat(e, m, special="fn").round(x), donate_argnums=0)
    made["e4m3fn, widths traced"] = lambda x: traced(x, 4, 3)
    codes = encode(x)
    decode = jax.jit(E4M3FN.decode)
    made["e4m3fn decode"] = lambda _: decode(codes)
    return made


def data(elements=1000):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.standard_normal(elements, np.float32))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=10**7)
    elements = parser.parse_args().elements
    x = data(elements)
    made = programs(x)
    seconds = {name: [] for name in made}
    for number in range(ROUNDS + 1):
        for name, run in made.items():
            given = jnp.copy(x).block_until_ready()
            start = time.perf_counter()
            jax.block_until_ready(run(given))
            if number:  # the first compiles
                seconds[name].append(time.perf_counter() - start)
    copy, astype = (
        statistics.median(seconds[name]) for name in ("copy", "e4m3fn by astype and back")
    )
    device = jax.devices()[0].device_kind
    print(f"{elements:.0e} float32 on {device}, median of {ROUNDS} interleaved rounds")
    print(f"{'':34} {'ms':>7} {'M/s':>7} {'of copy':>8} {'of astype':>9}")
    for name, times in seconds.items():
        middle = statistics.median(times)
        rate = elements / middle / 1e6
        ratios = f"{copy / middle:8.0%} {astype / middle:8.1f}x"
        print(f"{name:34} {middle * 1e3:7.1f} {rate:7.0f} {ratios}")


if __name__ == "__main__":
    main()
