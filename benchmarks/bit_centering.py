"""A step of HALP whose offsets go through the layers, beside HALP by subtraction, SVRG and SGD.

    PYTHONPATH=. python benchmarks/bit_centering.py [--rounds 15] [--network lenet5]

LeNet-5 on 64 images of 28 x 28, and ResNet-20's kin of 8 layers and width 8 on 32 of 32 x 32
(group normalisation, as HALP has it), one compiled program a step each, with the batch's loss
and without its gradient norm. Rounds are interleaved; medians of milliseconds and of the
rounds' ratios to the steps of SGD and of subtraction in the same round. Memory: what the
compiled step allocates beside its arguments and results (`memory_analysis`), and the bytes of
the optimizer's state.
"""

import argparse
import statistics
import time

import jax
import numpy as np

from lpml import models, optim
from lpml.training.memory import bytes_of
from lpml.training.state import TrainState
from lpml.training.step import make_refresh, make_step

HALP = dict(inner_steps=10**6, bits=8, mu=0.3, scale="leaf")
METHODS = {
    "SGD": lambda: optim.sgd(0.01),
    "SVRG": lambda: optim.svrg(0.01, inner_steps=10**6),
    "HALP, subtraction": lambda: optim.halp(0.01, **HALP),
    "HALP, float32 offsets": lambda: optim.halp(0.01, layer_offsets="float32", **HALP),
    "HALP, bfloat16 offsets": lambda: optim.halp(0.01, layer_offsets="bfloat16", **HALP),
    "HALP, float16 offsets": lambda: optim.halp(0.01, layer_offsets="float16", **HALP),
    "HALP, E4M3 offsets": lambda: optim.halp(0.01, layer_offsets="e4m3fn", **HALP),
    "HALP, int8 offsets": lambda: optim.halp(0.01, layer_offsets="int8", **HALP),
}
NETWORKS = {
    "lenet5": (lambda: models.lenet5(classes=10), (64, 28, 28, 1)),
    "resnet": (
        lambda: models.resnet20(classes=10, width=8, depth=8, norm="group"),
        (32, 32, 32, 3),
    ),
}


def problem(name):
    """A network's model and a random batch for it."""
    make, shape = NETWORKS[name]
    random = np.random.default_rng(0)
    x = random.uniform(size=shape).astype(np.float32)
    y = random.integers(0, 10, shape[0]).astype(np.int32)
    return make(), jax.device_put({"x": x, "y": y})


def initial(model, tx, batch):
    """What training starts from."""
    params, model_state = jax.jit(model.init)(jax.random.key(0), batch)
    return TrainState.create(
        params=params, tx=tx, key=jax.random.key(1), model_state=model_state
    )


def started(model, tx, batch):
    """A compiled step, its state after the first pass over the data, seconds of compilation."""
    state = initial(model, tx, batch)
    if isinstance(tx, optim.PeriodicTransformation):
        state = jax.jit(make_refresh(model, batch_size=len(batch["y"])))(state, batch)
    step = jax.jit(make_step(model, with_grad_norm=False), donate_argnums=0)
    start = time.perf_counter()
    compiled = step.lower(state, batch).compile()
    return compiled, state, time.perf_counter() - start


def measure(name, rounds):
    """Prints a line for every method."""
    model, batch = problem(name)
    made = {method: started(model, tx(), batch) for method, tx in METHODS.items()}
    states = {method: state for method, (_, state, _) in made.items()}
    state_bytes = {method: bytes_of(state.opt_state) for method, state in states.items()}
    seconds = {method: [] for method in made}
    for at in range(rounds + 2):
        for method, (step, _, _) in made.items():
            start = time.perf_counter()
            states[method], metrics = step(states[method], batch)
            jax.block_until_ready((states[method], metrics))
            if at >= 2:  # the first are to warm up
                seconds[method].append(time.perf_counter() - start)
    print(f"{name}, {batch['x'].shape}, {jax.devices()[0]}, {rounds} rounds")
    for method, times in seconds.items():
        step, _, compiling = made[method]
        sgd, subtracted = (
            statistics.median(a / b for a, b in zip(times, seconds[other], strict=True))
            for other in ("SGD", "HALP, subtraction")
        )
        temporary = step.memory_analysis().temp_size_in_bytes
        print(
            f"{method:>24}  {statistics.median(times) * 1e3:8.2f} ms (least "
            f"{min(times) * 1e3:.2f})  {sgd:5.2f} of SGD  {subtracted:5.2f} of subtraction"
            f"  {temporary / 2**20:7.2f} MiB temporary  {state_bytes[method] / 2**20:6.3f} MiB "
            f"state  compiled in {compiling:.1f} s"
        )


def main():
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--rounds", type=int, default=15)
    flags.add_argument("--network", choices=tuple(NETWORKS), help="default: both")
    flags = flags.parse_args()
    for name in NETWORKS if flags.network is None else (flags.network,):
        measure(name, flags.rounds)


if __name__ == "__main__":
    main()
