"""The carry in the form of a checkpoint, which does not tell on how many devices a run is.

Between steps, arrays of the optimizer's state may be shared out over the devices of a mesh, and
end with rows that only make their length a multiple of these (see `Placement.whole`). A
checkpoint holds every array whole and without such rows: as one device has it.
"""

from typing import Any

import jax
import numpy as np

from lpml.parallel import processes


def gathered(carry: Any, like: Any) -> Any:
    """What of a carry is shared out as whole numpy arrays; the rest as it is.

    With several processes all of them must call it, for each has a part.

    Args:
      carry: a tree of arrays.
      like: the same as one device has it, as shapes.
    """

    def leaf(x, wanted):
        if x.sharding.is_fully_replicated:
            return x
        return processes.whole(x)[tuple(map(slice, wanted.shape))]

    return jax.tree.map(leaf, carry, like)


def padded(carry: Any, like: Any) -> Any:
    """Numpy arrays of one device, with zeros up to the shapes of a mesh, `like`."""

    def leaf(x, wanted):
        missing = [(0, n - m) for n, m in zip(wanted.shape, x.shape, strict=True)]
        return np.pad(x, missing) if any(n for _, n in missing) else x

    return jax.tree.map(leaf, carry, like)
