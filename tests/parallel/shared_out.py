"""Trains with Shampoo on one device and on four; writes what came of it as JSON.

Run as a process of its own, because the number of devices is settled before jax starts:
`python shared_out.py FILE FOLDER`.
"""

import dataclasses
import importlib
import json
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

os.chdir(Path(__file__).parent.parent.parent)
sys.path.insert(0, os.getcwd())
from lpml.optim import RootRefresher, shampoo  # noqa: E402 the path comes first
from lpml.optim.shampoo import find_state  # noqa: E402
from lpml.training.assemble import assemble  # noqa: E402
from lpml.training.checkpoint import Checkpoints  # noqa: E402
from lpml.training.following import handed_out  # noqa: E402
from lpml.training.work import Training  # noqa: E402

STEPS = 9
SOLVED: list[list[int]] = []
COMPILED: list[str] = []


def watched(solver):
    """The solver, which notes the shapes that it is traced for."""

    def solve(stack, *arguments, **settings):
        SOLVED.append([*stack.shape])
        return solver(stack, *arguments, **settings)

    return solve


def problem(dtype):
    """Parameters of two layers, and the gradient of their distance to others."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(40, 20)), dtype)
    shapes = {"w": (20, 12), "v": (12, 5), "b": (5,)}
    start, end = (
        {name: jnp.asarray(rng.normal(size=shape), dtype) for name, shape in shapes.items()}
        for _ in range(2)
    )

    def outputs(at):
        return jnp.tanh(x @ at["w"]) @ at["v"] + at["b"]

    return start, jax.grad(lambda at: jnp.mean((outputs(at) - outputs(end)) ** 2))


def own_loop(mesh, root, dtype):
    """STEPS steps of a user's own loop: parameters, state and facts."""
    params, gradient = problem(dtype)
    # an absolute damping would find roots of the zeros that fill a stack up
    tx = shampoo(
        0.05,
        block_size=8,
        refresh_every=3,
        root=root,
        damping="absolute",
        epsilon=1e-2,
        mesh=mesh,
    )
    if mesh is not None:
        params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    state = jax.jit(tx.init)(params)

    def step(params, state):
        updates, state = tx.update(gradient(params), state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step, donate_argnums=(0, 1))
    SOLVED.clear()
    for _ in range(STEPS):
        before = find_state(state).stats
        params, state = step(params, state)
        assert all(leaf.is_deleted() for leaf in before.values()), "the state is not donated"
    compiled = step.lower(params, state).compile()
    return (
        params,
        state,
        dict(
            programs=step._cache_size(),
            solved=sorted(SOLVED[: len(before)]),
            bytes=compiled.memory_analysis().argument_size_in_bytes,
        ),
    )


def distance(left, right):
    """The largest of two trees, the right one cut to the shapes of the left one."""
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return max(
        float(np.max(np.abs(np.asarray(a) - np.asarray(b)[tuple(map(slice, a.shape))])))
        for a, b in pairs
    )


def laid(state):
    """Of every stack of a ShampooState: its shape, the shapes of its parts, all of its rows."""
    return {
        f"{field}/{name}": dict(
            shape=[*stack.shape],
            parts=[[*part.data.shape] for part in stack.addressable_shards],
            devices=len({part.device for part in stack.addressable_shards}),
        )
        for field in ("stats", "roots", "refresh_ok", "refresh_failed")
        for name, stack in getattr(state, field).items()
    }


def compared(root, dtype):
    """One device and four, in a user's own loop."""
    with jax.enable_x64(dtype == "float64"):
        mesh = jax.make_mesh((4,), ("any",), axis_types=(AxisType.Auto,))
        one, four = own_loop(None, root, dtype), own_loop(mesh, root, dtype)
        states = find_state(one[1]), find_state(four[1])
        padding = {
            f"{field}/{name}": float(np.max(np.abs(stack[len(states[0].stats[name]) :])))
            for field in ("stats", "roots", "refresh_ok", "refresh_failed")
            for name, stack in getattr(states[1], field).items()
            if len(stack) > len(states[0].stats[name])
        }
        return dict(
            distance=distance(one[0], four[0]),
            state_distance=distance(states[0], states[1]),
            one=one[2],
            four=four[2],
            numbers={name: len(stack) for name, stack in states[0].stats.items()},
            ok={name: n.tolist() for name, n in states[0].refresh_ok.items()},
            laid=laid(states[1]),
            padding=padding,
        )


