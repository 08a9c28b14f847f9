"""The launcher's commands, as functions that tests and notebooks can call too."""

import ast
import importlib
import inspect
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from lpml.book import DEFAULT_MINUTES
from lpml.book import make as make_book
from lpml.build import ConfigError, suggestion
from lpml.config import as_plain
from lpml.data import DataError
from lpml.parallel import Meeting, ProcessFailure
from lpml.parallel.processes import is_first, joined, leave
from lpml.sweep import Engine, run_experiment
from lpml.sweep.axes import parse_axes
from lpml.sweep.engines import ENGINES, EngineSettings, choose_engine
from lpml.sweep.jobs import resolve
from lpml.sweep.metrics import choose_metric
from lpml.sweep.space import Space, make_space, trial_space
from lpml.sweep.sweeping import WHOLE, Plan, Shard, plan, read_shard, run_sweep
from lpml.sweep.tune import tune as run_study
from lpml.training.assemble import (
    assemble,
    check_sections,
    families,
    is_measurement,
    measurement,
)
from lpml.training.checkpoint import CheckpointMismatch
from lpml.training.exporting import export_run
from lpml.training.loop import RunFailed, Stopped
from lpml.training.run import enable_compile_cache, train
from lpml.training.run_folder import FolderConflict
from lpml.training.signals import stop_on_signals

__all__ = [
    "DEFAULT_MINUTES",
    "ENGINES",
    "EngineSettings",
    "Stopped",
    "book",
    "choose_engine",
    "dry_run",
    "experiment",
    "leave",
    "list_all",
    "make_space",
    "meeting",
    "run",
    "sweep",
    "trial_space",
    "tune",
]

USAGE_ERRORS = (ConfigError, DataError, FolderConflict, CheckpointMismatch)
RUNS = "runs"
DEFAULT_TRIALS = 20
# Where a run computes is no part of its name.
UNNAMED = ("data.dir", "mesh.data")


def sentence(error: Exception) -> str:
    """An error in words; an unexpected one with the way to its traceback."""
    if isinstance(error, (*USAGE_ERRORS, RunFailed, ProcessFailure)):
        return str(error)
    if isinstance(error, OSError):
        return (
            f"{error.filename or 'the work folder'}: {error.strerror or error}; what was saved "
            "is kept and the same command resumes, once there is room and it may be written"
        )
    first = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {first} (run again with --debug for the traceback)"


def run(
    config: ConfigDict,
    path: str,
    overrides: Mapping[str, Any],
    workdir: str | None,
    *,
    together: Meeting | None = None,
) -> int:
    """One training in its folder, by this process or by several; prints the final metrics."""
    workdir = _folder(workdir, run_name(path, overrides))
    enable_compile_cache()
    plain = as_plain(config)
    if together and is_measurement(plain):
        raise ConfigError("a measurement runs in one process; leave --coordinator away")
    # where a process finds its data is its own affair
    given = json.dumps({**plain, "data": {**plain.get("data", {}), "dir": None}})
    # signals come first: while jax's devices start, one would otherwise kill
    with (
        stop_on_signals() as should_stop,
        joined(together, given, orderly=(Stopped,), sentence=sentence),
    ):
        metrics = train(plain, workdir, hparams=tuple(overrides), should_stop=should_stop)
        first = is_first()
    if not first:
        return 0
    for name, value in metrics.items():
        print(f"{name:>24}  {value:.6g}" if value is not None else f"{name:>24}  not finite")
    print(f"{'folder':>24}  {workdir}")
    return 0


