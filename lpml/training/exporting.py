"""The quantised network of a finished run, as a file of its true size."""

import json
import os

import jax

from lpml.build import ConfigError
from lpml.optim import BitsReport, bits_report, quantized_params
from lpml.training.assemble import assemble, is_measurement
from lpml.training.checkpoint import Checkpoints
from lpml.training.export import save_quantized


def export_run(folder: str, path: str) -> tuple[int, BitsReport]:
    """Writes the last checkpoint's network with `save_quantized`.

    Args:
      folder: of a run of `loss_aware` weights; it need not be finished.
      path: of the file to write.

    Returns:
      Bytes of the file, and the report of what weights take.

    Raises:
      ConfigError: the folder holds no such run or no checkpoint; the message says which.
      OSError: the file cannot be written.
    """
    try:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
    except FileNotFoundError:
        raise ConfigError(f"{folder} is no run: it has no config.json") from None
    except (ValueError, OSError) as error:
        raise ConfigError(f"{folder}/config.json cannot be read: {error}") from error
    if is_measurement(config):
        raise ConfigError(f"{folder} is a measurement, which has no network; name a training")
    # on one device, wherever it was trained
    alone = {key: value for key, value in config.items() if key != "mesh"}
    with jax.enable_x64(config["precision"] == "float64"):
        program, _ = assemble(alone)
        checkpoints = Checkpoints(os.path.join(folder, "checkpoints"))
        found = checkpoints.restore(program.shapes())
        if found is None:
            raise ConfigError(f"{folder} holds no readable checkpoint; run it again")
        state = found[1].state
        try:
            tree = quantized_params(state.opt_state, state.params)
        except ValueError:
            raise ConfigError(
                f"{folder} was trained with {config['optim']['name']}, whose weights are not "
                "quantised; export a run of loss_aware with optim.bits"
            ) from None
        return save_quantized(path, tree), bits_report(state.opt_state, state.params)
