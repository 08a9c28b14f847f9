"""From a config's sub-tree to the object it names."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


class ConfigError(ValueError):
    """A setting that cannot be used; the message names it and the remedy in one sentence."""


def choices(package: ModuleType, kind: type) -> dict[str, Callable[..., Any]]:
    """What a config may name: the public functions of `package` that return a `kind`."""
    public = {name: getattr(package, name) for name in package.__all__}
    functions = {name: thing for name, thing in public.items() if inspect.isfunction(thing)}
    return {
        name: function
        for name, function in functions.items()
        if isinstance(made := inspect.signature(function).return_annotation, type)
        and issubclass(made, kind)
    }


def build(
    known: Mapping[str, Callable[..., Any]],
    spec: Mapping[str, Any],
    *,
    section: str,
    context: Mapping[str, Any],
) -> Any:
    """Calls the function that `spec["name"]` names with the rest of `spec` as arguments.

    Python's own signature is the schema: an argument that does not exist is refused with the
    list of those that do. A setting of None means the function's own default.

    Args:
      known: the functions to choose from, by name (see `choices`).
      spec: a config sub-tree: `name` and keyword arguments.
      section: the sub-tree's place in the config, for messages.
      context: arguments the framework knows (the number of classes, the dtype); they fill
        parameters that the config leaves out and the function has.

    Raises:
      ConfigError: unknown name, unknown or missing argument, or a value the function refuses.
    """
    name = spec.get("name")
    if name not in known:
        raise ConfigError(
            f"config.{section}.name = {name!r} does not exist"
            f"{suggestion(str(name), known)}; choose from {', '.join(sorted(known))}"
        )
    function = known[str(name)]
    parameters = inspect.signature(function).parameters
    arguments = {k: v for k, v in spec.items() if k != "name" and v is not None}
    for key in spec:
        if key != "name" and key not in parameters:
            raise ConfigError(
                f"config.{section}.{key}: {name} has no such setting"
                f"{suggestion(key, parameters)}; it has {', '.join(parameters)}"
            )
    for key, value in context.items():
        if key in parameters and key not in arguments and value is not None:
            arguments[key] = value
    missing = [
        key
        for key, parameter in parameters.items()
        if parameter.default is parameter.empty and key not in arguments
    ]
    if missing:
        raise ConfigError(f"config.{section}: {name} needs a value for {', '.join(missing)}")
    try:
        return function(**arguments)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"config.{section} ({name}): {error}") from error


def suggestion(wrong: str, known: Any) -> str:
    """`; did you mean ...?` when a known name is near, else nothing."""
    near = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
