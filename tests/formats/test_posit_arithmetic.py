"""Posit arithmetic against rational numbers, and SoftPosit where it is installed."""

import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import posit_oracle as oracle
import pytest

from lpml.formats import Posit, posit_arithmetic

BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b if b else None,
}
# the two longest fractions, the standard's, and the widest range; x64 beyond 16 bits
KINDS = [(16, 0), (16, 1), (16, 2), (16, 4), (11, 3), (20, 2), (32, 0), (32, 2), (32, 4)]
SAMPLES = 2000


@pytest.fixture(autouse=True)
def word(request):
    """64-bit numbers for the tests of wide posits only."""
    bits = (
        request.node.callspec.params.get("bits", 8) if hasattr(request.node, "callspec") else 8
    )
    with jax.enable_x64(bits > 16):
        yield


def of_fractions(operation, *operands):
    return None if None in operands else operation(*operands)


def root(x):
    """The square root, or, where it is irrational, a number between the same fractions."""
    if x < 0:
        return None
    scaled = x * Fraction(4) ** 600
    whole = scaled.numerator // scaled.denominator
    floor = math.isqrt(whole)
    exact = floor * floor == scaled
    return (Fraction(floor) if exact else floor + Fraction(1, 2)) / Fraction(2) ** 600


@functools.cache
def values(bits, es):
    return [
        oracle.decode(code, bits, es) for code in range(-(2 ** (bits - 1)), 2 ** (bits - 1))
    ]


@pytest.mark.parametrize("es", [0, 2])
@pytest.mark.parametrize("name", BINARY)
def test_all_pairs_of_8_bits(name, es):
    codes = jnp.arange(-128, 128, dtype=jnp.int8)
    found = getattr(posit_arithmetic, name)(Posit(8, es), codes[:, None], codes)
    encode = functools.cache(lambda x: oracle.encode(x, 8, es))
    want = [
        [encode(of_fractions(BINARY[name], a, b)) for b in values(8, es)] for a in values(8, es)
    ]
    assert found.dtype == jnp.int8
    np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize(("bits", "es", "kind"), [(8, 0, "p8"), (16, 1, "p16"), (32, 2, "p32")])
def test_softposit_agrees(bits, es, kind, name):
    """A second opinion; its fused multiply-add of 32 bits has a known error."""
    softposit = pytest.importorskip("softposit")
    make = getattr(softposit, f"convertDoubleTo{kind.upper()}")
    operation = getattr(softposit, f"{kind}_{name}")
    rng, posit = np.random.default_rng(11), Posit(bits, es)
    with jax.enable_x64(True):
        x, y = (rng.standard_normal(3000) * 4.0 ** rng.integers(-4, 5, 3000) for _ in range(2))
        codes = [posit.encode(jnp.asarray(v)) for v in (x, y)]
        found = getattr(posit_arithmetic, name)(posit, *codes)
    want = [operation(make(a), make(b)).v for a, b in zip(x.tolist(), y.tolist())]
    np.testing.assert_array_equal(np.asarray(found, np.int64) % 2**bits, want)


