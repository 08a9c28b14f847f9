"""From the words of a config to the formats of every layer."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from lpml.formats import Scaled, by_name
from lpml.quant.products import FORMATS, FULL_PRECISION, Roles

ROLES = (*FORMATS, "gradient_rounding")
KEYS = (*ROLES, "first", "last", "layers")


@dataclasses.dataclass(frozen=True)
class Policy:
    """Which formats each layer of a network gets; hashable.

    Args:
      default: of all layers. An unsigned format of activations acts where inputs cannot be
        negative; elsewhere its signed counterpart does.
      first: whether the first layer is rounded; False leaves it its own settings alone.
      last: the same of the last.
      layers: settings of single layers, as pairs (layer, pairs (role, value)); they replace
        those above role by role.
    """

    default: Roles = FULL_PRECISION
    first: bool = True
    last: bool = True
    layers: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = ()

    def roles(self, layer: str, index: int, count: int, *, signed: bool | None = None) -> Roles:
        """The formats of one layer.

        Args:
          layer: its name, as in the tree of parameters.
          index: its place among the `count` layers, from 0.
          count: of the layers.
          signed: whether its inputs may be negative; None where only the data decide that:
            an unsigned format then needs to be named for this very layer.

        Raises:
          ValueError: an unsigned format, named for this layer, whose inputs may be negative.
        """
        roles = self.default
        if (index == 0 and not self.first) or (index == count - 1 and not self.last):
            roles = Roles(gradient_rounding=roles.gradient_rounding)
        if signed is not False:
            roles = dataclasses.replace(roles, activations=_signed(roles.activations))
        own = dict(dict(self.layers).get(layer, ()))
        if signed and _is_unsigned(own.get("activations")):
            raise ValueError(
                f"quant.layers.{layer}.activations is unsigned, but the inputs of {layer} may "
                "be negative; choose a signed format"
            )
        return dataclasses.replace(roles, **own)

    def assign(self, layers: Mapping[str, bool | None]) -> tuple[Roles, ...]:
        """The formats of all layers of a model, in their order.

        Args:
          layers: their names, in order, and for each `signed` of `roles`.

        Raises:
          ValueError: a setting of a layer that the model does not have; or see `roles`.
        """
        for name, _ in self.layers:
            if name not in layers:
                raise ValueError(_unknown("layers", name, layers, "the model has"))
        return tuple(
            self.roles(name, index, len(layers), signed=signed)
            for index, (name, signed) in enumerate(layers.items())
        )


def policy(spec: Mapping[str, Any] | None) -> Policy:
    """The policy that a config's sub-tree describes.

    Args:
      spec: None for full precision, or any of `weights`, `activations`, `gradients` (a name
        of `formats.by_name`, or a format; None or "none" for full precision, as when left
        out), `gradient_rounding` ("nearest" or "stochastic"), `first`, `last` (bool) and
        `layers`, a dict from names of layers to dicts of their own formats and rounding.
        Write "none" where the command line is to set the field: it replaces words by words.

    Raises:
      ValueError: an unknown key, format or rounding, in one sentence.
    """
    spec = dict(spec or {})
    for key in spec:
        if key not in KEYS:
            raise ValueError(_unknown("", key, KEYS, "it has"))
    ends = {key: spec[key] for key in ("first", "last") if spec.get(key) is not None}
    for key, value in ends.items():
        if not isinstance(value, bool):
            raise ValueError(f"quant.{key} = {value!r} must be true or false")
    default = _settings({k: v for k, v in spec.items() if k in ROLES}, "")
    layers = spec.get("layers") or {}
    if not isinstance(layers, Mapping):
        raise ValueError(f"quant.layers = {layers!r} must be a dict from layers to formats")
    return Policy(
        default=Roles(**default),
        layers=tuple((name, _of_layer(name, own, default)) for name, own in layers.items()),
        **ends,
    )


def _of_layer(name, own, default):
    if not isinstance(own, Mapping):
        raise ValueError(f"quant.layers.{name} = {own!r} must be a dict from roles to formats")
    place = f"layers.{name}"
    for key in own:
        if key not in ROLES:
            raise ValueError(_unknown(place, key, ROLES, "it has"))
    settings = _settings(own, f"{place}.")
    Roles(**default | settings)  # refuses what the layer would refuse
    return tuple(settings.items())


def _settings(spec, place):
    """Formats in place of their names; a rounding that is None is left out."""
    settings = {
        role: _format(spec[role], f"quant.{place}{role}") for role in FORMATS if role in spec
    }
    if spec.get("gradient_rounding") is not None:
        settings["gradient_rounding"] = spec["gradient_rounding"]
    return settings


def _format(word, place):
    if word is None or (isinstance(word, str) and word.lower() == "none"):
        return None
    if not isinstance(word, str):
        if hasattr(word, "round") and hasattr(word, "encode"):
            return word
        raise ValueError(f"{place} = {word!r} must be the name of a format, or None")
    try:
        return by_name(word)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _is_unsigned(fmt):
    element = fmt.element if isinstance(fmt, Scaled) else fmt
    return not getattr(element, "signed", True)


def _signed(fmt):
    """`fmt`, or the format that differs from it in having negative values too."""
    if not _is_unsigned(fmt):
        return fmt
    if isinstance(fmt, Scaled):
        return dataclasses.replace(fmt, element=_signed(fmt.element))
    return dataclasses.replace(fmt, signed=True)


def _unknown(place, key, known, says):
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    where = ".".join(part for part in ("quant", place, key) if part)
    return f"{where} does not exist{hint}; {says} {', '.join(known)}"
