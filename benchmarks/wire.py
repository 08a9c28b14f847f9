"""Bytes that a worker receives in one step for the gradients of CifarNet, in few bits.

    python benchmarks/wire.py              (about two minutes; formula and programs)
    python benchmarks/wire.py --formula    (at once)

The formula is that of `wire_report`. Beside it stand, for as many virtual devices of the CPU,
the bytes of all collectives of the compiled program, which must be the same. Seconds are for
information only: within one machine nothing crosses a wire, and packing costs more than it
saves. What is saved counts where the network is the slowest part.
"""

import argparse
import functools
import math
import os
import statistics
import time

DEVICES = 16
os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(DEVICES))
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402 the number of devices comes first
import jax.numpy as jnp  # noqa: E402
from jax.sharding import AxisType, Mesh, PartitionSpec  # noqa: E402

from lpml.parallel import (  # noqa: E402
    Exchange,
    compiled_wire_bytes,
    quantized_mean,
    wire_report,
)

# Kernels and biases on crops of 24 x 24.
SHAPES = (
    *((5, 5, 3, 64), (64,), (5, 5, 64, 64), (64,)),
    *((2304, 384), (384,), (384, 192), (192,), (192, 10), (10,)),
)
WIDTHS = (2, 3, 4, 8)
WORKERS = (2, 4, 8, 16)
READ = (2, 4, 16)  # workers whose programs are compiled
SCHEMES = ("one_shot", "two_shot", "shared_scale")
TIMED, ROUNDS = 4, 7


def tree(leading=()):
    return [jax.ShapeDtypeStruct((*leading, *shape), jnp.float32) for shape in SHAPES]


def program(mean, workers):
    """Compiled: `mean(gradients, key)` on so many virtual devices."""
    mesh = Mesh(jax.devices()[:workers], ("workers",), axis_types=(AxisType.Auto,))
    own, alike = PartitionSpec("workers"), PartitionSpec()
    spread = jax.shard_map(
        lambda grads, key: mean([x[0] for x in grads], key),
        mesh=mesh,
        in_specs=(own, alike),
        out_specs=alike,
        check_vma=False,
    )
    return jax.jit(spread).lower(tree((workers,)), jax.random.key(0)).compile()


def quantised(exchange):
    return functools.partial(quantized_mean, axis_name="workers", exchange=exchange)


def exact(grads, _):
    return jax.lax.pmean(grads, "workers")


def seconds(compiled, workers):
    split, whole = compiled.input_shardings[0]
    grads = [jax.random.normal(jax.random.key(1), x.shape) for x in tree((workers,))]
    arguments = jax.device_put(grads, split), jax.device_put(jax.random.key(0), whole)
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def line(workers, exchange, read):
    report = wire_report(tree(), workers, exchange)
    text = f"{report.received:>12,.0f} B {report.saving:>6.2f}x"
    if not read:
        return text
    found = compiled_wire_bytes(program(quantised(exchange), workers).as_text())
    same = "same" if found == report.received else f"NOT THE SAME: {found:,.0f} B"
    return f"{text}  program: {same}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--formula", action="store_true")
    formula = parser.parse_args().formula
    entries = sum(math.prod(shape) for shape in SHAPES)
    print(
        f"{entries:,} weights; received per worker and step, and the float32 mean's times that"
    )
    for workers in WORKERS:
        full = wire_report(tree(), workers, Exchange()).float32
        print(f"{workers} workers, float32 all-reduce {full:,.0f} B")
        for scheme in SCHEMES:
            for bits in WIDTHS:
                read = not formula and workers in READ and workers <= jax.device_count()
                text = line(workers, Exchange(bits, scheme=scheme), read)
                print(f"  {scheme:>12} {bits} bits {text}", flush=True)
    if formula or jax.device_count() < TIMED:
        return
    print(f"seconds of a step's exchange, {TIMED} virtual devices: for information only")
    print(f"  float32 mean {seconds(program(exact, TIMED), TIMED):.4f}")
    for scheme in SCHEMES:
        mean = program(quantised(Exchange(4, scheme=scheme)), TIMED)
        print(f"  {scheme}, 4 bits {seconds(mean, TIMED):.4f}")


if __name__ == "__main__":
    main()
