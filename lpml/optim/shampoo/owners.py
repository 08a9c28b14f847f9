"""Who keeps the stacks and solves for their roots: one device, or all of a mesh alike."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def owners_of(mesh: Mesh | None) -> "Owners":
    """The devices of a mesh as owners; None is one device, which owns all.

    Raises:
      ValueError: an axis of the mesh is not left to the compiler.
    """
    if mesh is None:
        return Owners()
    if any(kind != AxisType.Auto for kind in mesh.axis_types):
        raise ValueError(
            f"mesh has axes {mesh.axis_types}, and Shampoo's stacks need axes that the "
            "compiler partitions: give jax.make_mesh axis_types of AxisType.Auto"
        )
    return MeshOwners(mesh)


class Owners:
    """One device: it owns every row of every stack, and nothing is padded, placed or gathered.

    A stack is an array with the leading axis K of its matrices.
    """

    number = 1

    def rows(self, matrices: int) -> int:
        """The length of a stack's leading axis: K up to a multiple of the owners."""
        return -(-matrices // self.number) * self.number

    def made(self, make: Callable[[], Any]) -> Any:
        """What `make()` gives, a tree of stacks, each at its owners from the beginning."""
        return make()

    def spread(self, stacks: Any) -> Any:
        """Every row at its owner."""
        return stacks

    def gathered(self, stacks: Any) -> Any:
        """Every row at everybody."""
        return stacks

    def of_each(self, fn: Callable[[int, Any], Any], shared: Any) -> Any:
        """`fn(owner, shared)` by every owner: its rows of a tree of stacks.

        Args:
          fn: of an owner's number (static: owners do different things) and of `shared`.
          shared: known to everybody.
        """
        return fn(0, shared)

    def on_each(self, fn: Callable[..., Any], stacks: Any, shared: Any) -> Any:
        """`fn(rows, shared)` by every owner, of its rows of the stacks: the same of others.

        No compiler's partitioner would do: it gathers what a loop runs over.
        """
        return fn(stacks, shared)


class MeshOwners(Owners):
    """The devices of a mesh, over all its axes: owner i has the i-th of equal runs of rows."""

    def __init__(self, mesh: Mesh):
        self.number = mesh.size
        self._mesh = mesh
        names = mesh.axis_names
        self._rows = PartitionSpec(names[0] if len(names) == 1 else names)
        self._spread = NamedSharding(mesh, self._rows)
        self._whole = NamedSharding(mesh, PartitionSpec())

    def made(self, make: Callable[[], Any]) -> Any:
        """See `Owners`."""
        return jax.jit(make, out_shardings=self._spread)()

    def spread(self, stacks: Any) -> Any:
        """See `Owners`."""
        return jax.lax.with_sharding_constraint(stacks, self._spread)

    def gathered(self, stacks: Any) -> Any:
        """See `Owners`."""
        return jax.lax.with_sharding_constraint(stacks, self._whole)

    def of_each(self, fn: Callable[[int, Any], Any], shared: Any) -> Any:
        """See `Owners`; the program has a branch for every owner."""

        def own(shared):
            branches = [functools.partial(fn, owner) for owner in range(self.number)]
            return jax.lax.switch(jax.lax.axis_index(self._mesh.axis_names), branches, shared)

        return self._manual(own, (PartitionSpec(),))(shared)

    def on_each(self, fn: Callable[..., Any], stacks: Any, shared: Any) -> Any:
        """See `Owners`."""
        return self._manual(fn, (self._rows, PartitionSpec()))(stacks, shared)

    def _manual(self, fn, in_specs):
        return jax.shard_map(
            fn, mesh=self._mesh, in_specs=in_specs, out_specs=self._rows, check_vma=False
        )


def own_part(owner: int, rows: int, start: int, stop: int) -> slice:
    """Which of the rows start to stop of a stack an owner has, counted from `start`.

    Args:
      owner: its number.
      rows: how many it has of the stack: owner * rows up to (owner + 1) * rows.
      start, stop: 0 <= start <= stop.
    """
    first, last = owner * rows - start, (owner + 1) * rows - start
    length = stop - start
    return slice(min(max(first, 0), length), min(max(last, 0), length))


def padded(stack: jax.Array, rows: int) -> jax.Array:
    """The stack with rows of zeros up to the length `rows`; as it is where it has that."""
    missing = rows - len(stack)
    if not missing:
        return stack
    return jnp.pad(stack, [(0, missing)] + [(0, 0)] * (stack.ndim - 1))
