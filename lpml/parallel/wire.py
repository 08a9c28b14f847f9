"""Bytes that workers exchange: by formula, and read from a compiled program.

Both count what one device receives, with the collectives done in rings: an all-gather of B
bytes per device gives (N - 1) B, an all-reduce of B bytes 2 (N - 1) / N B, an all-to-all of B
bytes (N - 1) / N B. Every device sends as much as it receives.
"""

import dataclasses
import math
import re
from typing import Any

import jax

from lpml.parallel.codecs import bytes_of
from lpml.parallel.exchange import Exchange, row_length, sum_dtype

FLOAT_BYTES = 4
# Bytes received by a device, for the bytes of an operation's result on N devices.
_RECEIVED = {
    "all-reduce": lambda size, n: 2 * size * (n - 1) / n,
    "all-gather": lambda size, n: size * (n - 1) / n,
    "all-to-all": lambda size, n: size * (n - 1) / n,
    "reduce-scatter": lambda size, n: size * (n - 1),
    "collective-permute": lambda size, _: float(size),
}
_OPERATION = re.compile(
    rf"^\s*(?:ROOT\s+)?\S+ = (\(.*?\)|\S+) ({'|'.join(_RECEIVED)})(-start)?\(", re.MULTILINE
)
_SHAPE = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
_LISTED = re.compile(r"replica_groups=\{\{([\d,]+)\}")
# of the axes in the second brackets, with their sizes in the first (from jax 0.12 on)
_NAMED = re.compile(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}")
_COUNTED = re.compile(r"replica_groups=\[\d+,(\d+)\]<=")


@dataclasses.dataclass(frozen=True)
class TensorBytes:
    """Bytes of one tensor, per device and step."""

    name: str
    entries: int
    quantised: bool  # or in the float32 mean of the small ones
    received: float


@dataclasses.dataclass(frozen=True)
class WireReport:
    """What a device receives in one step, and sends: as much.

    Args:
      workers: devices of the exchange.
      tensors: one by one.
    """

    workers: int
    tensors: tuple[TensorBytes, ...]

    @property
    def received(self) -> float:
        """Bytes per device and step; whole, but for rings that do not split evenly."""
        return sum(tensor.received for tensor in self.tensors)

    @property
    def float32(self) -> float:
        """Bytes per device and step of a float32 all-reduce of the same tensors."""
        entries = sum(tensor.entries for tensor in self.tensors)
        return _RECEIVED["all-reduce"](FLOAT_BYTES * entries, self.workers)

    @property
    def saving(self) -> float:
        """How many times fewer bytes than the float32 all-reduce; 1 where nothing is sent."""
        return self.float32 / self.received if self.received else 1.0


def wire_report(tree: Any, workers: int, exchange: Exchange) -> WireReport:
    """Bytes of `quantized_mean`, by formula.

    Args:
      tree: the gradients, or anything of their structure with shapes.
      workers: size of the axis, at least 1; one worker sends nothing.
      exchange: how gradients are sent.

    Raises:
      ValueError: fewer than one worker.
    """
    if workers < 1:
        raise ValueError(f"workers = {workers} must be at least 1")
    tensors = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        count = math.prod(leaf.shape)
        quantised = count >= exchange.exempt_below
        received = _received(count, workers, exchange if quantised else None)
        tensors.append(TensorBytes(name, count, quantised, received))
    return WireReport(workers, tuple(tensors))


def _received(count, workers, exchange):
    if exchange is None:
        return _RECEIVED["all-reduce"](FLOAT_BYTES * count, workers)
    if exchange.scheme == "shared_scale":
        width = sum_dtype(exchange.bits, workers).itemsize
        return _RECEIVED["all-reduce"](width * count + FLOAT_BYTES, workers)
    if exchange.scheme == "one_shot":
        return float((workers - 1) * bytes_of(exchange.codec.sizes(count)))
    row = row_length(count, workers)
    return float(2 * (workers - 1) * bytes_of(exchange.codec.sizes(row)))


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective operation of a compiled program."""

    kind: str
    dtypes: tuple[str, ...]
    devices: int  # that take part together
    received: float  # bytes per device


def compiled_wire_bytes(compiled_text: str) -> float:
    """Bytes that each device receives in one execution of a program.

    Args:
      compiled_text: `jax.jit(f).lower(...).compile().as_text()`. What is inside of a loop
        counts once.

    Raises:
      ValueError: a collective whose devices cannot be read.
    """
    return sum(collective.received for collective in compiled_collectives(compiled_text))


def compiled_collectives(compiled_text: str) -> list[Collective]:
    """The collectives of `compiled_wire_bytes`, in the order of the text."""
    found = []
    for match in _OPERATION.finditer(compiled_text):
        result, kind, started = match.groups()
        line = compiled_text[match.start() : compiled_text.find("\n", match.end())]
        devices = 1 if kind == "collective-permute" else _devices(line, compiled_text)
        shapes = list(_SHAPE.finditer(result))
        size = sum(_shape_bytes(shape) for shape in shapes)
        if started and kind == "all-gather":
            size = size * devices / (devices + 1)  # beside the results it lists the operands
        if started and kind == "collective-permute":
            size = _shape_bytes(shapes[0])  # then the result, of the same size, and its state
        dtypes = tuple(sorted({shape[1] for shape in shapes}))
        found.append(Collective(kind, dtypes, devices, _RECEIVED[kind](size, devices)))
    return found


def _shape_bytes(shape):
    """Bytes of a match of `_SHAPE`; types of fewer than 8 bits as if they were packed."""
    bits = int(shape[2] or 8)
    return math.prod(int(n) for n in shape[3].split(",") if n) * bits / 8


def _devices(line, text):
    if listed := _LISTED.search(line):
        return listed[1].count(",") + 1
    if counted := _COUNTED.search(line):
        return int(counted[1])
    if named := _NAMED.search(line):
        sizes = dict(re.findall(r"'([^']*)'=(\d+)", named[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'([^']*)'", named[2]))
    if "replica_groups={}" in line or "replica_groups" not in line:
        header = text.partition("\n")[0]
        found = [re.search(rf"{n}=(\d+)", header) for n in ("num_partitions", "replica_count")]
        return math.prod(int(one[1]) for one in found if one)
    raise ValueError(f"the devices of this collective cannot be read: {line.strip()}")
