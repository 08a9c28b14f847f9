"""Checks of settings that are numbers."""

from typing import Any


def check_whole(name: str, value: Any, least: int, remark: str = "") -> None:
    """Raises ValueError unless the value is a whole number of at least `least`.

    Args:
      name: the setting's, for the sentence.
      value: an int, or a float without a fraction.
      least: the bound.
      remark: follows "at least `least`" in the sentence.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # infinity has no remainder, and NaN is not itself
    if not (number and value % 1 == 0 and value >= least):
        raise ValueError(f"{name} = {value!r} must be an integer of at least {least}{remark}")
