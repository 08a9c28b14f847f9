"""A training step with loss-aware weights and gradients in few bits beside its float step.

    PYTHONPATH=. python benchmarks/loss_aware_step.py [--rounds 40] [--network mlp]

Weights of 3 bits (LAQ3, three alternations from the warm scale), gradients of 3 bits (SQ3),
both, and neither, with as many workers, simulated on one device, of 64 samples each.
Everything else is one program: Adam, the gradient's norm. The networks: 784-256-10 units, and
CifarNet with 16 filters on images of 24 x 24. Rounds are interleaved; medians, and medians of
the rounds' ratios to the float step of the same round.
"""

import argparse
import statistics
import time

import jax
import numpy as np

from lpml import models, optim
from lpml.parallel import Placement
from lpml.training.state import TrainState
from lpml.training.step import make_step, whole_batch
from lpml.training.workers import workers

CASES = {
    "float": (None, None),
    "weights": (3, None),
    "gradients": (None, 3),
    "both": (3, 3),
}
SAMPLES = 64  # of a worker


def network(name):
    """A model and the shape of a sample."""
    if name == "mlp":
        return models.mlp(classes=10, hidden=(256,), activation="relu"), (784,)
    return models.cifarnet(classes=10, width=16, hidden=(96, 48), crop=None), (24, 24, 3)


def started(model, batch, count, case):
    """A compiled step of some workers, and its state before the first."""
    weights, gradients = CASES[case]
    team = workers(count=count, bits=gradients)
    gradient = whole_batch if team is None else team.gradient(Placement())
    params, model_state = jax.jit(model.init)(jax.random.key(0), batch)
    tx = optim.loss_aware(1e-3, bits=weights, iterations=3)
    state = TrainState.create(
        params=params, tx=tx, key=jax.random.key(1), model_state=model_state
    )
    step = jax.jit(make_step(model, with_grad_norm=True, gradient=gradient), donate_argnums=0)
    return step.lower(state, batch).compile(), state


def measure(name, count, rounds):
    """Prints a line for every case."""
    model, shape = network(name)
    random = np.random.default_rng(0)
    size = SAMPLES * count
    batch = jax.device_put(
        {
            "x": random.uniform(size=(size, *shape)).astype(np.float32),
            "y": random.integers(0, 10, size).astype(np.int32),
        }
    )
    programs = {case: started(model, batch, count, case) for case in CASES}
    states = {case: state for case, (_, state) in programs.items()}
    seconds = {case: [] for case in CASES}
    for at in range(rounds + 5):
        for case, (step, _) in programs.items():
            start = time.perf_counter()
            states[case], metrics = step(states[case], batch)
            jax.block_until_ready((states[case], metrics))
            if at >= 5:  # the first are to warm up
                seconds[case].append(time.perf_counter() - start)
    print(f"{name}, {count} workers of {SAMPLES} samples, {rounds} rounds")
    for case, times in seconds.items():
        ratios = [a / b for a, b in zip(times, seconds["float"])]
        print(
            f"{case:>12}  {statistics.median(times) * 1e3:8.2f} ms a step (least "
            f"{min(times) * 1e3:.2f})  {statistics.median(ratios):.2f} of float"
        )


def main():
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--rounds", type=int, default=40)
    flags.add_argument("--network", choices=("mlp", "cifarnet"), help="default: both")
    flags = flags.parse_args()
    print(jax.devices()[0])
    for name in ("mlp", "cifarnet") if flags.network is None else (flags.network,):
        for count in (1, 2):
            measure(name, count, flags.rounds)


if __name__ == "__main__":
    main()
