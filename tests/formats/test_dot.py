"""Products in two formats, by every mode, against exact sums."""

import functools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import posit_oracle
import pytest
from float_oracle import any_values, fractions, nearest

from lpml import formats
from lpml.formats import BFLOAT16, E5M2, FLOAT16, Minifloat, by_name
from lpml.formats.dot import MODES
from lpml.formats.show import describe

FLOAT32 = Minifloat(8, 23)
# every mode with formats that it takes
CASES = [
    *(("float32", name) for name in ("posit16", "fixed8", "vsq4")),
    *(("exact", name) for name in ("posit8", "e5m2", "bfloat16")),
    ("quire", "posit16"),
    *(("integer", name) for name in ("fixed8", "vsq4")),
    *(("exsdotp", name) for name in ("e5m2", "bfloat16")),
    ("exfma", "e4m3"),
]
every_case = pytest.mark.parametrize(("dot", "name"), CASES)


def gaussian(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def as_rounded(name, a, b):
    """The matrices' values in a format, float64."""
    fmt = by_name(name)
    axes = ({"axis": -1}, {"axis": -2}) if isinstance(fmt, formats.Scaled) else ({}, {})
    return [np.asarray(fmt.round(x, **o), np.float64) for x, o in zip((a, b), axes)]


def exact_sums(a, b):
    columns = list(zip(*fractions(b)))
    return [
        [sum((p * q for p, q in zip(row, column)), Fraction(0)) for column in columns]
        for row in fractions(a)
    ]


@every_case
def test_products_are_those_of_the_rounded_operands_but_for_the_sums_rounding(dot, name):
    a, b = gaussian(7, 48), gaussian(48, 6, seed=1)
    found = formats.dot_general(a, b, name, dot=dot)
    x, y = as_rounded(name, a, b)
    assert found.dtype == jnp.float32
    eps = 2.0**-24
    if dot in ("exsdotp", "exfma") and name != "bfloat16":
        eps = 2.0**-11
    if dot in ("exact", "quire") and name.startswith("posit"):
        eps = {"posit16": 2.0**-11, "posit8": 2.0**-3}[name]
    roundings = 48 if dot in ("float32", "exsdotp", "exfma") else 3
    np.testing.assert_array_less(
        np.abs(found - x @ y), roundings * eps * (np.abs(x) @ np.abs(y))
    )


@every_case
def test_jit_and_vmap_change_no_bit(dot, name):
    a, b = gaussian(2, 5, 32), gaussian(2, 32, 6, seed=1)
    run = functools.partial(formats.matmul, fa=by_name(name), dot=dot)
    wanted = np.stack([run(x, y) for x, y in zip(a, b)])
    if dot == "float32":  # sums of a matmul may come in another order
        np.testing.assert_allclose(jax.jit(jax.vmap(run))(a, b), wanted, rtol=1e-4, atol=1e-5)
        return
    np.testing.assert_array_equal(jax.jit(run)(a[0], b[0]), wanted[0])
    np.testing.assert_array_equal(jax.jit(jax.vmap(run))(a, b), wanted)


@every_case
def test_derivatives_are_those_of_the_product_of_rounded_values(dot, name):
    a, b, weights = gaussian(4, 32), gaussian(32, 6, seed=1), gaussian(4, 6, seed=2)

    def loss(a, b):
        return (weights * formats.matmul(a, b, name, dot=dot)).sum()

    x, y = as_rounded(name, a, b)
    da, db = jax.jit(jax.grad(loss, argnums=(0, 1)))(a, b)
    np.testing.assert_allclose(da, weights @ y.T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(db, x.T @ weights, rtol=1e-5, atol=1e-5)
    # forward mode too
    _, tangent = jax.jvp(lambda a: formats.matmul(a, b, name, dot=dot), (a,), (a,))
    np.testing.assert_allclose(tangent, a @ y, rtol=1e-5, atol=1e-5)


def test_every_mode_is_tried_above():
    assert {dot for dot, _ in CASES} == set(MODES)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("into", [FLOAT16, BFLOAT16, FLOAT32], ids=describe)
@pytest.mark.parametrize("source", [E5M2, FLOAT16, BFLOAT16], ids=describe)
def test_exact_sums_of_minifloats_of_all_sizes_are_rounded_once(source, into, x64):
    rng = np.random.default_rng(0)
    a, b = any_values(source, (5, 40), rng), any_values(source, (40, 6), rng)
    a[:, 20:], b[20:] = a[:, :20], -b[:20]  # all cancels but one product
    b[-1] = any_values(source, 6, rng)
    a[0], b[:, 0] = 0, source.smallest
    sums = exact_sums(a, b)
    saturate = into != FLOAT32  # float32 results are not limited to a format
    wanted = [[nearest(total, into, saturate=saturate) for total in row] for row in sums]
    with jax.enable_x64(x64):
        found = formats.matmul(jnp.asarray(a), jnp.asarray(b), source, dot="exact", into=into)
    np.testing.assert_array_equal(np.asarray(found), np.float32(wanted))


def test_exact_sums_of_float32_take_x64():
    a, b = gaussian(3, 30), gaussian(30, 3, seed=1)
    with pytest.raises(ValueError, match="jax_enable_x64"):
        formats.matmul(a, b, FLOAT32, dot="exact")
    with jax.enable_x64(True):
        found = formats.matmul(a, b, FLOAT32, dot="exact")
    wanted = [[nearest(total, FLOAT32) for total in row] for row in exact_sums(a, b)]
    np.testing.assert_array_equal(found, np.float32(wanted))


def test_infinities_and_nan_pass_through_exact_sums():
    big = Minifloat(5, 10, saturate=False)
    inf, nan = np.inf, np.nan
    a = jnp.float32([[1, inf, 1], [0, 1, 1], [nan, 1, 1], [1, 1, -inf], [1, 2, 3]])
    b = jnp.float32([[1, inf, 1], [1, 1, 0], [1, 1, inf]])
    found = formats.exact_matmul(a, b, into=big, significand=11)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(found, np.asarray(a) @ np.asarray(b))


def test_the_quire_rounds_to_the_posit_once():
    a, b = gaussian(4, 60), gaussian(60, 3, seed=1)
    found = formats.matmul(a, b, "posit16", dot="quire")
    sums = exact_sums(*as_rounded("posit16", a, b))
    codes = [[posit_oracle.encode(total, 16, 2) for total in row] for row in sums]
    np.testing.assert_array_equal(found, by_name("posit16").decode(jnp.asarray(codes)))


def test_integer_products_are_exact_sums_of_codes():
    a, b = 40 * gaussian(4, 200), 40 * gaussian(200, 3, seed=1)
    x, y = as_rounded("int8", a, b)
    np.testing.assert_array_equal(formats.matmul(a, b, "int8", dot="integer"), x @ y)
    fa, fb = formats.Fixed(0.1, 8), formats.Fixed(0.03, 6)
    found = formats.matmul(a, b, fa, fb, dot="integer")
    codes = [np.asarray(f.encode(x), np.int64) for f, x in ((fa, a), (fb, b))]
    scale = np.float32(0.1) * np.float32(0.03)
    np.testing.assert_array_equal(found, (codes[0] @ codes[1]).astype(np.float32) * scale)


@pytest.mark.parametrize("dot", ["float32", "exact", "exsdotp"])
@pytest.mark.parametrize(
    "numbers",
    [
        (((3, 2), (0, 3)), ((0,), (1,))),
        (((2,), (3,)), ((), ())),
        (((-1,), (0,)), ((0,), (1,))),
        (((0, 1, 2, 3), (1, 2, 3, 0)), ((), ())),
    ],
)
def test_axes_are_those_of_jax(numbers, dot):
    rng = np.random.default_rng(0)
    (con_a, con_b), (bat_a, bat_b) = numbers
    shape_b = [5] * 4
    shape_a = (3, 4, 2, 6)
    for i, j in zip((*con_a, *bat_a), (*con_b, *bat_b)):
        shape_b[j] = shape_a[i]
    # small integers: every mode is exact
    a, b = (
        jnp.asarray(rng.integers(-2, 3, shape), jnp.float32) for shape in (shape_a, shape_b)
    )
    found = formats.dot_general(a, b, "float16", None, dot, dimension_numbers=numbers)
    positive = tuple(tuple(tuple(i % 4 for i in axes) for axes in pair) for pair in numbers)
    np.testing.assert_array_equal(found, jax.lax.dot_general(a, b, positive))


def test_float64_operands_are_multiplied_in_float64():
    with jax.enable_x64(True):
        a, b = (x.astype(jnp.float64) for x in (gaussian(4, 50), gaussian(50, 3, seed=1)))
        found = formats.matmul(a, b, "posit32", dot="quire")
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, a @ b, rtol=1e-6)
        assert formats.matmul(a, b, "float32").dtype == jnp.float64


@pytest.mark.parametrize(
    ("dot", "fa", "fb", "into", "says"),
    [
        ("float16", "posit8", None, None, "choose from float32, exact, quire, integer"),
        ("quire", "e4m3", None, None, "'quire' does not multiply e4m3 and e4m3: it takes two"),
        ("exact", "posit8", "posit16", None, "posit8es2 and posit16es2: it takes two equal"),
        ("exact", "int8", None, None, "takes two equal Posits, or two Minifloats"),
        ("integer", "int16", None, None, "Fixed of 16 bits: it takes two Fixed of at most 8"),
        ("integer", "mxfp4", None, None, "two-level"),
        ("exsdotp", "e5m2", "e4m3", None, "e5m2 and e4m3: it takes two Minifloats of one kind"),
        ("exsdotp", "float32", None, None, "12 significant bits"),
        ("exsdotp", "float16", None, "bfloat16", "no expanding dot product"),
        ("exact", "e5m2", None, "posit16", "not rounded to posit16es2"),
        ("float32", "e5m2", None, "float16", "leave into away"),
        ("float32", "e5m3x", None, None, "does not exist"),
    ],
)
def test_what_no_mode_supports_is_refused_in_a_sentence(dot, fa, fb, into, says):
    a, b = gaussian(3, 16), gaussian(16, 2)
    with pytest.raises(ValueError, match=says) as raised:
        formats.dot_general(a, b, fa, fb, dot, into=into)
    assert "\n" not in str(raised.value)


def test_axes_and_lengths_that_do_not_fit_are_refused():
    a, b = gaussian(3, 16), gaussian(15, 2)
    with pytest.raises(ValueError, match="do not multiply"):
        formats.matmul(a, b, "e5m2")
    with pytest.raises(ValueError, match="do not match"):
        formats.dot_general(a, b, "e5m2")
    with pytest.raises(ValueError, match="do not match"):
        formats.dot_general(a, b, "e5m2", dimension_numbers=(((5,), (0,)), ((), ())))
    long = jnp.zeros((1, 2**17))
    with pytest.raises(ValueError, match="may exceed int32"):
        formats.matmul(long, long.T, "int8", dot="integer")


def test_all_modes_are_documented():
    assert all(f'"{mode}"' in (formats.dot_general.__doc__ or "") for mode in MODES)
