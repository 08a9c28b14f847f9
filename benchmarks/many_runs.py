"""Seconds until many finished runs are listed, tabled, and shown by TensorBoard's HPARAMS.

    python benchmarks/many_runs.py [--runs=1000]

Makes the folders in a temporary place with the framework's own writers (50 lines a run), so
only their numbers are invented. TensorBoard's part is left out where it is not installed.
"""

import argparse
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from lpml.runs import find, group, rows
from lpml.training.events import EventWriter
from lpml.training.metrics_log import MetricsLog
from lpml.training.run_folder import RunFolder, flatten

LINES = 50
LOG_EVERY = 100
STEPS = LOG_EVERY * LINES
ROUNDS = 5
SEEDS = 4
LIMIT_S = 300
ROOT = Path(__file__).parent.parent


def make_run(folder, number):
    """A finished run of bits x learning rate x seed."""
    config = {
        "seed": number % SEEDS + 1,
        "precision": "float64",
        "data": {"name": "synthetic_regression", "samples": 1000, "features": 10, "dir": None},
        "model": {"name": "linear_regression"},
        "optim": {
            "name": "halp",
            "bits": 2 + number // SEEDS % 15,
            "learning_rate": 1e-4 * 1.1 ** (number // SEEDS // 15),
            "mu": 4.0,
        },
        "train": {"steps": STEPS, "batch_size": 1, "log_every": LOG_EVERY},
    }
    optim, seed = config["optim"], config["seed"]
    name = f"optim.bits={optim['bits']},optim.learning_rate={optim['learning_rate']:.4g}"
    with RunFolder(folder / f"{name},seed={seed}") as run:
        run.claim(config)
        with EventWriter(run.path) as events, MetricsLog(run.metrics_file) as log:
            shown = {k: v for k, v in flatten(config).items() if k.startswith("optim.")}
            events.hparams({"seed": seed, **shown})
            for line in range(1, LINES + 1):
                noise = 1 + 0.1 * ((number * 7919 + line) % 13)
                loss = noise * 2.0 ** -optim["bits"] / line
                metrics = {"loss": loss, "grad_norm": 3 * loss, "steps_per_second": 1e5}
                log.append(LOG_EVERY * line, metrics)
                events.scalars(LOG_EVERY * line, metrics)
            events.end("success")
        run.finish({"step": STEPS, **metrics})


def seconds(work):
    """Median of several rounds."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def command(folder, *arguments):
    """The table as a user gets it, start of Python included."""
    words = [sys.executable, "-m", "lpml.runs", str(folder), *arguments]
    return lambda: subprocess.run(words, check=True, capture_output=True, cwd=ROOT)


def tensorboard(folder, count, *options):
    """Seconds from the start of a server until HPARAMS has all runs, and of one more answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["--logdir", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    start = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", *words, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while (shown := session_groups(port)) < count:
            if server.poll() is not None or time.perf_counter() - start > LIMIT_S:
                raise SystemExit(f"TensorBoard shows {shown} of {count} runs and no more")
            time.sleep(0.1)
        loaded = time.perf_counter() - start
        return loaded, seconds(lambda: session_groups(port))
    finally:
        server.terminate()
        server.wait()


def session_groups(port):
    """How many runs HPARAMS answers with, last metrics included; 0 while it is not up."""
    statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/data/plugin/hparams/session_groups",
        json.dumps({"allowedStatuses": statuses, "startIndex": 0, "sliceSize": 10**6}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
            groups = json.load(answer).get("sessionGroups", [])
    except (urllib.error.URLError, ConnectionError):
        return 0
    last = [{m["trainingStep"] for m in group.get("metricValues", [])} for group in groups]
    return last.count({STEPS})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    count = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        for number in range(count):
            make_run(folder, number)
        print(f"{count} runs of {LINES} lines, made in {time.perf_counter() - start:.1f} s")
        table = rows(folder)
        assert len(table) == count
        measured = {
            "find": seconds(lambda: find(folder)),
            "rows": seconds(lambda: rows(folder)),
            "group over seed, of rows read": seconds(lambda: group(table, over=["seed"])),
            "python -m lpml.runs": seconds(command(folder)),
            "python -m lpml.runs --group seed": seconds(command(folder, "--group", "seed")),
        }
        for mark in folder.glob("*/DONE"):
            os.remove(mark)
        measured["python -m lpml.runs, none finished"] = seconds(command(folder))
        if importlib.util.find_spec("tensorboard"):
            for loader in ("auto", "false"):  # with its compiled data server, and without
                loaded, again = tensorboard(folder, count, f"--load_fast={loader}")
                measured[f"TensorBoard, load_fast={loader}: all shown"] = loaded
                measured[f"TensorBoard, load_fast={loader}: again"] = again
    for what, time_s in measured.items():
        print(f"  {what:<38} {time_s:>8.3f} s")


if __name__ == "__main__":
    main()
