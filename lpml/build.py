"""From a config's sub-tree to the object it names."""

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class ConfigError(ValueError):
    """A setting that cannot be used; the message names it and the remedy in one sentence."""


def choices(package: types.ModuleType, kind: type) -> dict[str, Callable[..., Any]]:
    """What a config may name: the public functions of `package` that return a `kind`.

    Not those that want one too: they change a `kind` and do not make one.
    """
    public = {name: getattr(package, name) for name in package.__all__}
    functions = {name: thing for name, thing in public.items() if inspect.isfunction(thing)}
    return {
        name: function
        for name, function in functions.items()
        if isinstance(made := inspect.signature(function).return_annotation, type)
        and issubclass(made, kind)
        and kind not in [p.annotation for p in inspect.signature(function).parameters.values()]
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
      ConfigError: unknown name, unknown or missing argument, or a value that is not of the
        annotated type or that the function refuses.
    """
    name = spec.get("name")
    if name not in known:
        raise ConfigError(
            f"config.{section}.name = {name!r} does not exist"
            f"{suggestion(str(name), known)}; choose from {', '.join(sorted(known))}"
        )
    function = known[str(name)]
    parameters = inspect.signature(function, eval_str=True).parameters
    arguments = {k: v for k, v in spec.items() if k != "name" and v is not None}
    for key in spec:
        if key != "name" and key not in parameters:
            raise ConfigError(
                f"config.{section}.{key}: {name} has no such setting"
                f"{suggestion(key, parameters)}; it has {', '.join(parameters)}; another name "
                f"takes the whole sub-tree: --config.{section}={{'name': {name!r}, ...}}"
            )
    for key, value in arguments.items():
        if not fits(value, parameters[key].annotation):
            wanted = in_words(parameters[key].annotation)
            raise ConfigError(f"config.{section}.{key} = {value!r} must be {wanted}")
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
    except (ValueError, TypeError, MemoryError) as error:
        where = f"config.{section}" + (f" ({name})" if name != section else "")
        if isinstance(error, MemoryError):
            raise ConfigError(f"{where} needs more memory than there is") from error
        raise ConfigError(f"{where}: {error}") from error


def fits(value: Any, annotation: Any) -> bool:
    """Whether a config's value may stand where a signature says `annotation`.

    An int may stand for a float and a list for a tuple; what is not known here is let through.
    """
    origin, options = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in options)
    if origin is typing.Literal:
        return value in options
    if annotation in (int, float):
        allowed = (int,) if annotation is int else (int, float)
        return isinstance(value, allowed) and not isinstance(value, bool)
    if origin in (tuple, list, Sequence):
        return isinstance(value, (tuple, list)) and all(fits(v, options[0]) for v in value)
    kind = origin or annotation
    checkable = isinstance(kind, type) and not getattr(kind, "_is_protocol", False)
    return not checkable or kind is inspect.Parameter.empty or isinstance(value, kind)


def in_words(annotation: Any) -> str:
    """What `fits` an annotation, as the end of a sentence: `a number or 'auto'`."""
    origin, options = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        known = dict.fromkeys(
            in_words(o) for o in options if (typing.get_origin(o) or o) in _SIMPLE
        )
        literals = [in_words(o) for o in options if typing.get_origin(o) is typing.Literal]
        return " or ".join([*known, *literals]) or str(annotation)
    if origin is typing.Literal:
        return " or ".join(map(repr, options))
    if origin in (tuple, list, Sequence):
        return f"a list, each item {in_words(options[0])}"
    return _SIMPLE.get(origin or annotation, str(annotation))


_SIMPLE = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a word",
    tuple: "a list",
    Mapping: "a sub-tree",
}


def suggestion(wrong: str, known: Any) -> str:
    """`; did you mean ...?` when a known name is near, else nothing."""
    near = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
