"""How much memory a program may need, and how much there is."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

# Where Linux keeps the limit of a container, version 2 and 1 of its interface.
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def bytes_of(tree: Any) -> int:
    """Bytes of all leaves of a tree of arrays or shapes; a typed key counts as its words."""
    return sum(_bytes(leaf) for leaf in jax.tree.leaves(tree))


def state_bytes(carry: Any) -> dict[str, int]:
    """Bytes of the parameters and of the optimizer's state; of a measurement nothing."""
    state = getattr(carry, "state", None)
    if state is None:
        return {}
    return {"parameters": bytes_of(state.params), "optimizer": bytes_of(state.opt_state)}


def most_bytes(function: Callable[..., Any], *arguments: Any) -> int:
    """An upper bound of what `function` allocates: all its intermediate values, kept at once.

    Nothing is computed or compiled; a loop's body counts once. The compiler fuses and reuses,
    so the truth is lower, often by several times.
    """
    return _intermediates(jax.make_jaxpr(function)(*arguments).jaxpr)


def available() -> int:
    """Bytes free on the default device: its own report, or the machine's and container's."""
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in LIMITS:
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            free = min(free, int(text))
    return free


def _intermediates(jaxpr):
    total = 0
    for equation in jaxpr.eqns:
        total += sum(_bytes(variable.aval) for variable in equation.outvars)
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            if hasattr(inner, "eqns"):
                total += _intermediates(getattr(inner, "jaxpr", inner))
    return total


def _bytes(leaf):
    shape, dtype = getattr(leaf, "shape", ()), getattr(leaf, "dtype", None)
    if dtype is None:
        return 0
    return math.prod(shape) * (8 if not hasattr(dtype, "kind") else dtype.itemsize)
