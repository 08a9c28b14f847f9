"""One run: a resolved config and a folder, from the claim on the folder to its DONE mark."""

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax

from lpml.training.assemble import assemble, check_sections
from lpml.training.checkpoint import Checkpoints
from lpml.training.environment import describe
from lpml.training.events import EventWriter
from lpml.training.loop import Outputs, RunFailed, fit
from lpml.training.metrics_log import MetricsLog, read
from lpml.training.progress import Progress
from lpml.training.run_folder import FolderConflict, RunFolder, write_json

LOG = logging.getLogger("lpml")

# Where the data lies does not change what a run computes.
IGNORED_IN_COMPARISON = ("data.dir",)


def train(
    config: Mapping[str, Any],
    workdir: str,
    *,
    label: str = "",
    hparams: tuple[str, ...] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Runs a config in a folder, or resumes it there, or reads the result of a finished run.

    Args:
      config: the resolved config as nested dicts.
      workdir: the run's folder; made if need be.
      label: stands before the progress line, for one run of many.
      hparams: dotted config keys for TensorBoard's HPARAMS table, besides the usual ones.
      should_stop: asked about twice a second; True saves the state and raises `Stopped`.

    Returns:
      The final metrics.

    Raises:
      ConfigError, DataError, FolderConflict, CheckpointMismatch: wrong usage.
      RunFailed: the training cannot go on.
      Stopped: `should_stop` said so; the state is saved.
    """
    check_sections(config)
    # a fresh folder is made only for a config that can be built
    fresh = not os.path.exists(os.path.join(workdir, "config.json"))
    with jax.enable_x64(config["precision"] == "float64"):
        parts = assemble(config) if fresh else None
        with RunFolder(workdir) as folder:
            folder.claim(dict(config), ignore=IGNORED_IN_COMPARISON)
            done = folder.finished()
            if done is not None:
                if not label:
                    LOG.info("%s is finished already; nothing to do", workdir)
                return done
            program, schedule = parts or assemble(config)
            announced = _hparams(config, hparams)
            return _train_in(folder, config, program, schedule, label, announced, should_stop)


def _train_in(folder, config, program, schedule, label, hparams, should_stop):
    checkpoints = Checkpoints(folder.checkpoints)
    carry = program.init(config["seed"])
    restored = checkpoints.restore(carry)
    start = 0
    resumed = folder.metrics_file.exists()
    if restored is not None:
        start, carry = restored
    write_json(folder.environment_file, describe())
    with EventWriter(folder.path) as events, MetricsLog(folder.metrics_file) as log:
        try:
            log.rewind(start if restored else -1)
        except ValueError as error:
            raise FolderConflict(
                f"{error}: mend that line or give another --workdir"
            ) from error
        if restored is not None:
            LOG.info("%s resumes at step %d of %d", folder.path, start, schedule.steps)
        _announce(events, config, hparams, start, resumed)
        progress = Progress(schedule.steps, start=start, label=label)
        outputs = Outputs(checkpoints, log, events, progress)
        try:
            fit(program, carry, schedule, outputs=outputs, should_stop=should_stop)
            # no end is written for a run that failed or stopped: it may be resumed, and
            # TensorBoard believes the first end of a folder
            events.end("success")
        finally:
            progress.done()
    # read back, because a run killed between its last checkpoint and this line has trained
    # nothing in this process
    rows = read(folder.metrics_file)
    if not rows or rows[-1]["step"] != schedule.steps:
        raise RunFailed(
            f"{folder.metrics_file} has lost the line of step {schedule.steps}; remove "
            f"{folder.checkpoints} to train again"
        )
    folder.finish(rows[-1])
    return rows[-1]


def _announce(events, config, hparams, start, resumed):
    if resumed:
        events.restart(start if start else -1)  # -1: nothing of the killed run stays
    text = json.dumps(config, indent=2, default=str)
    events.text("config", "\n".join("    " + line for line in text.splitlines()))
    events.hparams(hparams)


def _hparams(config, further):
    """What TensorBoard's HPARAMS table shows: short, because it cuts long lists."""
    usual = ("seed", "precision", "data.name", "model.name", *further)
    return {
        key: value if isinstance(value, (bool, int, float, str)) else str(value)
        for key, value in flatten(config).items()
        if value is not None and (key in usual or key.startswith("optim."))
    }


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def enable_compile_cache(folder: str | None = None) -> None:
    """Keeps compiled programs on disk: a second start of the same program is much faster.

    Args:
      folder: default: the variable JAX_COMPILATION_CACHE_DIR, else ~/.cache/lpml/jax.
    """
    default = os.path.join(os.path.expanduser("~"), ".cache", "lpml", "jax")
    folder = folder or os.environ.get("JAX_COMPILATION_CACHE_DIR") or default
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        print(f"no compile cache: {error}", file=sys.stderr)
        return
    jax.config.update("jax_compilation_cache_dir", folder)
    # the default caches only what compiled for a second, so small models would never gain
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
