"""What a training cannot have beside an optimizer that takes many steps in a call by itself."""

from collections.abc import Mapping
from typing import Any

import optax

from lpml.build import ConfigError
from lpml.optim import inner_loop_of, prepare_of
from lpml.training.program import Program


def alone(tx: optax.GradientTransformation) -> str:
    """Why trainings by this transformation share no program, or the empty string."""
    if inner_loop_of(tx) is not None:
        return "each has a loop of its own, which vmap cannot widen"
    if prepare_of(tx) is not None:
        return "each prepares the data for itself"
    return ""


def check_own_loop(config: Mapping[str, Any], program: Program) -> None:
    """Raises ConfigError for a setting that a loop of the optimizer's own would pass over.

    Such a loop has one device, plain samples and a linear model, and computes no losses.
    """
    if inner_loop_of(program.tx) is None:
        return
    named = f"config.optim ({config['optim']['name']}) takes its steps in a loop of its own"
    if program.place.devices > 1:
        raise ConfigError(
            f"{named}, on one device; config.mesh.data = {program.place.devices} must be 1"
        )
    if program.workers is not None:
        raise ConfigError(
            f"{named}, where no workers exchange gradients; leave config.workers as it is"
        )
    if not program.model.linear:
        raise ConfigError(
            f"{named}, which is that of linear models; config.model.name = "
            f"{config['model']['name']!r} is none, so take another optimizer"
        )
    if program.model.augment is not None:
        raise ConfigError(
            f"{named}, which takes samples as they are; config.model must not augment them"
        )
    if program.objective != "full":
        raise ConfigError(
            f"{named}, which computes no losses of batches; set config.train.objective = 'full'"
        )
