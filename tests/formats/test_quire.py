"""Exact dot products of posits, and those rounded at every step."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import posit_oracle as oracle
import pytest

from lpml.formats import Posit, posit_arithmetic, quire_dot, quire_matmul, rounded_matmul
from lpml.formats.quire import _digit_bits

KINDS = [(8, 0), (8, 2), (16, 1), (16, 2), (16, 3), (16, 4), (12, 2)]
WIDE = [(32, 0), (32, 2), (32, 4)]
CASES = [(*kind, False) for kind in KINDS] + [(*kind, True) for kind in KINDS + WIDE]


def exact(a, b, bits, es):
    values = {int(c): oracle.decode(int(c), bits, es) for c in np.unique([*a.flat, *b.flat])}

    def entry(row, column):
        terms = [(values[int(x)], values[int(y)]) for x, y in zip(row, column)]
        if any(None in pair for pair in terms):
            return oracle.encode(None, bits, es)
        return oracle.encode(sum((x * y for x, y in terms), Fraction(0)), bits, es)

    return [[entry(row, column) for column in b.T] for row in a]


def hard_codes(bits, k, seed):
    """All ranges, cancelling halves, zeros, NaR, equal entries and the largest posit."""
    rng, low = np.random.default_rng(seed), -(2 ** (bits - 1))
    a, b = rng.integers(low + 1, -low, (6, k)), rng.integers(low + 1, -low, (k, 7))
    if k > 30:
        half = k // 2
        a[:, half:], b[half:] = a[:, :half], -b[:half]
        b[-1] += 1
        a[0, 0], a[1], a[2], b[:, 1], a[4] = low, 0, -low - 1, 0, 1
    return a, b


@pytest.mark.parametrize(("bits", "es", "x64"), CASES)
@pytest.mark.parametrize("k", [1, 3, 40])
def test_sums_of_any_values_are_exact(bits, es, x64, k):
    a, b = hard_codes(bits, k, k)
    with jax.enable_x64(x64):
        codes = (jnp.asarray(c, jnp.int32) for c in (a, b))
        found = quire_matmul(Posit(bits, es), *codes)
        assert found.dtype == Posit(bits).code_dtype
    np.testing.assert_array_equal(found, exact(a, b, bits, es))


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("k", [255, 257, 5000, 65_536])
def test_long_sums_of_the_largest_and_smallest_posits_are_exact(k, x64):
    """Every digit of the first factor at its most, in sums of all lengths of digits."""
    rng = np.random.default_rng(k)
    for bits, es in [(16, 2), (16, 4), (16, 0)]:
        chosen = np.array([2**15 - 1, 2**14 + 2**12 - 1, 2**14 - 1, 1, 1 - 2**15])
        a, b = chosen[rng.integers(0, 5, (1, k))], chosen[rng.integers(0, 3, (k, 1))]
        pairs, counts = np.unique(np.stack([a[0], b[:, 0]]), axis=1, return_counts=True)
        total = sum(
            int(n) * oracle.decode(int(x), bits, es) * oracle.decode(int(y), bits, es)
            for (x, y), n in zip(pairs.T, counts)
        )
        with jax.enable_x64(x64):
            found = quire_dot(
                Posit(bits, es), *(jnp.asarray(c.ravel(), jnp.int16) for c in (a, b))
            )
        assert found == oracle.encode(total, bits, es)


def test_digits_add_up_without_rounding():
    for word, exact_bits in [(np.int32, 24), (np.int64, 53)]:
        for terms in [1, 2, 3, 255, 256, 257, 1024, 1025, 65_536]:
            digit = _digit_bits(terms, np.dtype(word))
            assert terms * (2**digit - 1) ** 2 < 2**exact_bits
            # all pairs of digits of one weight, and a carry from below, of the widest range
            bits = 16 if word == np.int32 else 32
            pairs = (2 * (bits - 2) * 16 + 1) // digit + 2
            most = pairs * terms * (2**digit - 1) ** 2
            assert most + most // (2**digit - 1) + 1 < 2 ** (np.iinfo(word).bits - 1)


def test_sums_that_int32_does_not_hold_are_refused():
    row = jnp.ones((1, 2**16 + 1), jnp.int8)
    with pytest.raises(ValueError, match="jax_enable_x64"):
        quire_matmul(Posit(8), row, row.T)
    with pytest.raises(ValueError, match="jax_enable_x64"):
        quire_matmul(Posit(32), row[:, :2], row[:, :2].T)
    with pytest.raises(ValueError, match="vmap"):
        quire_matmul(Posit(8), row, row)


@pytest.mark.parametrize("bits", [8, 16])
def test_256_cubed_equals_exact_accumulation(bits):
    """Of normal numbers; float64 sums happen to be enough, float32 sums are not."""
    rng, posit = np.random.default_rng(0), Posit(bits)
    a, b = (
        posit.encode(jnp.asarray(rng.standard_normal((256, 256)), jnp.float32))
        for _ in range(2)
    )
    x, y = (np.asarray(posit.decode(codes), np.float64) for codes in (a, b))
    whole = [np.ldexp(v, 56).astype(object) for v in (x, y)]  # integers of any length
    whole = [np.vectorize(int, otypes=[object])(v) for v in whole]
    sums = whole[0] @ whole[1]
    want = [[oracle.encode(Fraction(n, 2**112), bits, 2) for n in row] for row in sums]
    for x64 in (False, True):
        with jax.enable_x64(x64):
            np.testing.assert_array_equal(quire_matmul(posit, a, b), want)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(posit.encode(jnp.asarray(x @ y)), want)
    single = posit.encode(jnp.asarray(x.astype(np.float32) @ y.astype(np.float32)))
    differ = int((np.asarray(single) != want).sum())
    assert 80 < differ < 300 if bits == 16 else differ < 5


def test_eager_jit_and_vmap_agree():
    a, b = (jnp.asarray(c, jnp.int32) for c in hard_codes(8, 40, 9))
    want = np.asarray(quire_matmul(Posit(8), a, b))
    np.testing.assert_array_equal(
        jax.jit(lambda a, b: quire_matmul(Posit(8), a, b))(a, b), want
    )
    batch = jax.vmap(lambda a: quire_matmul(Posit(8), a, b))(jnp.stack([a, a[::-1]]))
    np.testing.assert_array_equal(batch, np.stack([want, want[::-1]]))
    np.testing.assert_array_equal(quire_matmul(Posit(8), a[:, :0], b[:0]), 0)


@pytest.mark.parametrize(("bits", "es"), [(8, 2), (16, 1), (16, 2)])
def test_without_a_quire_every_product_and_sum_is_rounded_in_order(bits, es):
    posit = Posit(bits, es)
    a, b = (jnp.asarray(c, jnp.int32) for c in hard_codes(bits, 40, 10))
    want = jnp.zeros((6, 7), posit.code_dtype)
    for k in range(40):
        term = posit_arithmetic.mul(posit, a[:, k : k + 1], b[k])
        want = posit_arithmetic.add(posit, want, term)
    np.testing.assert_array_equal(rounded_matmul(posit, a, b), want)


def errors(radius, seed):
    """Mean squared errors of 256 x 256 products against float64."""
    rng = np.random.default_rng(seed)
    a, b = (rng.uniform(-radius, radius, (256, 256)) for _ in range(2))
    single, posit = np.zeros((256, 256), np.float32), Posit(32)
    for k in range(256):
        term = np.float64(a[:, k : k + 1].astype(np.float32)) * b[k].astype(np.float32)
        single = (term + single).astype(np.float32)
    codes = [posit.encode(jnp.asarray(x)) for x in (a, b)]
    found = [
        single,
        posit.decode(rounded_matmul(posit, *codes), jnp.float64),
        posit.decode(quire_matmul(posit, *codes), jnp.float64),
    ]
    return [np.mean((np.asarray(x) - a @ b) ** 2) for x in found]


@pytest.mark.parametrize("seed", range(4))
def test_posit32_on_numbers_up_to_1_is_four_orders_better_with_a_quire(seed):
    """PERCIVAL's table: 2.361e-12, 9.870e-15 and 1.937e-16."""
    with jax.enable_x64(True):
        fused, rounded, exact_sums = errors(1, seed)
    assert 2.2e-12 < fused < 2.5e-12
    assert 9.4e-15 < rounded < 1.05e-14
    assert 1.85e-16 < exact_sums < 2.0e-16
    assert fused / exact_sums > 1e4
    assert 45 < rounded / exact_sums < 56


@pytest.mark.parametrize("seed", range(2))
def test_posit32_on_numbers_up_to_1000_needs_the_quire_to_win(seed):
    with jax.enable_x64(True):
        fused, rounded, exact_sums = errors(1000, seed)
    assert rounded > 3 * fused
    assert exact_sums < fused / 20
