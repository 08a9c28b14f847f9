"""A training that starts with the parameters of a finished run."""

import os

import optax

from lpml.build import ConfigError
from lpml.training.checkpoint import CheckpointMismatch, Checkpoints
from lpml.training.pure import Carry
from lpml.training.state import TrainState


def sibling(start_from: str | None) -> str | None:
    """The name of the run beside this one that `start_from` means; None for a path."""
    return start_from if start_from and os.path.basename(start_from) == start_from else None


def folder_of(start_from: str, beside: str | os.PathLike[str]) -> str:
    """The folder that `start_from` means: a bare name is a run beside the folder `beside`."""
    if sibling(start_from) is None:
        return start_from
    return os.path.join(os.path.dirname(os.path.abspath(beside)), start_from)


def started_from(folder: str, carry: Carry, tx: optax.GradientTransformation) -> Carry:
    """The carry of a fresh run, with parameters and batch statistics of another run's end.

    Everything else is fresh: the optimizer's state is that of a first step from there.

    Args:
      folder: the other run's.
      carry: fresh.
      tx: makes the optimizer's state anew from the parameters, as one device has it.

    Raises:
      ConfigError: the folder holds no finished run.
      CheckpointMismatch: its network is another one; names the first leaf that differs.
    """
    if os.path.exists(os.path.join(folder, "DONE")) and not os.path.exists(
        os.path.join(folder, "checkpoints")
    ):
        raise ConfigError(
            f"config.train.start_from: {folder} is a measurement, which has no network; name a "
            "training"
        )
    if not os.path.exists(os.path.join(folder, "DONE")):
        raise ConfigError(
            f"config.train.start_from: {folder} holds no finished run; run that one first"
        )
    # what is None is no leaf: the rest of the carry is not asked for
    bare = carry.state.replace(step=None, opt_state=None, key=None)
    like = carry.replace(state=bare, sums=None, count=None, bad_step=None)
    try:
        checkpoints = Checkpoints(os.path.join(folder, "checkpoints"))
        found = checkpoints.restore(like, only=(".state.params", ".state.model_state"))
    except CheckpointMismatch as error:
        raise CheckpointMismatch(f"config.train.start_from: {error}") from None
    if found is None:
        raise ConfigError(
            f"config.train.start_from: {folder} holds no readable checkpoint; run that one "
            "again in another folder"
        )
    end = found[1].state
    fresh = TrainState.create(
        params=end.params, tx=tx, key=carry.state.key, model_state=end.model_state
    )
    return carry.replace(state=fresh.replace(tx=end.tx))
