"""The integer path of VSQ products against fake quantisation and against exact integers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml import formats


def matrices(m=48, k=1024, n=40, seed=0):
    rng = np.random.default_rng(seed)
    return (jnp.asarray(rng.standard_normal(s), jnp.float32) for s in ((m, k), (k, n)))


def integer(a, b, fa, fb, **options):
    codes = fa.encode(a), fb.encode(b, axis=0)
    return np.asarray(formats.vsq_matmul(*codes, fa, fb, **options), np.float64)


def exact(a, b, fa, fb):
    """float64 product of what the codes stand for."""
    left, right = fa.encode(a), fb.encode(b, axis=0)

    def values(encoded, axis):
        scales = np.asarray(encoded.scales, np.float64) * np.asarray(encoded.outer, np.float64)
        scales = np.repeat(scales, fa.block, axis)
        codes = np.asarray(encoded.codes, np.float64)
        return codes * (scales[:, : codes.shape[1]] if axis else scales[: codes.shape[0]])

    return values(left, 1) @ values(right, 0)


PAIRS = {
    "V16M4": (formats.VSQ(), formats.VSQ()),
    "V16M6": (formats.VSQ(4, 16, 6), formats.VSQ(4, 16, 6)),
    "V64M8, two words": (formats.VSQ(4, 64, 8), formats.VSQ(4, 64, 8)),
    "W4A8, 6 and 10": (formats.VSQ(8, 16, 10), formats.VSQ(4, 16, 6)),
    "unsigned, per tensor": (
        formats.VSQ(4, 16, 4, signed=False, outer="tensor"),
        formats.VSQ(3, 16, 4),
    ),
}


@pytest.mark.parametrize(("fa", "fb"), PAIRS.values(), ids=PAIRS.keys())
def test_integers_give_what_fake_quantised_floats_give(fa, fb):
    a, b = matrices()
    found = integer(a, b, fa, fb)
    left, right = fa.round(a), fb.round(b, axis=0)
    floats = np.asarray(jnp.matmul(left, right, precision="highest"), np.float64)
    # float32 sums of K terms, in whichever order the processor takes them
    terms = np.abs(np.asarray(left, np.float64)) @ np.abs(np.asarray(right, np.float64))
    assert (np.abs(found - floats) <= (len(b) + 2) * 2.0**-24 * terms).all()
    wanted = exact(a, b, fa, fb)
    assert np.abs(found - wanted).max() <= 3e-7 * np.abs(wanted).max()
    codes = fa.encode(a), fb.encode(b, axis=0)
    jitted = jax.jit(lambda a, b: formats.vsq_matmul(a, b, fa, fb))(*codes)
    np.testing.assert_array_equal(jitted, found.astype(np.float32))


def test_the_sum_stays_within_int32_up_to_4096_terms():
    """All codes and scales at their largest: 4096 x 7 x 7 x 63 x 63, to the last bit."""
    fmt = formats.VSQ(4, 16, 6)
    a = fmt.encode(jnp.ones((1, 4096)))
    b = fmt.encode(jnp.ones((4096, 1)), axis=0)
    unit = float(a.outer[0, 0]) * float(b.outer[0, 0])
    total = 4096 * 49 * 63 * 63
    assert total < 2**31
    found = float(formats.vsq_matmul(a, b, fmt, fmt)[0, 0])
    assert abs(found - np.float32(total) * unit) <= 2e-7 * found


def noise(found, wanted):
    return 10 * np.log10((wanted**2).sum() / ((found - wanted) ** 2).sum())


def test_what_rounding_the_scale_products_costs():
    a, b = matrices(128, 1024, 128)
    wanted = np.asarray(a, np.float64) @ np.asarray(b, np.float64)
    fmt = formats.VSQ()
    full = noise(integer(a, b, fmt, fmt), wanted)
    assert abs(full - 18.18) < 0.15
    assert full - noise(integer(a, b, fmt, fmt, product_bits=6), wanted) < 0.15
    assert 1.0 <= full - noise(integer(a, b, fmt, fmt, product_bits=4), wanted) <= 2.0
    np.testing.assert_array_equal(
        integer(a, b, fmt, fmt, product_bits=8), integer(a, b, fmt, fmt)
    )


def test_an_incomplete_last_block_counts_as_zeros():
    a, b = matrices(5, 40, 3)
    fmt = formats.VSQ(ragged="pad")
    found, wanted = integer(a, b, fmt, fmt), exact(a, b, fmt, fmt)
    assert np.abs(found - wanted).max() <= 3e-7 * np.abs(wanted).max()


def test_what_does_not_fit_is_refused():
    a, b = matrices(4, 64, 4)
    vsq, mx = formats.VSQ(), formats.MXFP4()

    def encode(fmt, x, axis=-1):
        return jax.jit(lambda x: fmt.encode(x, axis=axis))(x)  # op by op takes seconds

    codes = encode(vsq, a), encode(vsq, b, axis=0)
    with pytest.raises(ValueError, match="two-level integers"):
        formats.vsq_matmul(*codes, vsq, mx)
    with pytest.raises(ValueError, match="blocks of 16 and 32"):
        formats.vsq_matmul(*codes, vsq, formats.VSQ(4, 32))
    with pytest.raises(ValueError, match="shapes"):
        formats.vsq_matmul(codes[0], encode(vsq, b[:32], axis=0), vsq, vsq)
    square = jnp.ones((64, 64))
    with pytest.raises(ValueError, match="along its last axis"):
        formats.vsq_matmul(codes[0], encode(vsq, square), vsq, vsq)
    with pytest.raises(ValueError, match="product_bits"):
        formats.vsq_matmul(*codes, vsq, vsq, product_bits=0)
    wide = formats.VSQ(12, 16, 12)
    with pytest.raises(ValueError, match="fewer bits"):
        formats.vsq_matmul(encode(wide, a), encode(wide, b, axis=0), wide, wide)


@pytest.mark.parametrize("name", ["vsq4", "fixed8"])
def test_nan_is_no_number_after_an_integer_product(name):
    a = jnp.ones((2, 16)).at[1, 3].set(jnp.nan)
    found = formats.dot_general(a, jnp.ones((16, 3)), name, dot="integer")
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()
