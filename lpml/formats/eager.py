"""Methods that are compiled as a whole, wherever they are called."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

Method = TypeVar("Method", bound=Callable[..., Any])


def one_program(method: Method) -> Method:
    """`method`, as one compiled program where nothing around it is compiled.

    Operation by operation, a call passes over its numbers dozens of times, and compiles as
    many small programs for every shape; the same goes for grad and vmap outside of jit. Under
    jit it becomes a part of what is traced, as if it were not wrapped. Arrays are arguments of
    the program, and so are the format's own floats, that no scale compiles anew; ints, strings
    and dtypes are constants of it: a width stays known. A format with fields that have no hash
    is called operation by operation.
    """

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        leaves, tree = jax.tree.flatten((self, args, kwargs))
        own = len(jax.tree.leaves(self))
        given = [
            isinstance(leaf, (jax.Array, np.ndarray)) or (at < own and isinstance(leaf, float))
            for at, leaf in enumerate(leaves)
        ]
        numbers = [leaf for leaf, is_given in zip(leaves, given, strict=True) if is_given]
        # with their types: 1 and True are one key of a cache
        constants = tuple(
            None if is_given else (type(leaf), leaf)
            for leaf, is_given in zip(leaves, given, strict=True)
        )
        try:
            hash((tree, constants))
        except TypeError:  # an own format's fields that no cache can tell apart
            return method(self, *args, **kwargs)
        return _run(method, tree, constants, numbers)

    return call  # type: ignore[return-value]


@functools.partial(jax.jit, static_argnums=(0, 1, 2), inline=True)
def _run(method, tree, constants, numbers):
    rest = iter(numbers)
    leaves = [next(rest) if kept is None else kept[1] for kept in constants]
    self, args, kwargs = jax.tree.unflatten(tree, leaves)
    return method(self, *args, **kwargs)
