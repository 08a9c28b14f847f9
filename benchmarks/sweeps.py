"""A sweep of 15 bit widths x 4 seeds of `halp_regression`, three ways, wall clock of commands.

    python benchmarks/sweeps.py            (about ten minutes)
    python benchmarks/sweeps.py --quick    (3 widths x 2 seeds: whether it works)

Vectorised: one `launch.py --axis ...`. Sequential processes: one `launch.py --config ...` after
the other, as a shell loop would. `--jobs=2`: one command, a process per point, two at a time.
All with one warm compile cache. The vectorised command is repeated, as it is short; the others
are sums over many processes already.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONFIG = "--config=configs/halp_regression.py"


def seconds_of(*arguments):
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "launch.py", CONFIG, *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{arguments}: {done.stderr}")
    return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    widths, seeds = (range(7, 10), range(1, 3)) if quick else (range(2, 17), range(1, 5))
    axes = [
        f"--axis=optim.bits={widths.start}:{widths.stop}",
        f"--axis=seed={seeds.start}:{seeds.stop}",
    ]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/cache"
        # fills the cache for both forms of the program
        seconds_of(*axes, "--config.train.steps=2000", f"--workdir={folder}/warm")
        for bits in widths:
            steps = "--config.train.steps=2000"
            seconds_of(f"--config.optim.bits={bits}", steps, f"--workdir={folder}/w{bits}")
        many = [seconds_of(*axes, f"--workdir={folder}/v{i}") for i in range(3)]
        print(f"vectorised            {statistics.median(many):7.1f} s  {many}", flush=True)
        jobs = seconds_of(*axes, "--jobs=2", f"--workdir={folder}/jobs")
        print(f"--jobs=2              {jobs:7.1f} s", flush=True)
        single = [
            seconds_of(
                f"--config.optim.bits={bits}",
                f"--config.seed={seed}",
                f"--workdir={folder}/s/{bits}-{seed}",
            )
            for bits in widths
            for seed in seeds
        ]
    many_s = statistics.median(many)
    print(f"sequential processes  {sum(single):7.1f} s  ({statistics.median(single):.1f} each)")
    print(f"vectorised is {sum(single) / many_s:.1f} times as fast as sequential processes,")
    print(f"{jobs / many_s:.1f} times as fast as --jobs=2")


if __name__ == "__main__":
    main()
