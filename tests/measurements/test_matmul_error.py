"""The error of matrix products, against exact rationals and numpy's own float32."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml import formats
from lpml.measurements import matmul_error

SIZE = 6


def final(**settings):
    with jax.enable_x64(True):
        *_, line = matmul_error(size=SIZE, **settings).lines(5)
    return line


def inputs():
    return np.random.default_rng(5).uniform(-1, 1, (2, SIZE, SIZE))


def exact_product(a, b):
    rows = [[Fraction(v) for v in row] for row in a.tolist()]
    columns = [[Fraction(v) for v in column] for column in b.T.tolist()]
    return np.array([[float(sum(map(Fraction.__mul__, r, c))) for c in columns] for r in rows])


def test_the_quire_is_the_exact_sum_rounded_once():
    a, b = inputs()
    posit = formats.by_name("posit32")
    with jax.enable_x64(True):
        x, y = (np.asarray(posit.round(jnp.asarray(m))) for m in (a, b))
        error = np.asarray(posit.round(jnp.asarray(exact_product(x, y)))) - a @ b
    assert final(format="posit32", sum="quire")["mse"] == pytest.approx(np.mean(error**2))


def test_float32_rounded_at_every_operation_is_numpys():
    a, b = (m.astype(np.float32) for m in inputs())
    product = np.zeros((SIZE, SIZE), np.float32)
    for k in range(SIZE):
        product = product + a[:, k, None] * b[None, k]
    error = product - inputs()[0] @ inputs()[1]
    assert final(format="float32", sum="rounded")["mse"] == np.mean(error**2)
    assert final(format="float32", sum="rounded")["largest_error"] == np.max(np.abs(error))


def test_a_fused_sum_is_rounded_once():
    a, b = (m.astype(np.float16) for m in inputs())
    product = np.zeros((SIZE, SIZE), np.float16)
    for k in range(SIZE):  # exact in float64: 22 bits of a product beside 11 of a sum
        product = (product.astype(float) + a[:, k, None].astype(float) * b[None, k]).astype(
            np.float16
        )
    error = product.astype(float) - inputs()[0] @ inputs()[1]
    assert final(format="float16", sum="fma")["mse"] == np.mean(error**2)


def test_trials_are_averaged():
    with jax.enable_x64(True):
        settings = dict(format="posit16", sum="quire", size=SIZE)
        lines = list(matmul_error(trials=2, **settings).lines(5))
        other = list(matmul_error(**settings).lines(6))
    assert lines[1]["mse"] == pytest.approx((lines[0]["mse"] + other[0]["mse"]) / 2, rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(sum="exact"), "sum 'exact' does not exist; choose from rounded, fma, quire"),
        (dict(format="float16"), "sum 'quire' takes a posit, which float16 is not"),
        (dict(format="posit16", sum="fma"), "sum 'fma' takes a minifloat"),
        (dict(format="vsq4", sum="rounded"), "takes a posit or a minifloat, which vsq4 is not"),
        (dict(format="posit99"), "bits = 99"),
        (dict(size=0), "size = 0"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with jax.enable_x64(True), pytest.raises(ValueError, match=words):
        matmul_error(**settings)


def test_wide_formats_need_float64():
    with pytest.raises(ValueError, match=r"posit32 needs config\.precision = 'float64'"):
        matmul_error()
