"""The mathematics of a step on stacked blocks: statistics, and the direction by their roots."""

import jax
import jax.numpy as jnp

from lpml.optim.shampoo.blocks import Plan
from lpml.optim.shampoo.owners import Owners, own_part, padded
from lpml.optim.shampoo.tiles import Tiles

# One array [K, b, b] (or [K]) for each stack of a plan, by its name.
Stacks = dict[str, jax.Array]

LETTERS = "abcdefghijklmnopqrs"
ALONE = Owners()


def statistics(plan: Plan, tiles: Tiles, owners: Owners = ALONE) -> Stacks:
    """G contracted with itself over all axes but one, for each axis that has a matrix.

    For a matrix G: G G^T of its rows' axis and G^T G of its columns'. Every owner computes
    those of its rows; a stack of fewer rows than it has places ends with zeros.
    """
    places = {name: owners.rows(s.number) // owners.number for name, s in plan.stacks.items()}

    def own(owner, tiles):
        parts: dict[str, list[jax.Array]] = {name: [] for name in plan.stacks}
        for group, tile in zip(plan.groups, tiles, strict=True):
            for axis, name, start in group.rows:
                stop = start + group.number
                mine = tile[own_part(owner, places[name], start, stop)]
                letters, other = _letters(tile, axis)
                equation = f"t{letters},t{other}->t{letters[axis]}z"
                parts[name].append(_einsum(equation, mine, mine))
        found = {name: jnp.concatenate(part) for name, part in parts.items()}
        return {name: padded(stack, places[name]) for name, stack in found.items()}

    return owners.of_each(own, tiles)


def accumulated(old: Stacks, new: Stacks, beta2: float | jax.Array) -> Stacks:
    """beta2 old + (1 - beta2) new, or the sum of both if beta2 = 1.

    A matrix that would not be finite stays as it was: in a sum or mean NaN never leaves.
    """

    def one(a, b):
        total, finite = joined(a, b, beta2)
        return jnp.where(finite, total, a)

    return {name: one(old[name], new[name]) for name in old}


def joined(
    old: jax.Array, new: jax.Array, beta2: float | jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Sum or mean of both [K, b, b], and which are finite [K, 1, 1]."""
    total = (beta2 * old + weight_of_new(beta2) * new).astype(old.dtype)
    return total, jnp.isfinite(total).all((1, 2), keepdims=True)


def weight_of_new(beta2: float | jax.Array) -> jax.Array:
    """What a new term of the statistics counts: 1 - beta2, or 1 if beta2 = 1 sums them; ()."""
    return jnp.where(jnp.equal(beta2, 1), 1, 1 - beta2)


def direction(plan: Plan, tiles: Tiles, roots: Stacks) -> Tiles:
    """G multiplied along each axis that has a matrix by its root: L^(-1/4) G R^(-1/4)."""
    result = []
    for group, gradient in zip(plan.groups, tiles, strict=True):
        turned = gradient
        for axis, name, start in group.rows:
            letters, other = _letters(turned, axis)
            root = roots[name][start : start + group.number]
            turned = _einsum(f"t{letters},t{letters[axis]}z->t{other}", turned, root)
        result.append(turned)
    return result


def with_roots(plan: Plan, refresh_ok: Stacks) -> Tiles:
    """Which blocks have a root on every axis; bool [T, 1, .., 1] for each group."""
    result = []
    for group in plan.groups:
        flags = [refresh_ok[r.stack][r.start : r.start + group.number] > 0 for r in group.rows]
        all_of_them = jnp.stack(flags).all(0)
        result.append(all_of_them.reshape(-1, *[1] * len(group.block)))
    return result


def _letters(tile: jax.Array, axis: int) -> tuple[str, str]:
    letters = LETTERS[: tile.ndim - 1]
    return letters, letters.replace(letters[axis], "z")


def _einsum(equation: str, *operands: jax.Array) -> jax.Array:
    # without it GPUs and TPUs multiply in fewer bits than float32 has
    return jnp.einsum(equation, *operands, precision=jax.lax.Precision.HIGHEST)
