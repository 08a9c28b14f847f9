"""Exchanges gradients between virtual devices; writes what arrived and what was sent.

Run as a process of its own, because the number of devices is settled before jax starts:
`python exchanged.py FOLDER`, with JAX_NUM_CPU_DEVICES=8. `arrived.npz` holds for each name of
`BITWISE` the means on every device and those of the simulation, `sent.json` for each name of
`COUNTED` the collectives of the compiled program.
"""

import dataclasses
import functools
import json
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec

os.chdir(Path(__file__).parent.parent.parent)
sys.path.insert(0, os.getcwd())
from lpml.parallel import Exchange, quantized_mean  # noqa: E402 the path comes first
from lpml.parallel.wire import compiled_collectives  # noqa: E402

WORKERS = 4
SHAPES = {"bias": (37,), "kernel": (30, 41), "head": (1025,)}
BITWISE = {
    "one_shot": Exchange(bits=3, clip=2.5),
    "two_shot": Exchange(bits=2, scheme="two_shot"),
    "shared_scale": Exchange(bits=4, scheme="shared_scale"),
    "vsq4": Exchange(format="vsq4"),
}
COUNTED = {
    **{name: (WORKERS, exchange) for name, exchange in BITWISE.items()},
    "2 workers": (2, Exchange(bits=2)),
    "8 workers": (8, Exchange(bits=4)),
    "8 bits": (4, Exchange(bits=8)),
    "two shots": (8, Exchange(bits=3, scheme="two_shot")),
    "sum in 16 bits": (2, Exchange(bits=8, scheme="shared_scale")),
    "integers": (2, Exchange(format="int12")),
}


def gradients():
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal((WORKERS, *shape)).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def spread(exchange, workers):
    """(workers, ...) gradients to the means that the workers hold, one by one."""

    def one(grads, key):
        mean = quantized_mean(
            jax.tree.map(lambda x: x[0], grads), key, axis_name="workers", exchange=exchange
        )
        return jax.tree.map(lambda x: x[None], mean)

    mesh = Mesh(jax.devices()[:workers], ("workers",), axis_types=(AxisType.Auto,))
    own, all_alike = PartitionSpec("workers"), PartitionSpec()
    specs = dict(in_specs=(own, all_alike), out_specs=own)
    return jax.jit(jax.shard_map(one, mesh=mesh, check_vma=False, **specs))


def simulated(exchange):
    """The same on one device."""
    mean = functools.partial(quantized_mean, axis_name="workers", exchange=exchange)
    return jax.jit(jax.vmap(mean, in_axes=(0, None), axis_name="workers"))


def main(folder):
    key, arrived, sent = jax.random.key(3), {}, {}
    for name, (workers, exchange) in COUNTED.items():
        like = {
            leaf: jax.ShapeDtypeStruct((workers, *shape), jnp.float32)
            for leaf, shape in SHAPES.items()
        }
        program = spread(exchange, workers).lower(like, key).compile()
        found = compiled_collectives(program.as_text())
        sent[name] = [dataclasses.asdict(collective) for collective in found]
        if name not in BITWISE:
            continue
        split, whole = program.input_shardings[0]
        means = {
            "devices": program(jax.device_put(gradients(), split), jax.device_put(key, whole)),
            "simulation": simulated(exchange)(gradients(), key),
        }
        for place, tree in means.items():
            arrived |= {f"{name} {place} {leaf}": np.asarray(x) for leaf, x in tree.items()}
    np.savez(folder / "arrived.npz", **arrived)
    (folder / "sent.json").write_text(json.dumps(sent))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
