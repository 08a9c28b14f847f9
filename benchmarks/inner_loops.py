"""Steps per second of the SVRG and HALP inner loops, and their ratio, measured side by side.

    python benchmarks/inner_loops.py

One compiled loop per method over the same data and sample order, interleaved, median of
several rounds; least squares, batch 1, float64 data as in the experiments (HALP's arithmetic is
float32). "threefry" is HALP with the words of `jax.random` in place of the hash.
"""

import contextlib
import statistics
import time
from unittest import mock

import jax
import numpy as np

from lpml import models, optim
from lpml.data import synthetic_regression
from lpml.training.program import Batches, Program

ROUNDS = 7
METHODS = {
    "sgd": lambda: optim.sgd(1e-6),
    "svrg": lambda: optim.svrg(1e-6, inner_steps=2000),
    "lp_svrg": lambda: optim.lp_svrg(1e-6, inner_steps=2000, bits=8, radius=100.0),
    "halp": lambda: optim.halp(1e-6, inner_steps=2000, bits=8, mu=4.0),
    "threefry": lambda: optim.halp(1e-6, inner_steps=2000, bits=8, mu=4.0),
}
SIZES = (
    # features, samples, steps a round
    (100, 1000, 16000),
    (784, 1000, 4000),
    (1000, 1000, 4000),
    (10000, 1000, 400),
)


def threefry_words(key, shape, start=0):
    """In place of `lpml.optim.dither.words`."""
    key = jax.random.fold_in(jax.random.wrap_key_data(key), start)
    return jax.random.bits(key, shape, "uint32")


def with_threefry():
    """The generator that HALP had before, in its rounding, its leaves' keys and its steps'."""
    patches = contextlib.ExitStack()
    for name, what in (
        ("lpml.optim.offset_grid.words", threefry_words),
        ("lpml.optim.dither.child_key", jax.random.fold_in),
        ("lpml.training.step.child_key", jax.random.fold_in),
    ):
        patches.enter_context(mock.patch(name, what))
    return patches


def build(name, dataset):
    batches = Batches(seed=0, size=dataset.size, batch_size=1, sampling="replacement")
    program = Program(
        models.linear_regression(dtype="float64"),
        METHODS[name](),
        dataset,
        batches=batches,
        objective="full",
        full_batch_size=1000,
    )
    carry = program.init(0)
    if program.refresh_every:
        carry = program.refresh(carry)
    return program, program.run(carry, 0, 1)  # compiled, warm


def main():
    jax.config.update("jax_enable_x64", True)
    for features, samples, steps in SIZES:
        dataset = synthetic_regression(samples=samples, features=features)
        running = {}
        for name in METHODS:
            with with_threefry() if name == "threefry" else contextlib.nullcontext():
                running[name] = build(name, dataset)
        seconds = {name: [] for name in METHODS}
        for _ in range(ROUNDS):
            for name, (program, carry) in running.items():
                start = time.perf_counter()
                after = program.run(carry, 1, steps)
                after.bad_step.block_until_ready()
                seconds[name].append((time.perf_counter() - start) / steps)
                running[name] = (program, after)
        print(f"d = {features}: median of {ROUNDS} interleaved rounds of {steps} steps")
        svrg = np.array(seconds["svrg"])
        for name, times in seconds.items():
            ratio = statistics.median(np.array(times) / svrg)
            median = statistics.median(times)
            print(
                f"  {name:>8}  {1 / median:>10.0f} steps/s  {median * 1e6:>8.2f} us/step"
                f"  {ratio:>5.2f} x svrg's time"
            )


if __name__ == "__main__":
    main()
