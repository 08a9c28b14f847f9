"""Trains small problems on meshes of several sizes; writes what came of it, as arrays.

Run as a process of its own, because the number of devices is settled before jax starts:
`python trained.py FOLDER SIZES KINDS`, lists with commas.
"""

import json
import os
import sys
from pathlib import Path

import jax
import numpy as np

os.chdir(Path(__file__).parent.parent.parent)
sys.path.insert(0, os.getcwd())
from lpml.training.assemble import assemble  # noqa: E402 the path comes first

STEPS, EPOCH, BATCH = 20, 10, 16
MLP = dict(name="mlp", hidden=(32,), activation="tanh")
DIGITS = dict(name="digits", train_samples=200)
LINES = dict(name="synthetic_regression", samples=200, features=6, seed=1, input_bits=8)


def config(optim, *, model=MLP, data=DIGITS, precision="float32", **training):
    train = dict(steps=STEPS, batch_size=BATCH, log_every=10, checkpoint_every=100)
    # 48 does not divide 200 samples, and 8 samples are left: both kinds of batches of a pass
    return dict(
        seed=3,
        precision=precision,
        data=data,
        model=model,
        optim=optim,
        train=train | dict(full_batch_size=48) | training,
    )


LENET = dict(model=dict(name="lenet5", widths=(4, 4, 8, 8)), data=DIGITS | dict(flat=False))
LINEAR = dict(model=dict(name="linear_regression"), data=LINES)
HALP = dict(name="halp", learning_rate=0.2, inner_steps=EPOCH, scale="leaf", mu=0.3)
KINDS = {
    "svrg": config(dict(name="svrg", learning_rate=0.1, inner_steps=EPOCH)),
    "halp": config(HALP),
    "lenet": config(dict(name="sgd", learning_rate=0.1), objective="batch", **LENET),
    "lenet halp": config(HALP, objective="batch", **LENET),
    "lm_halp": config(
        dict(name="lm_halp", learning_rate=0.01, inner_steps=EPOCH),
        precision="float64",
        **LINEAR,
    ),
}


COMPILED = []


def count_compilations(event, seconds, **_):
    if event == "/jax/core/compile/backend_compile_duration":
        COMPILED.append(seconds)


def trained(program, seed=3):
    """Arrays of the state after STEPS steps in chunks of 5, and the numbers of three lines."""
    carry = program.init(seed)
    carry, first = program.measure(carry)
    lines, compiled = [first], None
    jax.monitoring.register_event_duration_secs_listener(count_compilations)
    for step in range(0, STEPS, 5):
        if program.refresh_every and step % program.refresh_every == 0:
            carry = program.refresh(carry)
        before = jax.tree.leaves(carry.state.params)
        carry = program.run(carry, step, 5)
        if step == 10:
            compiled = len(COMPILED)  # by now every function has run, on every kind of input
        assert all(leaf.is_deleted() for leaf in before), "the state is not donated"
        if (step + 5) % 10 == 0:
            carry, numbers = program.measure(carry)
            lines.append(numbers)
    assert len(COMPILED) == compiled, "a function is compiled again"
    return carry, lines


def facts(program, carry):
    """What the compiler made of the steps, and where the arrays lie."""
    rows = program.place.indices(program.batches.indices(0, 1))
    compiled = program._run.lower(carry, program.train, {}, rows, np.int32(1)).compile()
    text = compiled.as_text()
    width = program.train["x"].shape[1:]
    here = (BATCH // program.place.devices, *width)
    return {
        "all_reduces": text.count("all-reduce("),
        "part_of_a_batch": f"[{','.join(map(str, here))}]" in text,
        "whole_batch": f"[{','.join(map(str, (BATCH, *width)))}]" in text,
        "carry_is_whole": all(x.sharding.is_fully_replicated for x in jax.tree.leaves(carry)),
        "devices": len(carry.count.sharding.device_set),
    }


def main(folder, sizes, kinds):
    """One .npz with the state and one .json with numbers and facts for each kind and size."""
    sizes = list(map(int, sizes.split(",")))
    jax.config.update("jax_num_cpu_devices", max(sizes))
    for kind in kinds.split(","):
        settings = KINDS[kind]
        for size in sizes:
            with jax.enable_x64(settings["precision"] == "float64"):
                program, _ = assemble(settings | dict(mesh=dict(data=size)))
                carry, lines = trained(program)
                key = jax.random.key_data(carry.state.key)
                state = carry.replace(state=carry.state.replace(key=key))
                leaves = {
                    jax.tree_util.keystr(path): np.asarray(leaf)
                    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
                }
                np.savez(f"{folder}/{kind}-{size}.npz", **leaves)
                said = {"lines": lines, "facts": facts(program, carry)}
            Path(f"{folder}/{kind}-{size}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
