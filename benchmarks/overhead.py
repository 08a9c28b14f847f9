"""What the framework's loop costs beside a bare jitted loop of the same step.

    PYTHONPATH=. python benchmarks/overhead.py

An MLP whose step takes about a millisecond. Bare: one compiled loop over the same samples,
called once per LOG steps. Framework: `fit` with a line in the log and in the event file every
LOG steps, and a checkpoint every SAVE steps, into a real run folder. Both in turn, median of
ROUNDS. Evaluation is no overhead and left out (objective "batch", no test set).
"""

import logging
import statistics
import tempfile
import time

import jax
import numpy as np

from lpml import models, optim
from lpml.data import Dataset
from lpml.training.loop import Schedule, fit
from lpml.training.program import Batches, Program
from lpml.training.recording import Recording
from lpml.training.run_folder import RunFolder

ROUNDS = 7
STEPS, LOG, SAVE = 5000, 100, 2500


def build():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4096, 256), np.float32)
    data = Dataset({"x": x, "y": rng.integers(0, 10, 4096).astype(np.int32)}, None, 10)
    return Program(
        models.mlp(classes=10, hidden=(640, 448)),
        optim.sgd(0.01),
        data,
        batches=Batches(seed=0, size=4096, batch_size=128, sampling="shuffle"),
        objective="batch",
        full_batch_size=1024,
    )


def bare(program):
    """Seconds of STEPS steps, called LOG at a time, nothing written."""
    carry = program.init(0)
    indices = [program.batches.indices(at, LOG) for at in range(0, STEPS, LOG)]
    started = time.perf_counter()
    for rows in indices:
        carry = program._run(carry, program.train, {}, rows, np.int32(LOG))
    jax.block_until_ready(carry)
    return time.perf_counter() - started


def framework(program):
    """Seconds of the same steps through `fit`, with everything a run writes."""
    config = {"seed": 0, "precision": "float32", "data": {"name": "none"}, "optim": {}}
    with tempfile.TemporaryDirectory() as path, RunFolder(path) as folder:
        recording = Recording(folder, config, program.shapes(), steps=STEPS)
        carry = program.init(0)
        schedule = Schedule(STEPS, LOG, SAVE)
        started = time.perf_counter()
        fit(program, carry, schedule, outputs=recording.outputs)
        seconds = time.perf_counter() - started
        recording.finish()
    return seconds


def main():
    logging.getLogger("lpml").setLevel(logging.WARNING)
    program = build()
    for measure in (bare, framework):  # compiles
        measure(program)
    seconds = {"bare loop": [], "fit": []}
    for _ in range(ROUNDS):
        seconds["bare loop"].append(bare(program))
        seconds["fit"].append(framework(program))
    for name, rounds in seconds.items():
        print(f"{name:>10}  {statistics.median(rounds) / STEPS * 1e3:.3f} ms a step")
    ratios = [f / b for f, b in zip(seconds["fit"], seconds["bare loop"])]
    print(f"{'overhead':>10}  {100 * (statistics.median(ratios) - 1):.1f} % (median of ratios)")
    print(f"{'':>10}  rounds: {', '.join(f'{100 * (r - 1):.1f}' for r in ratios)}")


if __name__ == "__main__":
    main()
