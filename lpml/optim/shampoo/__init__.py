"""Shampoo in parts: blocks, statistics, roots, grafting, momentum; `optimizer` joins them.

Roots are renewed in the program, or on the host by `lpml.optim.RootRefresher`, which takes a
snapshot of the statistics, solves for `exponent_of(name)` of each stack, and puts the roots
into the state with `swapped`; `hosted` says so to it.
"""

from lpml.optim.shampoo.blocks import Blocking, exponent_of, plan_blocks
from lpml.optim.shampoo.filtered import FilteredState, filtered
from lpml.optim.shampoo.optimizer import shampoo
from lpml.optim.shampoo.refresh import Refreshing
from lpml.optim.shampoo.state import ShampooState, find_state, swapped
from lpml.optim.shampoo.transformation import scale_by_shampoo

__all__ = [
    "Blocking",
    "FilteredState",
    "Refreshing",
    "ShampooState",
    "exponent_of",
    "filtered",
    "find_state",
    "plan_blocks",
    "scale_by_shampoo",
    "shampoo",
    "swapped",
]
