"""The launcher's commands, as functions that tests and notebooks can call too."""

import ast
import importlib
import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from lpml import book as reproduction
from lpml.build import ConfigError, suggestion
from lpml.config import as_plain
from lpml.data import DataError
from lpml.sweep import run_experiment
from lpml.training.assemble import assemble, check_sections, families
from lpml.training.checkpoint import CheckpointMismatch
from lpml.training.loop import RunFailed, Stopped
from lpml.training.run import enable_compile_cache, train
from lpml.training.run_folder import FolderConflict
from lpml.training.signals import stop_on_signals

__all__ = ["Stopped", "book", "dry_run", "experiment", "list_all", "run"]

USAGE_ERRORS = (ConfigError, DataError, FolderConflict, CheckpointMismatch)
RUNS = "runs"


def sentence(error: Exception) -> str:
    """An error in words; an unexpected one with the way to its traceback."""
    if isinstance(error, (*USAGE_ERRORS, RunFailed)):
        return str(error)
    if isinstance(error, OSError):
        return (
            f"{error.filename or 'the work folder'}: {error.strerror or error}; what was saved "
            "is kept and the same command resumes, once there is room and it may be written"
        )
    first = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {first} (run again with --debug for the traceback)"


def run(
    config: ConfigDict, path: str, overrides: Mapping[str, Any], workdir: str | None
) -> int:
    """One training in its folder; prints the final metrics."""
    workdir = _folder(workdir, run_name(path, overrides))
    enable_compile_cache()
    with stop_on_signals() as should_stop:
        metrics = train(
            as_plain(config), workdir, hparams=tuple(overrides), should_stop=should_stop
        )
    for name, value in metrics.items():
        print(f"{name:>24}  {value:.6g}" if value is not None else f"{name:>24}  not finite")
    print(f"{'folder':>24}  {workdir}")
    return 0


def _folder(workdir: str | None, name: str) -> str:
    """The folder to write in: `workdir`, or that of the name in RUNS."""
    if workdir == "":
        raise ConfigError(
            "--workdir names no folder; write --workdir=runs/NAME or leave it out"
        )
    folder = workdir or os.path.join(RUNS, name)
    there = Path(folder).absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise ConfigError(f"{there} is a file and no folder; give another --workdir")
    return folder


def run_name(path: str, overrides: Mapping[str, Any]) -> str:
    """Folder of a run without --workdir: config, variant and what was changed."""
    file, _, variant = path.partition(":")
    settings = [f"{key}={value}" for key, value in overrides.items() if key != "data.dir"]
    words = [Path(file).stem, *filter(None, variant.split(",")), *settings]
    return ",".join(words).replace(os.sep, "_").replace(" ", "")[:200]


def dry_run(config: ConfigDict) -> int:
    """Prints config, parameter table, one batch's shapes and the step count."""
    plain = as_plain(config)
    check_sections(plain)
    print(json.dumps(plain, indent=2))
    with jax.enable_x64(plain["precision"] == "float64"):
        program, schedule = assemble(plain)
        batch = program.example_batch()
        print(program.model.table(batch))
        for name, leaf in batch.items():
            print(f"batch[{name!r}]: {leaf.dtype}{list(leaf.shape)}")
    print(f"{schedule.steps} steps; nothing was trained")
    return 0


def experiment(name: str, size: str, workdir: str | None) -> int:
    """Reproduces a figure: runs, pictures, verdicts."""
    known = experiments()
    if name not in known:
        listing = ", ".join(sorted(known))
        raise ConfigError(
            f"the experiment {name!r} does not exist{suggestion(name, known)}; "
            f"choose from {listing}"
        )
    folder = _folder(workdir, name if size == "default" else f"{name}-{size}")
    if os.path.exists(os.path.join(folder, "config.json")):
        raise ConfigError(f"{folder} holds a single run; give the experiment another --workdir")
    enable_compile_cache()
    os.makedirs(folder, exist_ok=True)
    module = importlib.import_module(f"experiments.{name}")
    with stop_on_signals() as should_stop:
        verdicts = run_experiment(module, folder, size=size, should_stop=should_stop)
    print(f"\n{known[name]}\n")
    for verdict in verdicts:
        seeds = ", ".join(map(str, verdict.seeds))
        print(f"{verdict.verdict.upper():>9}  {verdict.claim}")
        print(f"{'':>11}measured: {verdict.measured}")
        print(f"{'':>11}expected: {verdict.expected}; seeds {seeds}")
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
    return _with_function("experiments", "check")


def _with_function(folder: str, function: str) -> dict[str, str]:
    """Modules of a folder beside the launcher that define a function; none is imported."""
    found = {}
    for path in sorted((Path(__file__).parent.parent / folder).glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        if function in names:
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def book(runs: str) -> int:
    """Writes docs/REPRODUCTION.md from the finished experiments of a folder of runs."""
    docs = Path(__file__).parent.parent / "docs"
    written = reproduction.write(Path(runs), docs, experiments())
    print(f"{docs / 'REPRODUCTION.md'}: {len(written)} experiments")
    return 0