def sample(bits, es, count, seed):
    """Codes from all over and near 1, and the ends."""
    rng = np.random.default_rng(seed)
    low = -(2 ** (bits - 1))
    everywhere = rng.integers(low, -low, count // 2)
    near = [oracle.encode(Fraction(x), bits, es) for x in rng.standard_normal(count // 2)]
    found = np.concatenate([everywhere, near])
    found[rng.integers(0, count, 20)] = [low, 0, 1, -1, -low - 1] * 4
    return rng.permutation(found)


def decoded(codes, bits, es):
    return [oracle.decode(int(code), bits, es) for code in codes]


def cancelling(wanted, bits, es, seed):
    """Codes next to those of minus the wanted numbers."""
    codes = [-oracle.encode(x, bits, es) if x is not None else 0 for x in wanted]
    codes = np.array(codes) + np.random.default_rng(seed).integers(-2, 3, len(codes))
    return np.clip(codes, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@pytest.mark.parametrize(("bits", "es"), KINDS)
def test_operations_are_correctly_rounded(bits, es):
    a, b = (sample(bits, es, SAMPLES, seed) for seed in (0, 1))
    half = SAMPLES // 2
    b[:half] = cancelling(decoded(a[:half], bits, es), bits, es, 2)
    x, y = decoded(a, bits, es), decoded(b, bits, es)
    a, b = jnp.asarray(a, jnp.int32), jnp.asarray(b, jnp.int32)
    for name, operation in BINARY.items():
        found = getattr(posit_arithmetic, name)(Posit(bits, es), a, b)
        want = [oracle.encode(of_fractions(operation, *pair), bits, es) for pair in zip(x, y)]
        np.testing.assert_array_equal(found, want, name)
    want = [oracle.encode(of_fractions(root, one), bits, es) for one in x]
    np.testing.assert_array_equal(posit_arithmetic.sqrt(Posit(bits, es), a), want)


@pytest.mark.parametrize(("bits", "es"), KINDS)
def test_the_fused_multiply_add_rounds_once(bits, es):
    a, b, c = (sample(bits, es, SAMPLES, seed) for seed in (3, 4, 5))
    x, y = decoded(a, bits, es), decoded(b, bits, es)
    products = [of_fractions(BINARY["mul"], *pair) for pair in zip(x, y)]
    half = SAMPLES // 2
    c[:half] = cancelling(products[:half], bits, es, 6)
    z = decoded(c, bits, es)
    found = posit_arithmetic.fma(
        Posit(bits, es), *(jnp.asarray(codes, jnp.int32) for codes in (a, b, c))
    )
    sums = [of_fractions(BINARY["add"], *pair) for pair in zip(products, z)]
    np.testing.assert_array_equal(found, [oracle.encode(one, bits, es) for one in sums])


@pytest.mark.parametrize("bits", [32])
def test_the_case_that_softposits_fused_multiply_add_misrounds(bits):
    numbers = (0.85137939453125, 0.5221405029296875, 0.3205278404057026)
    codes = [Posit(32).encode(jnp.float64(x)) for x in numbers]
    assert posit_arithmetic.fma(Posit(32), *codes) == 1010677613


@pytest.mark.parametrize("bits", [8, 6, 16, 32])
def test_signs_and_order_are_those_of_the_codes(bits):
    top = 2 ** (bits - 1)
    codes = jnp.asarray([-top, 1 - top, -3, -1, 0, 1, 2, top - 1], jnp.int32)
    posit = Posit(bits)
    negated = [-top, top - 1, 3, 1, 0, -1, -2, 1 - top]
    np.testing.assert_array_equal(posit_arithmetic.neg(posit, codes), negated)
    sizes = [-top, top - 1, 3, 1, 0, 1, 2, top - 1]
    np.testing.assert_array_equal(posit_arithmetic.absolute(posit, codes), sizes)
    order = np.sign(np.arange(8)[:, None] - np.arange(8))
    np.testing.assert_array_equal(posit_arithmetic.compare(posit, codes[:, None], codes), order)


def test_eager_jit_and_vmap_agree_and_all_formats_share_one_program():
    a, b = (jnp.asarray(sample(8, 2, 64, seed), jnp.int32) for seed in (7, 8))
    want = posit_arithmetic.div(Posit(8), a, b)
    traced = jax.jit(posit_arithmetic.div)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(traced(Posit(8), a, b), want)
    np.testing.assert_array_equal(
        jax.vmap(lambda a, b: posit_arithmetic.div(Posit(8), a, b))(a, b), want
    )
    before = posit_arithmetic._rounded._cache_size()
    for bits in range(4, 9):
        posit_arithmetic.div(Posit(bits), a, b)
    assert posit_arithmetic._rounded._cache_size() <= before + 1


def test_wide_posits_without_x64_are_refused():
    one = jnp.ones(1, jnp.int32)
    with pytest.raises(ValueError, match="jax_enable_x64"):
        posit_arithmetic.add(Posit(32), one, one)
