"""Config files: loading them, overriding fields, and sentences for what is wrong."""

import copy
import importlib.util
import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder
from ml_collections.config_flags import config_path

from lpml.build import ConfigError, in_words, suggestion

# Sections that every config has, with what says nothing: a value, or a type for None.
OPTIONAL: dict[str, dict[str, Any]] = {
    "mesh": {"data": 1},
    "workers": {
        "count": 1,
        "bits": int,
        "clip": float,
        "scheme": str,
        "format": str,
        "exempt_below": int,
        "norms": bool,
    },
}


def load(path: str) -> ConfigDict:
    """The locked config of `file.py` or `file.py:variant`.

    Raises:
      ConfigError: no such file, no `get_config` in it, or it raises; a ValueError from it
        refuses the variant.
    """
    file, _, variant = path.partition(":")
    module = _module(file)
    try:
        config = module.get_config(variant) if variant else module.get_config()
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        if variant and isinstance(error, ValueError):
            raise ConfigError(
                f"the config {file} refuses the variant {variant!r}: {error}"
            ) from error
        raise ConfigError(
            f"the config {path} raises {type(error).__name__}: {error}"
        ) from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"get_config of {file} gives no ConfigDict")
    _add_optional(config)
    config.lock()
    return config


def _add_optional(config):
    """Every run may be spread over devices or workers; config files need not speak of them."""
    with config.unlocked():
        for name, fields in OPTIONAL.items():
            section = config.get(name, default=None)
            if section is None:
                section = config[name] = ConfigDict()
            if not isinstance(section, ConfigDict):
                continue  # refused later, with the reason
            with section.unlocked():
                for field, value in fields.items():
                    if field not in section:
                        is_kind = isinstance(value, type)
                        section[field] = placeholder(value) if is_kind else value


def load_sweep(path: str) -> list[dict[str, Any]]:
    """What the `sweep()` of a config file gives: for each point, dotted keys and values.

    Args:
      path: `file.py` or `file.py:variant`; the variant is not looked at.

    Raises:
      ConfigError: no such file, no `sweep` in it, or it raises or gives something else.
    """
    file = path.partition(":")[0]
    sweep = getattr(_module(file), "sweep", None)
    if sweep is None:
        raise ConfigError(
            f"the config file {file} has no function sweep; name the axes on the command line, "
            "--axis='optim.bits=4,8' --axis='seed=0:3'"
        )
    try:
        points = list(sweep())
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"sweep() of {file} raises {type(error).__name__}: {error}"
        ) from error
    for point in points:
        if not isinstance(point, Mapping) or not all(isinstance(key, str) for key in point):
            raise ConfigError(
                f"sweep() of {file} gives {point!r} and no dict of dotted keys and values"
            )
    return [dict(point) for point in points]


def override(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    """A locked copy of `config` with dotted keys replaced, as `--config.key=value` does.

    A mapping takes the place of a whole sub-tree. Keys are set in their order.

    Raises:
      ConfigError: a key that does not exist or a value of the wrong type.
    """
    changed = copy.deepcopy(config)  # unlike copy_and_resolve_references, it keeps references
    for key, value in overrides.items():
        check_key(changed, key)
        kind = config_path.get_type(key, changed)
        tree = isinstance(value, Mapping) and not isinstance(value, ConfigDict)
        try:
            # what the flags call too
            config_path.set_value(key, changed, ConfigDict(value) if tree else value)
        except (TypeError, ValueError, LookupError) as error:
            raise ConfigError(wrong_type(key, repr(value), kind)) from error
    changed.lock()
    return changed


def wrong_type(key: str, value: str, kind: type) -> str:
    """The sentence about a value, as text, that a field of type `kind` does not take."""
    tree = "a dict in Python's words, {'name': ..., 'flag': False}"
    return f"config.{key} = {value} must be {tree if kind is ConfigDict else in_words(kind)}"


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
    """The resolved config as nested dicts of JSON's types (tuples become lists).

    The sections `mesh` and `workers` are left out where they say nothing.
    """
    resolved = {key: plain(value) for key, value in config.to_dict().items()}
    for name, fields in OPTIONAL.items():
        nothing = {k: None if isinstance(v, type) else v for k, v in fields.items()}
        if resolved.get(name) == nothing:
            del resolved[name]
    return resolved


def plain(value: Any) -> Any:
    """A value in JSON's types: mappings become dicts, tuples lists."""
    if isinstance(value, ConfigDict):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _module(file: str) -> ModuleType:
    """The config file as a module that has `get_config`."""
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
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"the config {file} raises {type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, "get_config"):
        raise ConfigError(f"the config file {file} has no function get_config")
    return module


def _nearby(file):
    folder = os.path.dirname(file) or "."
    if not os.path.isdir(folder):
        return ""
    here = [name for name in sorted(os.listdir(folder)) if name.endswith(".py")]
    return suggestion(os.path.basename(file), here)
