"""Where the arrays of a run lie: on one device, or on a mesh over which every batch is split.

Data parallelism is a matter of shardings alone: the program is the one of a single device,
the compiler's partitioner splits what depends on a sharded batch and sums the gradients. Of the
state, all is on every device but what it says may be shared out (see `Spreads`).
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"


def placement(devices: int) -> "Placement":
    """The placement on the first `devices` devices; 1 is that of a run without a mesh.

    Raises:
      ValueError: fewer than 1, more than there are, or, of several processes, not all; the
        sentence begins with `data = `, the setting's name in the section `mesh`.
    """
    if devices < 1:
        raise ValueError(f"data = {devices} must be at least 1, a number of devices")
    if jax.process_count() > 1 and devices != jax.device_count():
        raise ValueError(
            f"data = {devices} must be {jax.device_count()}, all devices of the "
            f"{jax.process_count()} processes together"
        )
    if devices == 1:
        return Placement()
    if devices > jax.device_count():
        raise ValueError(
            f"data = {devices} is more than the devices present ({jax.device_count()} "
            f"{jax.default_backend()}); give at most {jax.device_count()}"
        )
    return MeshPlacement(np.asarray(jax.devices()[:devices]))


@runtime_checkable
class Spreads(Protocol):
    """A NamedTuple within a state, some of whose fields may be shared out over the devices.

    Attributes:
      spread_fields: their names. Arrays in them are shared out evenly along their first axis
        where that is a multiple of the devices. So they are made by whoever knows of the mesh.
    """

    @property
    def spread_fields(self) -> tuple[str, ...]: ...  # noqa: D102

    def _replace(self, **fields: Any) -> Any: ...


class Placement:
    """One device: nothing is placed and nothing is split.

    Attributes:
      devices: their number.
      mesh: of the devices, None where there is one.
    """

    devices = 1
    mesh: Mesh | None = None

    def put(self, tree: Any) -> Any:
        """Numpy arrays as device arrays, whole on every device but for what `Spreads`."""
        return jax.device_put(tree)

    def indices(self, rows: np.ndarray) -> Any:
        """Sample indices (..., batch) as an argument of a compiled function."""
        return rows

    def each(self, rows: np.ndarray) -> Iterator[Any]:
        """Sample indices (steps, batch), step by step."""
        return iter(jnp.asarray(rows))

    def split(self, batch: Any) -> Any:
        """Inside a compiled function: a batch whose samples are spread over the devices."""
        return batch

    def whole(self, tree: Any) -> Any:
        """Inside a compiled function: values that every device has, but for what `Spreads`."""
        return tree

    def per_worker(self, fn: Callable[[Any, Any], Any], workers: int) -> Callable[..., Any]:
        """Inside a compiled function: `fn(shared, part)` once for every worker.

        Within `fn` the workers are the positions of the axis `AXIS`, over which it may use
        collectives. What it gives must be the same for all of them.

        Args:
          fn: of `shared`, whole for every worker, and `part`, the worker's samples.
          workers: their number; of a mesh, that of its devices.

        Returns:
          `(shared, batch) -> result`; the samples of `batch` (leading axes) are shared out
          evenly, in their order.
        """

        def call(shared, batch):
            parts = jax.tree.map(lambda x: x.reshape(workers, -1, *x.shape[1:]), batch)
            mapped = jax.vmap(fn, in_axes=(None, 0), axis_size=workers, axis_name=AXIS)
            # the same for all: the first worker's stands for them
            return jax.tree.map(lambda x: x[0], mapped(shared, parts))

        return call

    def jit(self, fn: Callable[..., Any], *, donate_argnums: tuple[int, ...] = ()) -> Any:
        """`jax.jit` of a function whose results are laid as `whole` does."""
        return jax.jit(fn, donate_argnums=donate_argnums)


class MeshPlacement(Placement):
    """A mesh of one axis, `data`; batches are split over it, all else is on every device.

    Args:
      devices: (n,) jax devices, of one or several processes; every process must hold the
        same arrays to put.
    """

    def __init__(self, devices: np.ndarray):
        self.devices = len(devices)
        self.mesh: Mesh = Mesh(devices, (AXIS,), axis_types=(AxisType.Auto,))
        self._replicated = NamedSharding(self.mesh, PartitionSpec())
        self._shared_out = NamedSharding(self.mesh, PartitionSpec(AXIS))

    def put(self, tree: Any) -> Any:
        """See `Placement`; no process sends anything to another."""
        hosts = jax.tree.map(np.asarray, tree)
        return jax.tree.map(_global, hosts, self._shardings(hosts))

    def indices(self, rows: np.ndarray) -> Any:
        """See `Placement`; split along the batch, its last axis."""
        spec = PartitionSpec(*[None] * (rows.ndim - 1), AXIS)
        return _global(rows, NamedSharding(self.mesh, spec))

    def each(self, rows: np.ndarray) -> Iterator[Any]:
        """See `Placement`."""
        return map(self.indices, rows)

    def split(self, batch: Any) -> Any:
        """See `Placement`; what does not split evenly stays whole."""
        shardings = jax.tree.map(self._evenly, batch)
        return jax.lax.with_sharding_constraint(batch, shardings)

    def whole(self, tree: Any) -> Any:
        """See `Placement`."""
        return jax.lax.with_sharding_constraint(tree, self._shardings(tree))

    def per_worker(self, fn: Callable[[Any, Any], Any], workers: int) -> Callable[..., Any]:
        """See `Placement`; every device is one worker."""
        if workers != self.devices:
            raise ValueError(f"{workers} workers do not go with {self.devices} devices")
        return jax.shard_map(
            fn,
            mesh=self.mesh,
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(),
            # what a gather gives counts as varying, though every device has the same
            check_vma=False,
        )

    def jit(self, fn: Callable[..., Any], *, donate_argnums: tuple[int, ...] = ()) -> Any:
        """See `Placement`."""

        def laid(*arguments):
            return self.whole(fn(*arguments))

        return jax.jit(laid, donate_argnums=donate_argnums)

    def _shardings(self, tree: Any) -> Any:
        """Where the leaves of a state lie."""

        def node(x):
            if not isinstance(x, Spreads):
                return self._replicated
            whole = jax.tree.map(lambda _: self._replicated, x)
            spread = {name: getattr(x, name) for name in x.spread_fields}
            return whole._replace(**jax.tree.map(self._evenly, spread))

        return jax.tree.map(node, tree, is_leaf=lambda x: isinstance(x, Spreads))

    def _evenly(self, x: Any) -> NamedSharding:
        even = x.ndim and len(x) % self.devices == 0
        return self._shared_out if even else self._replicated


def _global(host: np.ndarray, sharding: NamedSharding) -> jax.Array:
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
