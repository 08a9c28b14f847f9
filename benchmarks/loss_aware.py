"""Loss-aware quantisation of weights: alternating beside a memory pass, and the exact solver.

    PYTHONPATH=. python benchmarks/loss_aware.py [--quick]

A pass reads weights and curvature and writes int8, as the projection has to do at least once.
Every time is the best of ROUNDS. Warm starts are the scale of weights that were 0.1% away.
"""

import argparse
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

from lpml.quant import laq

ROUNDS = 7


def best(run, *operands):
    """Seconds of `run`, after one call to compile."""
    jax.block_until_ready(run(*operands))
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        jax.block_until_ready(run(*operands))
        times.append(time.perf_counter() - started)
    return min(times)


def drawn(size):
    random = np.random.default_rng(0)
    w = random.standard_normal(size)
    d = np.sqrt(random.gamma(0.5, size=size))
    moved = w + 1e-3 * random.standard_normal(size)
    return tuple(jnp.asarray(x, jnp.float32) for x in (w, d, moved))


def projection(size):
    """Throughput of the alternating solver, cold and warm."""
    w, d, moved = drawn(size)
    one_pass = best(jax.jit(lambda w, d: jnp.where(w < d, w, d).astype(jnp.int8)), w, d)
    print(f"{f'one pass over {size} pairs':38}{size / one_pass / 1e6:9.0f} M/s")
    for levels, bits in [("linear", m) for m in (1, 2, 3, 4, 8)] + [("log", 3), ("log", 4)]:
        run = functools.partial(laq, bits=bits, levels=levels)
        scale = run(w, d).scale
        report(f"{levels} {bits} bits, cold", size, best(run, w, d), one_pass)
        if bits > 1:
            warm = best(lambda run=run, scale=scale: run(moved, d, init=scale))
            report(f"{levels} {bits} bits, warm", size, warm, one_pass)


def report(label, size, seconds, one_pass):
    rate = f"{size / seconds / 1e6:9.0f} M/s"
    print(f"{label:38}{rate}{seconds / one_pass:9.1f} passes")


def exact(size):
    """Seconds of the exact solver beside the alternating one."""
    w, d, _ = drawn(size)
    for levels, bits in [("linear", m) for m in (2, 3, 4, 8)] + [("log", 3), ("log", 4)]:
        run = functools.partial(laq, bits=bits, levels=levels)
        slow = best(functools.partial(run, solver="exact"), w, d)
        fast = best(run, w, d)
        label = f"exact, {levels} {bits} bits, n = {size}"
        print(f"{label:38}{slow:9.3f} s; alternating {fast:.4f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    quick = parser.parse_args().quick
    projection(10**5 if quick else 10**7)
    exact(10**5 if quick else 10**6)


if __name__ == "__main__":
    main()
