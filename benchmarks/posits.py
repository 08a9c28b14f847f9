"""Posits at speed: rounding beside a copy, codes, arithmetic, and quire beside float matmuls.

    PYTHONPATH=. python benchmarks/posits.py [--quick]

Rounding works in place (donated), as the copy (-x) does; every time is the best of ROUNDS, all
rows in turn. The fastest public rounder of posits seen, qtorch-plus, does 10 to 13 M elements/s
on one core of such a machine.
"""

import argparse
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

from lpml.formats import Posit, posit_arithmetic, quire_matmul, random_bits, rounded_matmul

ROUNDS = 9


def best(run, make):
    """Seconds of `run` on fresh or donated `make()`, after one call to compile."""
    jax.block_until_ready(run(*make()))
    times = []
    for _ in range(ROUNDS):
        operands = jax.block_until_ready(make())
        started = time.perf_counter()
        jax.block_until_ready(run(*operands))
        times.append(time.perf_counter() - started)
    return min(times)


def elementwise(size):
    x = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    donate = functools.partial(jax.jit, donate_argnums=0)

    def number():
        return (jnp.array(x),)

    copy = size / best(donate(lambda x: -x), number)
    print(f"{'copy, donated':38}{copy / 1e6:9.0f} M/s")
    for bits, es in [(8, 0), (8, 2), (16, 1), (16, 2), (32, 2)]:
        posit = Posit(bits, es)
        rate = size / best(donate(posit.round), number)
        report(f"round posit{bits}es{es}, donated", rate, copy)
    posit = Posit(16)
    traced = jax.jit(lambda x, posit: posit.round(x), donate_argnums=0)
    report("round posit16, traced width", size / best(lambda x: traced(x, posit), number), copy)
    drawn = donate(
        lambda x, key: posit.round(x, "stochastic", bits=random_bits(key, x.shape, "hash"))
    )
    key = jax.random.key(0)
    rate = size / best(lambda x: drawn(x, key), number)
    report("round posit16, stochastic by hash", rate, copy)
    report("encode posit16", size / best(jax.jit(posit.encode), number), copy)
    codes = posit.encode(jnp.asarray(x))
    report("decode posit16", size / best(jax.jit(posit.decode), lambda: (codes,)), copy)
    for name in ("add", "mul", "div", "sqrt"):
        operands = (codes,) if name == "sqrt" else (codes, codes[::-1])
        run = functools.partial(getattr(posit_arithmetic, name), posit)
        report(f"{name} posit16, codes", size / best(run, lambda o=operands: o), copy)


def report(label, rate, copy):
    print(f"{label:38}{rate / 1e6:9.0f} M/s{rate / copy:9.1%} of the copy")


def products(n):
    """Multiply-adds a second of n x n matmuls, of normal numbers."""
    rng = np.random.default_rng(1)
    x, y = (jnp.asarray(rng.standard_normal((n, n)), jnp.float32) for _ in range(2))
    single = n**3 / best(jax.jit(jnp.matmul), lambda: (x, y))
    print(f"{f'float32 matmul {n}':38}{single / 1e6:9.0f} M/s")
    for bits, x64 in [(8, False), (16, False), (8, True), (16, True), (32, True)]:
        posit = Posit(bits)
        with jax.enable_x64(x64):
            codes = posit.encode(x), posit.encode(y)
            label = f"posit{bits}, {'x64' if x64 else 'no x64'}"
            for run in (quire_matmul, rounded_matmul):
                rate = n**3 / best(functools.partial(run, posit), lambda c=codes: c)
                name = run.__name__.replace("_", " ")
                share = f"{rate / single:9.2%} of float32"
                print(f"{f'{name} {label}':38}{rate / 1e6:9.0f} M/s{share}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    quick = parser.parse_args().quick
    elementwise(10**5 if quick else 10**7)
    for n in (64,) if quick else (256,):
        products(n)


if __name__ == "__main__":
    main()
