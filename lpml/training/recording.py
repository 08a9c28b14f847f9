"""What a run leaves in its folder while it trains, and how it picks up what is there."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from lpml.training.checkpoint import Checkpoints
from lpml.training.environment import describe
from lpml.training.events import EventWriter
from lpml.training.loop import Outputs, RunFailed
from lpml.training.memory import state_bytes
from lpml.training.metrics_log import MetricsLog, read
from lpml.training.pure import Carry
from lpml.training.run_folder import FolderConflict, RunFolder, flatten, write_json
from lpml.training.stopwatch import Stopwatch

LOG = logging.getLogger("lpml")

# TensorBoard believes the first end of a folder: that of a failure is a file of its own,
# which the next try removes.
FAILURE = ".failed"


class Recording:
    """The open files of one run, from the restored checkpoint to the DONE mark.

    Args:
      folder: claimed by the run.
      config: the resolved config.
      like: the carry to restore, as arrays or shapes.
      steps: length of the training.
      hparams: dotted config keys for TensorBoard's HPARAMS table, besides the usual ones.
      side_by_side: how many runs its program computes at once, for environment.json and the
        time.

    Attributes:
      folder: the run's.
      start: the step to start from.
      carry: the restored carry, None for a fresh run.
      checkpoints: those of the run.
      outputs: where the training loop writes.
      stopwatch: how long the run has computed.

    Raises:
      CheckpointMismatch, FolderConflict: the folder does not fit the run.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: Mapping[str, Any],
        like: Carry,
        *,
        steps: int,
        hparams: tuple[str, ...] = (),
        side_by_side: int = 1,
    ):
        self._folder, self._steps = folder, steps
        self.folder = folder.path
        self.checkpoints = Checkpoints(folder.checkpoints)
        restored = self.checkpoints.restore(like)
        self.start = restored[0] if restored else 0
        self.carry: Carry | None = restored[1] if restored else None
        resumed = folder.metrics_file.exists()
        self._forget_end()
        write_json(
            folder.environment_file,
            {**describe(), "side_by_side": side_by_side, "bytes": state_bytes(like)},
        )
        self._log = MetricsLog(folder.metrics_file)
        try:
            self._log.rewind(self.start if restored else -1)
        except ValueError as error:
            self._log.close()
            raise FolderConflict(
                f"{error}: mend that line or give another --workdir"
            ) from error
        if restored is not None:
            LOG.info("%s resumes at step %d of %d", folder.path, self.start, steps)
        self._events = EventWriter(folder.path)
        self._announce(config, hparams, resumed)
        self.outputs = Outputs(self.checkpoints, self._log, self._events)
        self.stopwatch = Stopwatch(
            folder.path, resumed=restored is not None, sharing=side_by_side
        )
        self.outputs.on_save = self.stopwatch.write

    def _announce(self, config, hparams, resumed):
        if resumed:
            # -1: nothing of the killed run stays
            self._events.restart(self.start if self.start else -1)
        text = json.dumps(config, indent=2, default=str)
        self._events.text("config", "\n".join("    " + line for line in text.splitlines()))
        self._events.hparams(_hparams(config, hparams))

    def finish(self) -> dict[str, float]:
        """Marks the run as done; returns its final metrics.

        Raises:
          RunFailed: the last line of the log is lost.
        """
        # no end is written for a run that stopped: it may be resumed
        self._events.end("success")
        self.close()
        # read back, because a run killed between its last checkpoint and this line has trained
        # nothing in this process
        rows = read(self._folder.metrics_file)
        if not rows or rows[-1]["step"] != self._steps:
            raise RunFailed(
                f"{self._folder.metrics_file} has lost the line of step {self._steps}; remove "
                f"{self._folder.checkpoints} to train again"
            )
        self.stopwatch.write()
        self._folder.finish(rows[-1])
        return rows[-1]

    def fail(self, reason: str) -> None:
        """Marks the run as failed, for TensorBoard and for `lpml.runs`; it may be resumed."""
        write_json(self._folder.failed_file, {"reason": reason})
        with EventWriter(self._folder.path, ending=FAILURE) as events:
            events.end("failure")

    def _forget_end(self):
        self._folder.failed_file.unlink(missing_ok=True)
        self._folder.pruned_file.unlink(missing_ok=True)
        for path in self._folder.path.glob(f"events.out.tfevents.*{FAILURE}"):
            path.unlink()

    def close(self) -> None:
        """Closes the files; a second call does nothing."""
        self._events.close()
        self._log.close()


def _hparams(config, further):
    """What TensorBoard's HPARAMS table shows: short, because it cuts long lists."""
    usual = ("seed", "precision", "data.name", "model.name", *further)
    return {
        key: value if isinstance(value, (bool, int, float, str)) else str(value)
        for key, value in flatten(config).items()
        if value is not None and (key in usual or key.startswith("optim."))
    }