def hosted(mesh):
    """The same loop with roots from the host: parameters, state, programs, rows solved for."""
    params, gradient = problem("float64")
    host = dict(refresh="host", refresh_every=3, delay=2, host_workers=1)
    tx = shampoo(0.05, block_size=8, mesh=mesh, **host)
    solve, solved = tx.host.solve, []

    def watched(name, stack):
        solved.append(len(stack))
        return solve(name, stack)

    tx.host = dataclasses.replace(tx.host, solve=watched)
    if mesh is not None:
        params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    state = jax.jit(tx.init)(params)

    def step(params, state):
        updates, state = tx.update(gradient(params), state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step, donate_argnums=(0, 1))
    with RootRefresher(tx) as refresher:
        for number in range(1, STEPS + 1):
            params, state = step(params, state)
            state = refresher.after_step(number, state)
            if number == 7:  # as a checkpoint between a snapshot and its roots has it
                refresher.load(jax.device_get(refresher.in_flight(state)))
    return params, state, step._cache_size(), solved, tx.report(state)


def hosted_on_both():
    """One device and four, roots from the host."""
    with jax.enable_x64(True):
        mesh = jax.make_mesh((4,), ("any",), axis_types=(AxisType.Auto,))
        one, four = hosted(None), hosted(mesh)
        return dict(
            distance=max(distance(a, b) for a, b in zip(one[:2], four[:2], strict=True)),
            roots_from=int(find_state(four[1]).roots_from),
            programs=[one[2], four[2]],
            solved=[one[3], four[3]],
            share=[float(one[4]["roots_share"]), float(four[4]["roots_share"])],
            laid=laid(find_state(four[1])),
            numbers={name: len(stack) for name, stack in find_state(one[1]).stats.items()},
        )


def config(devices):
    """The framework's: digits, by a small network."""
    return dict(
        seed=3,
        precision="float32",
        data=dict(name="digits", train_samples=200),
        model=dict(name="mlp", hidden=(12,), activation="tanh"),
        optim=dict(name="shampoo", learning_rate=0.01, block_size=16, refresh_every=4),
        train=dict(steps=12, batch_size=16, log_every=12, checkpoint_every=12),
        mesh=dict(data=devices),
    )


def ran(training, carry, start, compilations):
    """Six more steps, in two calls of one program; counts what is compiled for them."""
    for step in (start, start + 3):
        before = len(COMPILED)
        carry = training.program.run(carry, step, 3)
        compilations[training.program.place.devices] += len(COMPILED) - before
    return carry


def framework(folder):
    """Halves of runs on one device and on four, joined by checkpoints."""
    made = {n: Training(*assemble(config(n)), seed=3) for n in (1, 4)}
    halves, files, compilations = {}, {}, dict.fromkeys(made, 0)
    for n, training in made.items():
        halves[n] = ran(training, training.program.init(3), 0, compilations)
        files[n] = Checkpoints(Path(folder) / str(n))
        files[n].save(6, training.program.gathered(halves[n]))
    ends = {}
    for begun in made:
        for ended, training in made.items():
            _, carry = files[begun].restore(training.shapes())
            ends[begun, ended] = ran(
                training, handed_out(training.program, carry), 6, compilations
            )
    straight = ran(made[4], halves[4], 6, compilations)
    plain = made[1].program.gathered(ends[1, 1])
    differences = {
        f"{begun} then {ended}": distance(
            plain.state.params, made[ended].program.gathered(end).state.params
        )
        for (begun, ended), end in ends.items()
    }
    whole = straight.replace(state=straight.state.replace(opt_state=()))
    return dict(
        differences=differences,
        same=distance(straight.state.opt_state, ends[4, 4].state.opt_state),
        laid=laid(find_state(straight.state.opt_state)),
        numbers={n: len(s) for n, s in find_state(plain.state.opt_state).stats.items()},
        rest_is_whole=all(x.sharding.is_fully_replicated for x in jax.tree.leaves(whole)),
        compilations=compilations,
    )


def main(file, folder):
    """Everything; see the module."""
    jax.config.update("jax_num_cpu_devices", 4)
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **__: (
            event.endswith("backend_compile_duration") and COMPILED.append(event)
        )
    )
    refresh = importlib.import_module("lpml.optim.shampoo.refresh")
    refresh.SOLVERS = {name: watched(solver) for name, solver in refresh.SOLVERS.items()}
    said = {
        "float32": compared("newton", "float32"),
        "float64": compared("eigh", "float64"),
        "hosted": hosted_on_both(),
        "framework": framework(folder),
    }
    Path(file).write_text(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
