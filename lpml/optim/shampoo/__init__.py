"""Shampoo in parts: blocks, statistics, roots, grafting, momentum; `optimizer` joins them.

Whoever renews roots from outside of the program finds `find_state(opt_state)`, solves for
`exponent_of(name)` of each stack of its `statistics_of`, and puts the roots in with `swapped`.
"""

from lpml.optim.shampoo.blocks import Blocking, exponent_of, plan_blocks
from lpml.optim.shampoo.filtered import FilteredState, filtered
from lpml.optim.shampoo.optimizer import shampoo
from lpml.optim.shampoo.refresh import Refreshing
from lpml.optim.shampoo.state import ShampooState, find_state, roots_of, statistics_of, swapped
from lpml.optim.shampoo.storage import Storage
from lpml.optim.shampoo.transformation import scale_by_shampoo

__all__ = [
    "Blocking",
    "FilteredState",
    "Refreshing",
    "ShampooState",
    "Storage",
    "exponent_of",
    "filtered",
    "find_state",
    "plan_blocks",
    "roots_of",
    "scale_by_shampoo",
    "shampoo",
    "statistics_of",
    "swapped",
]
