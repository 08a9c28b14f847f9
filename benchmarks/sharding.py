"""Bytes of Shampoo's state and roots solved per device, on meshes of 1, 2, 4 and 8 devices.

    PYTHONPATH=. python benchmarks/sharding.py [--block=64] [--devices=1,2,4,8] [--steps=4]

Virtual devices of a CPU, each of which has its own arrays. The tensors are those of one layer
of a Transformer of width 256. State: the largest share of a device of what `tx.init` gives, all
of it and the matrices alone. Argument and scratch bytes of a step on a device are the
compiler's; the scratch holds the roots that a step gathers. Roots are the matrices a device
solves for at a refresh, those of zeros that fill up a stack included. Seconds of a step with a
refresh, median, say little here: virtual devices share the cores of one machine.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lpml.optim import shampoo
from lpml.optim.shampoo import find_state

WIDTH = 256
SHAPES = {
    **dict.fromkeys(("query", "key", "value", "out"), (WIDTH, WIDTH)),
    "up": (WIDTH, 4 * WIDTH),
    "down": (4 * WIDTH, WIDTH),
    "words": (10_000, WIDTH),
    "scale": (WIDTH,),
}


def mesh_of(devices):
    """A mesh of the first `devices`, None of one."""
    if devices == 1:
        return None
    first = jax.devices()[:devices]
    return jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=first)


def bytes_here(tree):
    """Bytes of a tree on the device that has most of it."""
    sums = {}
    for leaf in jax.tree.leaves(tree):
        for part in leaf.addressable_shards:
            sums[part.device] = sums.get(part.device, 0) + part.data.nbytes
    return max(sums.values())


def measured(devices, block, steps):
    """The numbers of one line."""
    mesh = mesh_of(devices)
    tx = shampoo(1e-3, block_size=block, refresh_every=1, mesh=mesh)
    keys = dict(zip(SHAPES, jax.random.split(jax.random.key(0), len(SHAPES)), strict=True))
    params = {name: jax.random.normal(keys[name], shape) for name, shape in SHAPES.items()}
    if mesh is not None:
        params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    state = jax.jit(tx.init)(params)

    def step(params, state):
        grads = jax.tree.map(jnp.sin, params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, state).compile()
    memory = compiled.memory_analysis()
    own = find_state(state)
    stacks = {name: getattr(own, name) for name in own.spread_fields}
    roots = sum(
        len(stack.addressable_shards[0].data) for stack in jax.tree.leaves(stacks["refresh_ok"])
    )
    everything, matrices = bytes_here(state), bytes_here(stacks)
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        params, state = jax.block_until_ready(compiled(params, state))
        seconds.append(time.perf_counter() - started)
    return (
        *(n / 2**20 for n in (everything, matrices)),
        *(n / 2**20 for n in (memory.argument_size_in_bytes, memory.temp_size_in_bytes)),
        roots,
        statistics.median(seconds),
    )


def main():
    """One line for each number of devices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--block", type=int, default=64)
    parser.add_argument("--devices", default="1,2,4,8")
    parser.add_argument("--steps", type=int, default=4)
    given = parser.parse_args()
    numbers = [int(n) for n in given.devices.split(",")]
    jax.config.update("jax_num_cpu_devices", max(numbers))
    print("MiB per device, block", given.block)
    print("devices    state matrices arguments  scratch    roots  seconds")
    for devices in numbers:
        *sizes, roots, seconds = measured(devices, given.block, given.steps)
        print(f"{devices:7}", *(f"{n:8.2f}" for n in sizes), f"{roots:8} {seconds:8.2f}")


if __name__ == "__main__":
    main()
