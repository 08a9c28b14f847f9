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
    """What of a carry is shared out or filled up as numpy arrays of one device; else as it is.

    With several processes all of them must call it, for each has a part.

    Args:
      carry: a tree of arrays, of jax or numpy.
      like: the same as one device has it, as shapes.
    """

    def leaf(x, wanted):
        shared_out = isinstance(x, jax.Array) and not x.sharding.is_fully_replicated
        if not shared_out and x.shape == wanted.shape:
            return x
        host = processes.whole(x) if shared_out else np.asarray(x)
        return host[tuple(map(slice, wanted.shape))]

    return jax.tree.map(leaf, carry, like)


def padded(carry: Any, like: Any) -> Any:
    """Numpy arrays of one device, with zeros up to the shapes of a mesh, `like`."""

    def leaf(x, wanted):
        missing = [(0, n - m) for n, m in zip(wanted.shape, x.shape, strict=True)]
        return np.pad(x, missing) if any(n for _, n in missing) else x

    return jax.tree.map(leaf, carry, like)
