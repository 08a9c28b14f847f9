"""Which matrices tensors get, and that cutting and joining them loses and mixes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml.optim.shampoo import Blocking, Refreshing, plan_blocks, scale_by_shampoo
from lpml.optim.shampoo.blocks import exponent_of, merged_shape
from lpml.optim.shampoo.tiles import gather, scatter

# 1 to 4 axes, remainders along each, a unit axis, a scalar, an empty tensor
SHAPES = ((5, 7), (6, 6), (7,), (), (3, 4, 5), (1, 9, 1), (2, 3, 3, 7), (0, 3), (3, 6))


def tensors(shapes=SHAPES, seed=0):
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape) for shape in shapes]


def scaled(gradients, blocking, steps=1):
    """Updates of the last of some steps, in float64: sums, no grafting."""
    tx = scale_by_shampoo(blocking, Refreshing(1, root="eigh"), beta2=1, grafting="none")

    @jax.jit
    def run(gradients):
        state = tx.init(gradients)
        for number in range(steps):
            turned = [g * (1 + number) + number * jnp.abs(g) for g in gradients]
            updates, state = tx.update(turned, state)
        return updates

    with jax.enable_x64(True):
        return [np.asarray(u) for u in run([jnp.asarray(g) for g in gradients])]


@pytest.mark.parametrize(
    ("shape", "limit", "expected"),
    [
        ((3, 3, 64, 128), 128, (9, 64, 128)),
        ((3, 3, 64, 128), 1024, (576, 128)),
        ((3, 3, 2, 4), 128, (18, 4)),  # all would fit: the outputs stay apart
        ((64, 4, 16), 128, (64, 64)),
        ((1, 5, 1), 128, (5,)),
        ((8, 8), 128, (8, 8)),  # a matrix stays one
        ((1, 1), 128, ()),
    ],
)
def test_short_neighbours_merge_and_two_axes_stay(shape, limit, expected):
    assert merged_shape(shape, Blocking(limit)) == expected
    unit_free = tuple(n for n in shape if n != 1)
    assert merged_shape(shape, Blocking(limit, merge=False)) == unit_free


def test_stacks_hold_every_block_of_every_axis_once():
    plan = plan_blocks(((5, 7), (6, 6)), Blocking(3))
    # 5 = 3 + 2 and 7 = 3 + 3 + 1: 6 blocks; 6 = 3 + 3: 4 blocks
    sizes = [3, 3, 1, 3, 3, 1, 3, 3, 3, 3], [3, 3, 3, 2, 2, 2, 3, 3, 3, 3]
    for size in (1, 2, 3):
        expected = sum(each.count(size) for each in sizes)
        assert plan.stacks[f"size{size}_p4"].number == expected
    assert plan.blocked == {0, 1}


@pytest.mark.parametrize(
    ("shape", "blocking", "stacks"),
    [
        ((40, 6), Blocking(4, max_dim=20), {"size4_p2": 1, "size2_p2": 1}),  # one side
        ((40, 60), Blocking(4, max_dim=20), {}),
        ((7,), Blocking(4), {}),
        ((7,), Blocking(4, vectors=True), {"size4_p2": 1, "size3_p2": 1}),
        ((), Blocking(4, vectors=True), {}),
        ((4, 4), Blocking(4, exponent=3), {"size4_p3": 2}),
        ((2, 3, 4), Blocking(4, merge=False), {"size2_p6": 1, "size3_p6": 1, "size4_p6": 1}),
        ((0, 3), Blocking(4), {}),
    ],
)
def test_exponents_count_the_axes_that_have_a_matrix(shape, blocking, stacks):
    plan = plan_blocks((shape,), blocking)
    assert {name: stack.number for name, stack in plan.stacks.items()} == stacks
    assert all(exponent_of(name) == stack.p for name, stack in plan.stacks.items())


@pytest.mark.parametrize("blocking", [Blocking(3), Blocking(3, merge=False), Blocking(64)])
def test_what_is_cut_and_pasted_is_what_it_was(blocking):
    leaves = [jnp.asarray(leaf, jnp.float32) for leaf in tensors()]
    plan = plan_blocks(SHAPES, blocking)
    tiles = jax.jit(lambda leaves: gather(plan, leaves, jnp.float32))(leaves)
    for group, tile in zip(plan.groups, tiles, strict=True):
        assert tile.shape == (group.number, *group.block)
    into = [jnp.full_like(leaf, jnp.nan) for leaf in leaves]
    results = jax.jit(lambda *each: scatter(plan, *each))(tiles, into)
    for i, (back, leaf) in enumerate(zip(results, leaves, strict=True)):
        if i in plan.blocked:
            np.testing.assert_array_equal(back, leaf)
        else:
            assert np.isnan(back).all()


def test_blocks_at_least_as_large_as_the_tensor_change_nothing():
    gradients = tensors(((5, 5), (5, 5, 5)))
    exact = scaled(gradients, Blocking(5, merge=False), steps=2)
    larger = scaled(gradients, Blocking(100, merge=False), steps=2)
    for a, b in zip(exact, larger, strict=True):
        np.testing.assert_array_equal(a, b)


def test_blocks_are_as_parameters_of_their_own():
    (whole,) = tensors(((6, 6),))
    corners = [part for rows in np.split(whole, [4]) for part in np.split(rows, [4], axis=1)]
    (together,) = scaled([whole], Blocking(4), steps=2)
    apart = scaled(corners, Blocking(4), steps=2)
    np.testing.assert_array_equal(together, np.block([apart[:2], apart[2:]]))


def test_a_program_has_as_many_operations_for_many_blocks_as_for_few():
    def operations(shape):
        tx = scale_by_shampoo(Blocking(4), Refreshing(2))
        like = jax.ShapeDtypeStruct(shape, jnp.float32)
        state = jax.eval_shape(tx.init, like)
        return str(jax.make_jaxpr(tx.update)(like, state)).count(" = ")

    assert operations((4 * 9 + 1, 4 * 11 + 3)) == operations((4 * 2 + 1, 4 * 3 + 3))
