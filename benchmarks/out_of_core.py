"""HALP on a set of codes that is larger than its memory would allow as floats.

    PYTHONPATH=. python benchmarks/out_of_core.py FOLDER [--samples=200000] [--limit=3.0]

Writes N x 8192 codes of 8 bits to FOLDER/codes (kept, and used again) and trains on them for
some epochs in a child process whose memory besides mapped files is limited. Prints sizes, the
child's peak of memory that is its own (not the file's), and the gradient norms of its log.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from lpml.data import write_codes

FEATURES, CHUNK, GB = 8192, 2000, 2.0**30


def chunks(samples):
    """Least squares with noise, a few rows at a time."""
    random = np.random.default_rng(0)
    weights = random.normal(size=FEATURES) / FEATURES**0.5
    for start in range(0, samples, CHUNK):
        rows = random.integers(-127, 128, (min(CHUNK, samples - start), FEATURES), np.int8)
        y = rows.astype(np.float32) @ weights.astype(np.float32) / 127
        yield rows, y + 0.1 * random.normal(size=len(rows))


def own_memory(pid):
    """Bytes of memory that belong to no file, now."""
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields["RssAnon"].split()[0]) * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=200000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--limit", type=float, default=3.0, help="GB of the child's own memory")
    options = parser.parse_args()
    codes = options.folder / "codes"
    if not codes.exists():
        write_codes(chunks(options.samples), codes, scale=1 / 127)
    size = options.samples * FEATURES
    print(
        f"codes {size / GB:.2f} GB, as float32 {4 * size / GB:.2f} GB, limit {options.limit} GB"
    )
    settings = {"name": "halp", "backend": "native", "mu": "auto"}
    settings |= {"learning_rate": 0.25 / (2 * FEATURES / 3), "inner_steps": options.samples}
    with tempfile.TemporaryDirectory() as workdir:
        command = [
            *(sys.executable, "launch.py", "--config=configs/halp_regression.py"),
            f"--config.data={json.dumps({'name': 'coded', 'dir': str(codes)})}",
            f"--config.optim={json.dumps(settings)}",
            "--config.model.l2=0.01",
            f"--config.train.steps={options.epochs * options.samples}",
            f"--config.train.log_every={options.samples}",
            f"--config.train.checkpoint_every={options.epochs * options.samples}",
            f"--workdir={workdir}",
        ]
        most = int(options.limit * GB)
        limited = dict(
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        )
        start, peak = time.perf_counter(), 0
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, **limited)
        done = threading.Event()
        threading.Thread(target=lambda: (child.wait(), done.set()), daemon=True).start()
        while not done.wait(0.1):
            try:
                peak = max(peak, own_memory(child.pid))
            except (OSError, KeyError):
                break  # it has just ended
        if child.wait():
            raise SystemExit(f"the training ended with exit code {child.returncode}")
        seconds = time.perf_counter() - start
        log = Path(workdir, "metrics.jsonl").read_text().splitlines()
        norms = [json.loads(line)["grad_norm"] for line in log]
    print(
        f"peak of own memory {peak / GB:.2f} GB, {seconds:.0f} s, norms",
        *map("{:.2e}".format, norms),
    )


if __name__ == "__main__":
    main()
