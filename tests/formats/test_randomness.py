"""Random words: uniform, independent of neighbours and of neighbouring keys, reproducible."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml.formats import GENERATORS, random_bits, round_to_integer

COUNT = 2**20
every_generator = pytest.mark.parametrize("rng", GENERATORS)


def words(seed, rng, shape=(COUNT,)):
    return np.asarray(random_bits(jax.random.key(seed), shape, rng))


def assert_fair(ones, trials):
    """A share of coin flips, to 5 sigma."""
    assert abs(ones / trials - 0.5) < 5 * 0.5 / np.sqrt(trials)


@every_generator
def test_every_bit_is_a_fair_coin(rng):
    drawn = words(0, rng)
    assert drawn.dtype == np.uint32
    for bit in range(32):
        assert_fair(((drawn >> bit) & 1).sum(), COUNT)


@every_generator
@pytest.mark.parametrize("shift", [0, 8, 16, 24])
def test_bytes_are_uniform_by_chi_square(rng, shift):
    counts = np.bincount((words(1, rng) >> shift) & 255, minlength=256)
    expected = COUNT / 256
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - 255) < 5 * np.sqrt(2 * 255)


@every_generator
@pytest.mark.parametrize("distance", [1, 2, 16, 64, 1024])
def test_words_at_a_distance_share_nothing(rng, distance):
    """Exclusive or of two independent words: fair coins again, and pairs of bytes uniform."""
    drawn = words(2, rng)
    both = drawn[distance:] ^ drawn[:-distance]
    for bit in range(32):
        assert_fair(((both >> bit) & 1).sum(), len(both))
    pairs = ((drawn[distance:] >> 28) << 4) | (drawn[:-distance] >> 28)
    counts = np.bincount(pairs, minlength=256)
    expected = len(pairs) / 256
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - 255) < 5 * np.sqrt(2 * 255)


@every_generator
def test_neighbouring_keys_share_nothing_not_even_shifted(rng):
    first = words(0, rng)
    for seed in (1, 2, 2**16, 2**31 - 1):
        other = words(seed, rng)
        for bit in (0, 7, 19, 31):
            assert_fair((((first ^ other) >> bit) & 1).sum(), COUNT)
        assert len(np.intersect1d(first[:4096], other[:4096])) < 10
    folded = np.asarray(random_bits(jax.random.fold_in(jax.random.key(0), 1), (COUNT,), rng))
    assert_fair(((first ^ folded) & 1).sum(), COUNT)


@every_generator
def test_flipping_one_bit_of_the_index_flips_half_of_the_word(rng):
    drawn = words(3, rng)
    index = np.arange(COUNT)
    for bit in range(20):
        changed = np.bitwise_count(drawn ^ drawn[index ^ (1 << bit)])
        assert abs(changed.mean() - 16) < 0.1


@pytest.mark.parametrize("rng", ["threefry", "hash"])
def test_eager_jit_and_raw_keys_give_the_same_words(rng):
    key = jax.random.key(9)
    eager = random_bits(key, (3, 5, 7), rng)
    jitted = jax.jit(lambda key: random_bits(key, (3, 5, 7), rng))(key)
    np.testing.assert_array_equal(eager, jitted)
    raw = random_bits(jax.random.key_data(key), (3, 5, 7), rng)
    np.testing.assert_array_equal(eager, raw)
    rows = jax.vmap(lambda key: random_bits(key, (4,), rng))(jax.random.split(key, 3))
    np.testing.assert_array_equal(rows[1], random_bits(jax.random.split(key, 3)[1], (4,), rng))


def test_hash_numbers_elements_in_row_major_order():
    flat = words(4, "hash", (60,))
    np.testing.assert_array_equal(words(4, "hash", (3, 4, 5)).ravel(), flat)
    assert words(4, "hash", ()) == flat[0]
    assert words(4, "hash", (0, 3)).shape == (0, 3)


def test_a_key_gives_the_noise_of_jax_random_uniform():
    """The streams of earlier results: up where uniform float32 noise is below the fraction."""
    key, x = jax.random.key(11), jnp.linspace(-50, 50, 10_001)
    noise = jax.random.uniform(key, x.shape, jnp.float32)
    wanted = jnp.floor(x) + (noise < x - jnp.floor(x))
    np.testing.assert_array_equal(round_to_integer(x, "stochastic", key=key), wanted)


def test_wrong_arguments_are_refused_with_the_reason():
    with pytest.raises(ValueError, match="threefry, rbg, hash"):
        random_bits(jax.random.key(0), (1,), "xorshift")
    with pytest.raises(ValueError, match="2\\^32"):
        jax.eval_shape(lambda k: random_bits(k, (2**17, 2**16), "hash"), jax.random.key(0))
