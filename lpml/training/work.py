"""What a config asks for: a training, or a measurement. The frame around both is the same."""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax

from lpml.measurements import Measurement
from lpml.parallel import processes
from lpml.training.assemble import assemble, is_measurement, measurement
from lpml.training.following import handed_out
from lpml.training.loop import RunFailed, Schedule, Stopped, fit
from lpml.training.program import Program
from lpml.training.recording import Recording
from lpml.training.starting import folder_of, started_from

LOG = logging.getLogger("lpml")


class Work(Protocol):
    """What `run.train` does in a run's folder.

    Attributes:
      steps: the step of the last line of the log.
    """

    @property
    def steps(self) -> int: ...  # noqa: D102

    def shapes(self) -> Any:
        """What a checkpoint holds, as shapes."""

    def run(self, recording: Recording, should_stop: Callable[[], bool]) -> None:
        """Does it, from where the recording stands; raises `RunFailed` or `Stopped`."""


def work_of(config: Mapping[str, Any]) -> Work:
    """The work of a resolved config; arguments and errors as of `assemble`."""
    if is_measurement(config):
        return Measuring(measurement(config), config["seed"])
    return Training(*assemble(config), config["seed"])


@dataclasses.dataclass(frozen=True)
class Training:
    """A program, run as its schedule says."""

    program: Program
    schedule: Schedule
    seed: int

    @property
    def steps(self) -> int:
        """Length of the training."""
        return self.schedule.steps

    def shapes(self) -> Any:
        """The carry, laid nowhere: process 0 reads a checkpoint, and all of them place it."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), self.program.shapes()
        )

    def run(self, recording: Recording, should_stop: Callable[[], bool]) -> None:
        """Trains, or goes on with a training."""
        carry = self._start(recording)
        if self.schedule.refresh_every and jax.tree.leaves(carry.state.model_state):
            LOG.warning(
                "under batch statistics a full gradient is not the mean of the batches' "
                "gradients, which biases methods with an anchor; group normalisation does not "
                "(config.model.norm=group, where the model has it)"
            )
        fit(
            self.program,
            carry,
            self.schedule,
            outputs=recording.outputs,
            start=recording.start,
            should_stop=should_stop,
        )

    def _start(self, recording):
        """The fresh or restored carry, on all processes."""
        steps = recording.checkpoints.steps
        processes.know_checkpoints(steps)
        carry, saved = recording.carry, steps()
        if carry is None:
            saved = []
            if self.program.start_from is None:
                processes.told([False, saved])
                return self.program.init(self.seed)
            source = folder_of(self.program.start_from, recording.folder)
            fresh = self.program.init(self.seed)
            carry = started_from(source, fresh, self.program.alone)
        processes.told([True, saved])
        return handed_out(self.program, carry)


@dataclasses.dataclass(frozen=True)
class Measuring:
    """A measurement; it keeps no state, so that one that was stopped begins anew."""

    measurement: Measurement
    seed: int

    @property
    def steps(self) -> int:
        """Number of lines."""
        return self.measurement.count

    def shapes(self) -> Any:
        """No checkpoint is written."""
        return ()

    def run(self, recording: Recording, should_stop: Callable[[], bool]) -> None:
        """Writes line after line."""
        step = 0
        for step, line in enumerate(self.measurement.lines(self.seed), start=1):
            recording.outputs.write(step, dict(line), rate=None)
            if step < self.steps and should_stop():
                raise Stopped(0)
        if step != self.steps:
            raise RunFailed(f"the measurement gave {step} lines and not {self.steps}")
