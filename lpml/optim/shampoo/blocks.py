"""Which matrices a tree of tensors gets: a plan made from shapes alone, before anything runs.

A tensor's small axes are merged, its large ones cut at `block_size`. Blocks of one shape, of
whatever tensors, lie together in one array [T, b1, .., bk], and the matrices of one size and
root in one stack [K, b, b], so that a program has as many operations for 3 blocks as for 300.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from lpml.optim.numbers import check_whole

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Blocking:
    """How tensors are cut.

    Args:
      block_size: the largest matrix, b x b, >= 1. Axes merge up to this length too.
      max_dim: axes longer than this (an embedding's words) get no matrix and are not cut; the
        others of the tensor then take a larger root. A tensor of only such axes is diagonal.
      exponent: p of the roots A^(-1/p), an integer >= 1; None is 2 x the number of axes that
        have a matrix: 4 for a matrix, 2 where only one of its axes is short enough.
      merge: whether short neighbouring axes of tensors of three and more axes become one.
        A 3 x 3 x 64 x 128 kernel is 9 x 64 x 128 at a block size of 128, 576 x 128 at 1024.
        Two axes always remain: a tensor never becomes a vector.
      vectors: whether tensors of one axis get a matrix (Shampoo is then full-matrix AdaGrad on
        each block of them) or are left to the diagonal method.

    Raises:
      ValueError: a number out of its range.
    """

    block_size: int = 128
    max_dim: int = 8192
    exponent: int | None = None
    merge: bool = True
    vectors: bool = False

    def __post_init__(self):
        for name in ("block_size", "max_dim"):
            check_whole(name, getattr(self, name), 1)
        if self.exponent is not None:
            also = " (p of the root A^(-1/p)), or None for twice the number of axes"
            check_whole("exponent", self.exponent, 1, also)


class Piece(NamedTuple):
    """A regular grid of equal blocks within one tensor; the fields have one entry per axis."""

    leaf: int  # which tensor
    starts: Shape
    counts: Shape  # blocks along the axis
    block: Shape  # their length

    @property
    def number(self) -> int:
        """Blocks in all."""
        return math.prod(self.counts)


class Rows(NamedTuple):
    """Where the matrices of one axis of a group are: rows start to start + T of a stack."""

    axis: int
    stack: str
    start: int


class Group(NamedTuple):
    """All blocks of one shape that are treated alike."""

    block: Shape
    pieces: tuple[Piece, ...]
    rows: tuple[Rows, ...]  # of the axes that have a matrix

    @property
    def number(self) -> int:
        """T, blocks of all pieces."""
        return sum(piece.number for piece in self.pieces)


class Stack(NamedTuple):
    """K matrices b x b of which the root A^(-1/p) is wanted."""

    number: int  # K
    size: int  # b
    p: int


class Plan(NamedTuple):
    """What `plan_blocks` finds; shared by all who ask, so read only."""

    shapes: tuple[Shape, ...]  # of the tensors, axes merged
    groups: tuple[Group, ...]
    stacks: dict[str, Stack]

    @property
    def blocked(self) -> frozenset[int]:
        """The tensors that have matrices."""
        return frozenset(piece.leaf for group in self.groups for piece in group.pieces)


@functools.lru_cache(maxsize=64)
def plan_blocks(shapes: tuple[Shape, ...], blocking: Blocking) -> Plan:
    """The plan for tensors of these shapes, in this order."""
    merged = tuple(merged_shape(shape, blocking) for shape in shapes)
    found: dict[tuple[Shape, Shape], list[Piece]] = {}
    for leaf, shape in enumerate(merged):
        axes = matrix_axes(shape, blocking)
        for piece in _pieces(leaf, shape, axes, blocking.block_size):
            found.setdefault((piece.block, axes), []).append(piece)
    groups, stacks = [], dict[str, Stack]()
    for (block, axes), pieces in found.items():
        p = blocking.exponent or 2 * len(axes)
        number, rows = sum(piece.number for piece in pieces), []
        for axis in axes:
            size = block[axis]
            name = stack_name(size, p)
            start = stacks[name].number if name in stacks else 0
            rows.append(Rows(axis, name, start))
            stacks[name] = Stack(start + number, size, p)
        groups.append(Group(block, tuple(pieces), tuple(rows)))
    return Plan(merged, tuple(groups), stacks)


def stack_name(size: int, p: int) -> str:
    """The name in the state of the stack of `size` x `size` matrices with root A^(-1/p)."""
    return f"size{size}_p{p}"


def exponent_of(name: str) -> int:
    """p of a stack's root, from its name."""
    return int(name.rpartition("_p")[2])


def merged_shape(shape: Sequence[int], blocking: Blocking) -> Shape:
    """The shape without axes of length 1, short neighbours merged from the left.

    Two axes stay: where all would merge to one, the last (a kernel's outputs) stays apart.
    """
    axes = [n for n in shape if n != 1]
    if len(axes) <= 2 or not blocking.merge:
        return tuple(axes)
    merged = _merged(axes, blocking.block_size)
    if len(merged) == 1:
        merged = [*_merged(axes[:-1], blocking.block_size), axes[-1]]
    return tuple(merged)


def _merged(axes: list[int], limit: int) -> list[int]:
    merged = axes[:1]
    for n in axes[1:]:
        if merged[-1] * n <= limit:
            merged[-1] *= n
        else:
            merged.append(n)
    return merged


def matrix_axes(shape: Shape, blocking: Blocking) -> Shape:
    """The axes of a (merged) shape that get matrices; none where it is treated as diagonal."""
    if not all(shape) or len(shape) < (1 if blocking.vectors else 2):
        return ()
    return tuple(axis for axis, n in enumerate(shape) if n <= blocking.max_dim)


def _pieces(leaf: int, shape: Shape, axes: Shape, block_size: int) -> list[Piece]:
    """The grids of equal blocks a tensor falls into: up to 2 per axis, full and remainder."""
    if not axes:
        return []
    cuts = []
    for axis, n in enumerate(shape):
        width = min(n, block_size) if axis in axes else n
        whole, rest = divmod(n, width)
        cuts.append([(0, whole, width), (n - rest, 1, rest)][: 2 if rest else 1])
    return [
        Piece(leaf, *(tuple(field) for field in zip(*cut, strict=True)))
        for cut in itertools.product(*cuts)
    ]
