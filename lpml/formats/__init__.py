"""Number formats: which values exist, and how a real number becomes one of them."""

from lpml.formats.fixed import Fixed
from lpml.formats.rounding import MODES, check_mode, round_to_integer

__all__ = ["MODES", "Fixed", "check_mode", "round_to_integer"]
