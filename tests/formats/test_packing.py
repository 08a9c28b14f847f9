"""Packed codes: a stream of bits, checked against one that is spelled out in strings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml.formats import pack_codes, packed_size, unpack_codes

WIDTHS = range(1, 9)


def in_words(codes, bits):
    """The bytes of codes, by strings of 0 and 1, lowest bit first."""
    stream = "".join(format(code, f"0{bits}b")[::-1] for code in codes.tolist())
    stream += "0" * (-len(stream) % 8)
    return [int(stream[i : i + 8][::-1], 2) for i in range(0, len(stream), 8)]


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("count", [1, 7, 19])
def test_bytes_are_those_of_the_spelled_out_stream(bits, count):
    codes = np.random.default_rng(bits).integers(0, 2**bits, count)
    words = pack_codes(jnp.asarray(codes), bits)
    assert words.tolist() == in_words(codes, bits)
    assert words.dtype == jnp.uint8
    assert unpack_codes(words, bits, count).tolist() == codes.tolist()


@pytest.mark.parametrize("bits", WIDTHS)
def test_every_code_comes_back_under_jit_and_vmap(bits):
    codes = np.random.default_rng(bits).integers(0, 2**bits, (3, 2, 259), dtype=np.uint8)
    codes[0, 0, : 2**bits] = np.arange(2**bits)

    @jax.jit
    @jax.vmap
    def there_and_back(rows):
        words = pack_codes(rows, bits)
        return words, unpack_codes(words, bits, rows.shape[-1])

    words, back = there_and_back(jnp.asarray(codes))
    assert words.shape == (3, 2, packed_size(259, bits))
    np.testing.assert_array_equal(back, codes)
    assert words[1, 1].tolist() == in_words(codes[1, 1], bits)


def test_sizes_are_the_bits_rounded_up_to_bytes():
    assert [packed_size(8, bits) for bits in WIDTHS] == list(WIDTHS)
    assert [packed_size(4096, bits) for bits in (2, 4, 8)] == [1024, 2048, 4096]
    assert packed_size(9, 3) == 4
    assert packed_size(0, 3) == 0
    assert pack_codes(jnp.zeros((2, 0), jnp.int8), 3).shape == (2, 0)


def test_twos_complement_keeps_its_lowest_bits():
    codes = jnp.array([-1, -4, 3], jnp.int8)
    np.testing.assert_array_equal(unpack_codes(pack_codes(codes, 3), 3, 3), [7, 4, 3])


@pytest.mark.parametrize("bits", [0, 9, True])
def test_widths_that_do_not_exist_are_refused(bits):
    with pytest.raises(ValueError, match=r"bits = .* from 1 to 8"):
        pack_codes(jnp.zeros(8, jnp.int8), bits)


def test_rows_of_another_size_are_refused():
    with pytest.raises(ValueError, match="9 codes of 3 bits are 4 bytes"):
        unpack_codes(jnp.zeros(3, jnp.uint8), 3, 9)
