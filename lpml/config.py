"""Config files: loading them, overriding fields, and sentences for what is wrong."""

import copy
import importlib.util
import os
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from lpml.build import ConfigError, suggestion


def load(path: str) -> ConfigDict:
    """The locked config of `file.py` or `file.py:variant`.

    Raises:
      ConfigError: no such file, no `get_config` in it, or it raises.
    """
    file, _, variant = path.partition(":")
    if not file:
        raise ConfigError("--config names no file; write --config=configs/NAME.py")
    if not os.path.isfile(file):
        if os.path.isdir(file):
            raise ConfigError(f"the config file {file} is a folder; choose a file in it")
        raise ConfigError(f"the config file {file} does not exist{_nearby(file)}")
    spec = importlib.util.spec_from_file_location("config_file", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"the config file {file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise ConfigError(f"the config file {file} has no function get_config")
        config = module.get_config(variant) if variant else module.get_config()
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"the config {path} raises {type(error).__name__}: {error}"
        ) from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"get_config of {file} gives no ConfigDict")
    config.lock()
    return config


def override(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    """A locked copy of `config` with dotted keys replaced.

    Raises:
      ConfigError: a key that does not exist or a value of the wrong type.
    """
    changed = copy.deepcopy(config)  # unlike copy_and_resolve_references, it keeps references
    for key, value in overrides.items():
        check_key(changed, key)
        try:
            changed.update_from_flattened_dict({key: value})
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(
                f"config.{key} = {value!r} is of the wrong type: {error}"
            ) from error
    return changed


def check_key(config: ConfigDict, key: str) -> None:
    """Raises ConfigError, with the nearest right one, unless the dotted key exists."""
    node: Any = config
    for depth, word in enumerate(key.split(".")):
        part, _, index = word.partition("[")
        if not isinstance(node, ConfigDict) or part not in node:
            at = ".".join(["config", *key.split(".")[:depth]])
            known = list(node) if isinstance(node, ConfigDict) else []
            near = suggestion(part, known)
            listing = f"; {at} has {', '.join(known)}" if known else f"; {at} has no fields"
            raise ConfigError(f"there is no field config.{key}{near}{listing}")
        node = node[part]
        if index:
            size = len(node) if isinstance(node, (list, tuple)) else 0
            if index not in [f"{item}]" for item in range(size)]:
                raise ConfigError(f"there is no field config.{key}; {part} has {size} items")


def as_plain(config: ConfigDict) -> dict[str, Any]:
    """The resolved config as nested dicts of JSON's types (tuples become lists)."""
    return {key: _plain(value) for key, value in config.to_dict().items()}


def _plain(value):
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _nearby(file):
    folder = os.path.dirname(file) or "."
    if not os.path.isdir(folder):
        return ""
    here = [name for name in sorted(os.listdir(folder)) if name.endswith(".py")]
    return suggestion(os.path.basename(file), here)