def meeting(
    coordinator: str | None, processes: int | None, process: int | None, wait_s: float
) -> Meeting | None:
    """The processes that a command line speaks of; None where it speaks of one.

    Raises:
      ConfigError: flags that do not go together, or values that cannot be.
    """
    if coordinator is None and processes is None and process is None:
        return None
    if coordinator is None or processes is None or process is None:
        raise ConfigError(
            "--coordinator=HOST:PORT, --num_processes and --process_id go together; give all"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(
            f"--coordinator={coordinator} must be HOST:PORT, the machine of process 0 and a "
            "free port, 1 to 65535"
        )
    if processes < 2:
        raise ConfigError(f"--num_processes={processes} must be at least 2")
    if not 0 <= process < processes:
        raise ConfigError(f"--process_id={process} must be 0 to {processes - 1}")
    if not 0 < wait_s < float("inf"):
        raise ConfigError(f"--wait_s={wait_s} must be a positive number of seconds")
    return Meeting(host.strip("[]"), int(port), processes, process, wait_s)


def _folder(workdir: str | None, name: str, *, flag: str = "workdir") -> str:
    """The folder to write in: `workdir`, which the flag gave, or that of the name in RUNS."""
    if workdir == "":
        raise ConfigError(f"--{flag} names no folder; write --{flag}=runs/NAME or leave it out")
    folder = workdir or os.path.join(RUNS, name)
    there = Path(folder).absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise ConfigError(f"{there} is a file and no folder; give another --{flag}")
    return folder


def run_name(path: str, overrides: Mapping[str, Any]) -> str:
    """Folder of a run without --workdir: config, variant and what was changed."""
    file, _, variant = path.partition(":")
    settings = [
        f"{key}={_in_a_name(value)}" for key, value in overrides.items() if key not in UNNAMED
    ]
    words = [Path(file).stem, *filter(None, variant.split(",")), *settings]
    return ",".join(words).replace(os.sep, "_").replace(" ", "")[:200]


def _in_a_name(value: Any) -> str:
    """A value in one line, a section as its settings."""
    if isinstance(value, Mapping | ConfigDict):
        return ";".join(f"{key}:{_in_a_name(value[key])}" for key in sorted(value))
    return str(value)


def dry_run(config: ConfigDict) -> int:
    """Prints config, parameter table, one batch's shapes and the step count."""
    plain = as_plain(config)
    check_sections(plain)
    print(json.dumps(plain, indent=2))
    if is_measurement(plain):
        made = measurement(plain)
        print(f"{made.count} lines of {', '.join(made.metrics)}; nothing was measured")
        return 0
    with jax.enable_x64(plain["precision"] == "float64"):
        program, schedule = assemble(plain)
        batch = program.example_batch()
        print(program.model.table(batch))
        for name, leaf in batch.items():
            print(f"batch[{name!r}]: {leaf.dtype}{list(leaf.shape)}")
    print(f"{schedule.steps} steps; nothing was trained")
    return 0


def sweep(
    space: Space,
    workdir: str | None,
    *,
    engine: Engine,
    metric: str | None = None,
    shard: str | None = None,
    dry_run: bool = False,
) -> int:
    """Many runs under one folder, or only their list; prints the table of what came of them.

    Args:
      space: the points.
      workdir: the parent of their folders; default: named after config and overrides.
      engine: what runs them.
      metric: what settings are compared by; default: see `choose_metric`.
      shard: `i/n`, the part of the points to run.
      dry_run: whether to show the points alone.
    """
    part = WHOLE if shard is None else read_shard(shard)
    folder = _folder(workdir, f"{run_name(space.config, space.base)}-sweep")
    made = plan(space, folder, metric=metric)
    if dry_run:
        return _show_points(made, part)
    enable_compile_cache()
    with stop_on_signals() as should_stop:
        try:
            outcomes, summary = run_sweep(
                made, engine=engine, shard=part, should_stop=should_stop
            )
        except Stopped:
            done = sum(os.path.exists(os.path.join(job.folder, "DONE")) for job in made.jobs)
            words = f"stopped with {done} of {len(made.jobs)} points done"
            print(f"{words}; the same command goes on there", file=sys.stderr)
            return 0
    if not outcomes:
        print(f"--shard={shard} has none of the {len(made.jobs)} points; nothing was trained")
    print(summary.table())
    print(f"{made.metric}; {_in_numbers(summary)}")
    for row in summary.points:
        if row["status"] == "failed":
            print(f"failed: {row['run']}: {row['problem']}")
    print(f"table {folder}/summary.csv, points {folder}/points.csv")
    if os.path.exists(f"{folder}/summary.png"):
        print(f"picture {folder}/summary.png")
    print(f"compare the runs: tensorboard --logdir {folder}")
    failed = sum(outcome.failure is not None for outcome in outcomes)
    if failed:
        raise RunFailed(
            f"{failed} of {len(outcomes)} points failed; the same command tries them again"
        )
    return 0


def tune(
    space: Space,
    workdir: str | None,
    *,
    axes: Sequence[str],
    metric: str | None = None,
    trials: int | None = None,
) -> int:
    """Searches the axes for the best setting; prints the trials and the best.

    Args:
      space: what all trials share.
      workdir: folder of the study; default: named after config and overrides.
      axes: texts as `parse_axes` takes them.
      metric: what to optimise; default: see `choose_metric`.
      trials: how many the study is to have in all; default: 20.
    """
    folder = _folder(workdir, f"{run_name(space.config, space.base)}-study")
    groups = parse_axes(axes)
    goal = choose_metric(resolve(space.points(), folder), metric)
    enable_compile_cache()
    with stop_on_signals() as should_stop:
        tuned = run_study(
            space,
            groups,
            folder,
            goal=goal,
            trials=DEFAULT_TRIALS if trials is None else trials,
            should_stop=should_stop,
        )
    print(tuned.text())
    if tuned.best is not None:
        settings = " ".join(f"{key}={value}" for key, value in tuned.best.settings.items())
        print(f"{goal}; best: {settings}")
    print(f"trials {folder}/trials.csv; compare the runs: tensorboard --logdir {folder}")
    return 0


def _show_points(made: Plan, part: Shard) -> int:
    mine = {job.name for job in part.of(made.jobs)}
    for job, settings in zip(made.jobs, made.space.settings):
        if job.name in mine:
            print(f"{job.name}  {json.dumps(settings)}")
    count = len(mine) if len(mine) == len(made.jobs) else f"{len(mine)} of {len(made.jobs)}"
    print(f"{count} points for {made.folder}, {made.metric}; nothing was trained")
    return 0


def _in_numbers(summary):
    counts = {status: summary.count(status) for status in ("done", "failed", "unfinished")}
    words = [f"{n} {status}" for status, n in counts.items() if n or status == "done"]
    return f"{len(summary.points)} points: {', '.join(words)}"


def experiment(name: str, size: str, workdir: str | None, *, engine: Engine) -> int:
    """Reproduces a figure: runs, pictures, verdicts."""
    known = experiments()
    if name not in known:
        listing = ", ".join(sorted(known))
        raise ConfigError(
            f"the experiment {name!r} does not exist{suggestion(name, known)}; "
            f"choose from {listing}"
        )
    folder = _folder(workdir, name if size == "default" else f"{name}-{size}")
    enable_compile_cache()
    module = importlib.import_module(f"experiments.{name}")
    with stop_on_signals() as should_stop:
        verdicts = run_experiment(
            module, folder, size=size, engine=engine, should_stop=should_stop
        )
    print(f"\n{known[name]}\n")
    for verdict in verdicts:
        seeds = ", ".join(map(str, verdict.seeds))
        print(f"{verdict.verdict.upper():>9}  {verdict.claim}")
        print(f"{'':>11}measured: {verdict.measured}")
        print(f"{'':>11}expected: {verdict.expected}; seeds {seeds}")
        if verdict.paper:
            print(f"{'':>11}the paper: {verdict.paper}")
    print(f"\npicture {folder}/figure.png, table {folder}/results.csv")
    return 0


def list_all() -> int:
    """Prints configs and experiments with their claims, and what a config's sections take."""
    for title, found in (("configs", configs()), ("experiments", experiments())):
        print(f"{title}:")
        for name, claim in sorted(found.items()):
            print(f"  {name:<20} {claim}")
    for section, functions in families().items():
        print(f"config.{section}:")
        for name, function in sorted(functions.items()):
            words = [
                str(p).partition(":")[0] + ("" if p.default is p.empty else f"={p.default!r}")
                for p in inspect.signature(function).parameters.values()
            ]
            print(f"  {name}({', '.join(words)})")
    return 0


def configs() -> dict[str, str]:
    """Config files by name with the first line of their docstrings."""
    return _with_function("configs", "get_config")


def experiments() -> dict[str, str]:
    """Experiment files by name with the first line of their docstrings: the claim."""
    return _with_function("experiments", "runs")


def _with_function(folder: str, function: str) -> dict[str, str]:
    """Modules of a folder beside the launcher that define a function; none is imported."""
    found = {}
    for path in sorted((Path(__file__).parent.parent / folder).glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        if function in names:
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def book(
    workdir: str | None, docs: str | None, *, size: str, minutes: float, engine: Engine
) -> int:
    """Runs the experiments that are missing, and writes the pages; see `lpml.book.make`."""
    runs = Path(_folder(workdir, ""))
    pages = None if docs is None else Path(_folder(docs, "", flag="docs"))
    modules = {name: importlib.import_module(f"experiments.{name}") for name in experiments()}
    enable_compile_cache()
    with stop_on_signals() as should_stop:
        return make_book(
            modules,
            runs,
            pages,
            size=size,
            minutes=minutes,
            engine=engine,
            should_stop=should_stop,
            sentence=sentence,
        )


def export(path: str, workdir: str | None) -> int:
    """Writes the quantised network of a run to a file, and says what it takes."""
    if workdir is None:
        raise ConfigError("--export needs the run's folder: add --workdir=FOLDER")
    size, report = export_run(workdir, path)
    print(f"{path}: {size} bytes; as float32 the weights take {report.float32}")
    return 0
