"""A training step of ResNet-20 in few bits beside its float step.

    PYTHONPATH=. python benchmarks/quantised_resnet.py

Activations of 2 bits (the staircase and its clipped estimator), weights of 8 bits with one
scale a layer or a channel, and 2-bit activations with the former; all else is one program:
momentum SGD, batch statistics, crops and mirrors, a batch of 128 images of 32 x 32. Rounds are
interleaved; medians, and medians of the rounds' ratios to the float step of the same round.
`--batch` and `--rounds` make it shorter.
"""

import argparse
import statistics
import time

import jax
import numpy as np

from lpml import models, optim
from lpml.training.state import TrainState
from lpml.training.step import make_step

ACTIVATION = dict(bits=2, estimator="clipped_relu", rounding="ceil")
WEIGHTS = dict(weights="int8tensor")
NETWORKS = {
    "float": {},
    "2-bit activations": dict(activation=ACTIVATION),
    "8-bit weights": dict(quant=WEIGHTS),
    "per channel": dict(quant=dict(weights="int8channel")),
    "both": dict(activation=ACTIVATION, quant=WEIGHTS),
}


def started(settings, batch):
    """A compiled step, and its state before the first."""
    model = models.resnet20(classes=10, augment="crop_flip", **settings)
    params, model_state = jax.jit(model.init)(jax.random.key(0), batch)
    tx = optim.momentum(0.1, weight_decay=1e-4, milestones=(1000,))
    state = TrainState.create(
        params=params, tx=tx, key=jax.random.key(1), model_state=model_state
    )
    step = jax.jit(make_step(model, with_grad_norm=True), donate_argnums=0)
    return step.lower(state, batch).compile(), state


def main():
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--batch", type=int, default=128)
    flags.add_argument("--rounds", type=int, default=15)
    flags = flags.parse_args()
    random = np.random.default_rng(0)
    batch = jax.device_put(
        {
            "x": random.uniform(size=(flags.batch, 32, 32, 3)).astype(np.float32),
            "y": random.integers(0, 10, flags.batch).astype(np.int32),
        }
    )
    programs = {name: started(how, batch) for name, how in NETWORKS.items()}
    states = {name: state for name, (_, state) in programs.items()}
    seconds = {name: [] for name in programs}
    for at in range(flags.rounds + 1):
        for name, (step, _) in programs.items():
            start = time.perf_counter()
            states[name], metrics = step(states[name], batch)
            jax.block_until_ready((states[name], metrics))
            if at:  # the first is to warm up
                seconds[name].append(time.perf_counter() - start)
    print(f"ResNet-20, batch {flags.batch}, {jax.devices()[0]}, {flags.rounds} rounds")
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(times, seconds["float"])]
        print(
            f"{name:>20}  {statistics.median(times) * 1e3:8.1f} ms a step"
            f"  {statistics.median(ratios):.2f} of float"
        )


if __name__ == "__main__":
    main()
