"""The random words of a step: unbiased rounding, and nothing that repeats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml.formats import child_key
from lpml.formats.branches import LARGE, PIECE, elementwise_once, if_needed
from lpml.optim import halp
from lpml.optim.dither import dither, leaf_keys, words

DRAWS = 2048  # steps of the Monte-Carlo test
SIZE = 4096  # coordinates: more than one piece


def halp_codes(*, offset, steps=DRAWS):
    """Codes (steps, 2, SIZE) of two leaves that want `offset` spacings, each step a new key."""
    params = {"a": jnp.zeros(SIZE), "b": jnp.zeros(SIZE)}
    full = jax.tree.map(jnp.ones_like, params)
    # one step moves by rate: the spacing is the norm of the gradient / (mu 127)
    spacing = float(np.sqrt(2 * SIZE)) / (127 * 2.0)
    tx = halp(offset * spacing, inner_steps=4, mu=2.0)
    _, state = tx.refresh(tx.init(params), params, full_grad_fn=lambda _: full)

    def step(t):
        key = child_key(jax.random.key(7), t)
        _, after = tx.update(full, state, params, key=key, grad_fn=lambda _: full)
        return jnp.stack([after.codes["a"], after.codes["b"]])

    return np.asarray(jax.jit(lambda: jax.lax.map(step, jnp.arange(steps)))())


@pytest.fixture(scope="module")
def went_down(x32):
    """Whether each number was rounded to -1 in place of 0: (DRAWS, 2, SIZE)."""
    with x32():
        return halp_codes(offset=0.3) == -1


def test_halps_own_rounding_is_unbiased_to_a_4096th_of_a_step(went_down):
    """Standard error sqrt(0.21 / 16.8 million) = 1.1e-4, less than half of 2^-12 = 2.4e-4."""
    assert abs(went_down.mean() - 0.3) < 2.0**-12
    # every coordinate by itself: standard error sqrt(0.21 / 2048) = 0.0101, 8192 of them
    assert np.abs(went_down.mean(axis=0) - 0.3).max() < 5.5 * 0.0101
    # and every step: 8192 coordinates, standard error 0.00506, 2048 steps
    assert np.abs(went_down.mean(axis=(1, 2)) - 0.3).max() < 5.5 * 0.00506


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((slice(None, -1),), (slice(1, None),)),
        ((..., slice(None, -1)), (..., slice(1, None))),
        ((..., slice(None, -PIECE)), (..., slice(PIECE, None))),
        ((slice(None), 0), (slice(None), 1)),
        ((slice(None, -1), 0, slice(1, None)), (slice(1, None), 0, slice(None, -1))),
    ],
    ids=["steps", "neighbours", "pieces", "leaves", "shifted"],
)
def test_the_noise_is_uncorrelated(went_down, one, other):
    """Correlation of n independent pairs is within 5 / sqrt(n) of 0, n at least 8 million."""
    a, b = (went_down[i].astype(np.float32) - 0.3 for i in (one, other))
    correlation = np.mean(a * b, dtype=np.float64) / 0.21
    assert abs(correlation) < 5 / np.sqrt(a.size)


def test_children_of_a_key_are_keys_of_its_kind_and_all_differ():
    for key in (jax.random.key(3), jax.random.PRNGKey(3), jax.random.key(3, impl="rbg")):
        children = jax.jit(jax.vmap(child_key, in_axes=(None, 0)))(key, jnp.arange(4096))
        assert children.dtype == key.dtype
        assert children.shape[1:] == key.shape
        numbers = np.asarray(jax.random.key_data(children))
        assert len(np.unique(numbers[:, 0])) == 4096
        assert abs(np.unpackbits(numbers.view(np.uint8)).mean() - 0.5) < 5 / 2 / np.sqrt(
            4096 * 64
        )


@pytest.mark.parametrize("size", [1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 5, LARGE + 1])
def test_pieces_give_the_words_of_the_whole(size):
    key = jax.random.key(1)
    (found,) = jax.jit(lambda key: dither("stochastic", key, [jnp.zeros(size)]))(key)
    np.testing.assert_array_equal(found, words(leaf_keys("stochastic", key, 1)[0], (size,)))


@pytest.mark.parametrize("size", [7, 2 * PIECE])
def test_a_batch_takes_its_branch_as_one_and_gives_what_each_member_gives(size):
    def run(x, after):
        once = elementwise_once(lambda part, start, y: part + y, x, 0 * after, after=after)
        return once, if_needed(after > 1, lambda x: jnp.sum(x, dtype=jnp.float32), x)

    x = jnp.arange(3 * size, dtype=jnp.float32).reshape(3, size)
    for after in (jnp.float32([0, 1, 0.5]), jnp.float32([0, 2, 3])):
        many = jax.jit(jax.vmap(run))(x, after)
        np.testing.assert_array_equal(many[0], x)
        wanted = np.where((after > 1).any(), x.sum(axis=1), 0)
        np.testing.assert_array_equal(many[1], wanted)


def test_a_nan_that_is_waited_for_changes_nothing():
    x = jnp.arange(5.0)
    found = jax.jit(lambda a: elementwise_once(lambda p, _: p + 1, x, after=a))(jnp.nan)
    np.testing.assert_array_equal(found, x + 1)
    assert not jax.grad(lambda x: elementwise_once(lambda p, _: 2 * p, x).sum())(x).any()
