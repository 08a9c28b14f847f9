"""The points of a sweep: what its axes and the config's `sweep()` span, and their names."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lpml.build import ConfigError
from lpml.config import load_sweep, plain
from lpml.runs import Point
from lpml.sweep.axes import MOST_VALUES, Axis, parse_axes

# Words added to the variant of the config's path: no field of a config.
VARIANT = "variant"
LONGEST_NAME = 150


class Space(NamedTuple):
    """What a sweep runs.

    Attributes:
      config: path of the config file with its variant.
      base: dotted overrides that all points share; they are in no name.
      settings: of each point, what sets it apart: dotted overrides and perhaps `variant`.
    """

    config: str
    base: Mapping[str, Any]
    settings: tuple[Mapping[str, Any], ...]

    def points(self) -> list[Point]:
        """The points, named after their settings."""
        return [
            Point(
                name_of(each),
                with_variant(self.config, each.get(VARIANT)),
                {**self.base, **{key: each[key] for key in each if key != VARIANT}},
            )
            for each in self.settings
        ]

    def titles(self) -> list[str]:
        """The points in words: their settings as they were given."""
        return [
            ",".join(f"{key}={value}" for key, value in each.items()) or "base"
            for each in self.settings
        ]

    def keys(self) -> list[str]:
        """Keys of any point, in the order in which they come up."""
        return list(dict.fromkeys(key for each in self.settings for key in each))


def make_space(
    config: str,
    *,
    base: Mapping[str, Any] | None = None,
    sweep: bool = False,
    axes: Sequence[str] = (),
) -> Space:
    """The product of the config's `sweep()`, if asked for, and the axes; the last is fastest.

    Args:
      config: path of the config file with its variant.
      base: dotted overrides of every point.
      sweep: whether to take the config's `sweep()`.
      axes: texts as `parse_axes` takes them.

    Raises:
      ConfigError: an axis that cannot be read, a key set twice, or no points.
    """
    parts = [_together(group) for group in parse_axes(axes)]
    if sweep:
        parts.insert(0, load_sweep(config))
    count = math.prod(map(len, parts))
    if not parts or not count:
        raise ConfigError(f"the sweep of {config} has no points; sweep() must give some")
    if count > MOST_VALUES:
        raise ConfigError(f"the sweep has {count} points; at most {MOST_VALUES} make sense")
    base = {key: plain(value) for key, value in (base or {}).items()}
    keys = [list(dict.fromkeys(key for each in part for key in each)) for part in parts]
    named = ["sweep()"] * sweep + [f"--axis={text}" for text in axes]
    _check_set_once(base, keys, named)
    settings = [
        {key: value for part in parts for key, value in part.items()}
        for parts in itertools.product(*parts)
    ]
    return Space(config, base, tuple(settings))


def trial_space(config: str, base: Mapping[str, Any]) -> Space:
    """The one point that all trials of a tuning start from."""
    return Space(config, {key: plain(value) for key, value in base.items()}, ({},))


def name_of(settings: Mapping[str, Any]) -> str:
    """A folder's name for a point: `optim.bits=4,seed=0`; at most 150 characters."""
    words = [f"{key}={word(value)}" for key, value in settings.items()]
    name = re.sub(r"[^\w.,=+-]", "_", ",".join(words) or "base", flags=re.ASCII)
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 9]}-{_hash(dict(settings), 8)}"
    return name


def word(value: Any) -> str:
    """A value in few characters: of a sub-tree its name and a hash of the rest."""
    if isinstance(value, Mapping):
        rest = {key: item for key, item in value.items() if key != "name"}
        named = str(value.get("name", "tree"))
        return f"{named}-{_hash(rest, 6)}" if rest else named
    if isinstance(value, (tuple, list)):
        return "x".join(map(word, value)) or "empty"
    return str(value)


def with_variant(path: str, words: str | None) -> str:
    """A config's path with further words of its variant: `x.py:tiny` -> `x.py:tiny,svrg`."""
    if words is None:
        return path
    if not isinstance(words, str) or not words:
        raise ConfigError(f"variant = {words!r} must be words of the config's variant")
    return f"{path},{words}" if ":" in path else f"{path}:{words}"


def _together(group: tuple[Axis, ...]) -> list[dict[str, Any]]:
    """Axes joined by `&`: their first values, their second values, ..."""
    return [
        dict(zip([axis.key for axis in group], values))
        for values in zip(*(axis.values for axis in group))
    ]


def _check_set_once(base, keys, named):
    """No key may be set twice, nor be undone by a sub-tree around it that is set later."""
    before = {key: f"--config.{key}" for key in base}
    for source, part in zip(named, keys):
        for key in part:
            for old, where in before.items():
                if old == key or old.startswith(f"{key}."):
                    raise ConfigError(
                        f"{where} and {source} both set config.{old}; leave one of them out"
                    )
        before |= dict.fromkeys(part, source)


def _hash(value, digits):
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]
