"""One run: a resolved config and a folder, from the claim on the folder to its DONE mark."""

import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax

from lpml.parallel import processes
from lpml.training.assemble import check_sections
from lpml.training.following import follow
from lpml.training.loop import RunFailed
from lpml.training.progress import Progress
from lpml.training.recording import Recording
from lpml.training.run_folder import RunFolder
from lpml.training.work import work_of

LOG = logging.getLogger("lpml")

# Where the data lies does not change what a run computes, nor, beyond rounding, on how many
# devices it runs.
IGNORED_IN_COMPARISON = ("data.dir", "mesh")


def train(
    config: Mapping[str, Any],
    workdir: str,
    *,
    label: str = "",
    hparams: tuple[str, ...] = (),
    should_stop: Callable[[], bool] = lambda: False,
    on_log: Callable[[int, Mapping[str, float]], None] | None = None,
) -> dict[str, float]:
    """Runs a config in a folder, or resumes it there, or reads the result of a finished run.

    A config with the section `measurement` measures, all others train.

    Args:
      config: the resolved config as nested dicts.
      workdir: the run's folder; made if need be.
      label: stands before the progress line, for one run of many.
      hparams: dotted config keys for TensorBoard's HPARAMS table, besides the usual ones.
      should_stop: asked about twice a second; True saves the state and raises `Stopped`.
      on_log: told step and metrics of each line of the log that this call writes.

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
        if not processes.is_first():
            return follow(config, should_stop=should_stop)
        work = work_of(config) if fresh else None
        with RunFolder(workdir) as folder:
            folder.claim(dict(config), ignore=IGNORED_IN_COMPARISON)
            done = processes.told(folder.finished())
            if done is not None:
                if not label:
                    LOG.info("%s is finished already; nothing to do", workdir)
                return done
            work = work or work_of(config)
            recording = Recording(
                folder, config, work.shapes(), steps=work.steps, hparams=hparams
            )
            progress = Progress(work.steps, start=recording.start, label=label)
            recording.outputs.progress = progress
            recording.outputs.on_log = on_log
            try:
                work.run(recording, should_stop)
                return processes.told(recording.finish())
            except RunFailed as failure:
                recording.fail(str(failure))
                raise
            finally:
                recording.close()
                progress.done()


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
