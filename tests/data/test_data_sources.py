"""The sources without files, the common shape, and the fixed-point grid."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits, make_classification, make_regression

from lpml import data


def test_importing_the_package_imports_neither_jax_nor_what_single_sources_need():
    heavy = ("jax", "sklearn", "sentencepiece", "sacrebleu")
    code = f"import sys, lpml.data; print([m for m in {heavy} if m in sys.modules])"
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert got.stdout.strip() == "[]", got.stderr


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_regression_is_that_of_scikit_learn(noise):
    x, y = make_regression(1000, 100, noise=noise, random_state=0xC0FFEE)
    got = data.synthetic_regression(noise=noise)
    np.testing.assert_array_equal(got.train["x"], x)
    np.testing.assert_array_equal(got.train["y"], y)
    assert (got.size, got.train["x"].shape[1:], got.test, got.classes) == (
        1000,
        (100,),
        None,
        None,
    )
    assert got.input_scale is None


def test_regression_has_the_known_spectrum_and_optimum():
    train = data.synthetic_regression(noise=0.0).train
    hessian = 2 * train["x"].T @ train["x"] / 1000
    spectrum = np.linalg.eigvalsh(hessian)
    optimum = np.linalg.lstsq(train["x"], train["y"])[0]
    assert np.max(np.abs(optimum)) == pytest.approx(86.7, abs=0.05)
    assert np.sum(np.abs(optimum) > 1e-6) == 10
    assert np.trace(hessian) == pytest.approx(197.9, abs=0.05)
    assert spectrum[0] == pytest.approx(0.954, abs=5e-4)
    assert spectrum[-1] == pytest.approx(3.33, abs=5e-3)


def test_classification_is_that_of_scikit_learn_standardised():
    got = data.synthetic_classification(samples=300, classes=3, seed=5)
    x, y = make_classification(
        n_samples=300, n_features=20, n_informative=10, n_classes=3, random_state=5
    )
    np.testing.assert_array_equal(got.train["y"], y)
    assert got.train["y"].dtype == np.int32
    assert got.classes == 3
    np.testing.assert_allclose(got.train["x"].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(got.train["x"].var(axis=0), 1, atol=1e-12)
    np.testing.assert_allclose(np.corrcoef(got.train["x"].T), np.corrcoef(x.T), atol=1e-9)


def test_enlarged_digits_are_squares_of_pixels():
    small = data.digits(train_samples=5, flat=False).train["x"]
    large = data.digits(train_samples=5, flat=False, enlarge=4).train["x"]
    assert large.shape == (5, 32, 32, 1)
    np.testing.assert_array_equal(large, np.kron(small, np.ones((1, 4, 4, 1), np.float32)))
    for wrong in (dict(enlarge=2), dict(enlarge=0, flat=False)):
        with pytest.raises(ValueError, match="enlarge is"):
            data.digits(**wrong)


def test_digits_are_a_seeded_split_of_all():
    pixels, labels = load_digits(return_X_y=True)
    got = data.digits(seed=3)
    assert got.train["x"].shape == (1500, 64)
    assert got.test["x"].shape == (297, 64)
    assert got.train["x"].min() == 0
    assert got.train["x"].max() == 1
    rows = np.concatenate([got.train["x"], got.test["x"]]) * 16
    both = np.column_stack([rows, np.concatenate([got.train["y"], got.test["y"]])])
    want = np.column_stack([pixels, labels])
    np.testing.assert_array_equal(np.unique(both, axis=0), np.unique(want, axis=0))
    assert sorted(map(tuple, both)) == sorted(map(tuple, want))
    image = data.digits(seed=3, flat=False).train["x"]
    assert image.shape == (1500, 8, 8, 1)
    np.testing.assert_array_equal(image.reshape(1500, 64), got.train["x"])
    assert not np.array_equal(data.digits(seed=4).train["y"], got.train["y"])
    assert data.digits(train_samples=1797).test is None


def test_uniform_regression_is_a_bounded_linear_model():
    got = data.uniform_regression(samples=4000, features=20, noise=0.2, seed=3)
    x, y = got.train["x"].astype(float), got.train["y"].astype(float)
    assert got.test is None
    assert np.abs(x).max() <= 0.5
    # variance of a uniform square: standard error 1/12 * sqrt(0.8 / 80 000)
    assert np.mean(x**2) == pytest.approx(1 / 12, abs=5 * np.sqrt(0.8 / 80_000) / 12)
    w, residual, *_ = np.linalg.lstsq(x, y, rcond=None)
    assert residual[0] / (4000 - 20) == pytest.approx(0.04, rel=5 * np.sqrt(2 / 4000))
    # true weights are in [-1/2, 1/2]; the estimate's deviation is 0.2 sqrt(12 / 4000)
    assert np.abs(w).max() < 0.5 + 5 * 0.011
    assert np.std(w) > 0.15
    for wrong in (dict(features=0), dict(samples=0), dict(noise=-1)):
        with pytest.raises(ValueError, match="must"):
            data.uniform_regression(**wrong)


@pytest.mark.parametrize(
    "source",
    [
        data.synthetic_regression,
        data.synthetic_classification,
        data.uniform_regression,
        data.digits,
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_are_kept_and_calls_repeat(source, dtype):
    first, second = source(dtype=dtype), source(dtype=dtype)
    assert first.train["x"].dtype == dtype
    for key in ("x", "y"):
        np.testing.assert_array_equal(first.train[key], second.train[key])
    with pytest.raises(ValueError, match="'float16' but must be 'float32' or 'float64'"):
        source(dtype="float16")


@pytest.mark.parametrize(
    ("source", "settings", "words"),
    [
        (data.synthetic_regression, dict(samples=-1), "samples = -1"),
        (data.synthetic_regression, dict(features=0), "features = 0"),
        (data.synthetic_regression, dict(noise=-0.1), "noise = -0.1"),
        (data.uniform_regression, dict(samples=0), "samples = 0"),
        (data.uniform_regression, dict(noise=float("nan")), "noise = nan"),
        (data.synthetic_classification, dict(samples=0), "samples = 0"),
    ],
)
def test_synthetic_problems_name_the_setting_that_is_out_of_range(source, settings, words):
    with pytest.raises(ValueError, match=words):
        source(**settings)


def test_train_samples_out_of_range_is_refused():
    with pytest.raises(ValueError, match="train_samples is 0 but must be 1 to 1797"):
        data.digits(train_samples=0)


def dataset(train, test=None, dtype="float64"):
    parts = [
        None if x is None else {"x": np.array(x, dtype), "y": np.zeros(len(x), np.int32)}
        for x in (train, test)
    ]
    return data.Dataset(parts[0], parts[1], 2)


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("float32", 2), ("float32", 8), ("float32", 24), ("float64", 8), ("float64", 32)],
)
def test_the_grid_is_exact_and_its_rounding_nearest(dtype, bits):
    x = np.random.default_rng(0).normal(size=(5000, 3))
    before = dataset(x, x * 2, dtype)
    after = data.quantize_inputs(before, bits)
    scale = np.dtype(dtype).type(after.input_scale)
    assert float(scale) == after.input_scale
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for old, new in (
        (before.train["x"], after.train["x"]),
        (before.test["x"], after.test["x"]),
    ):
        codes = np.rint(new.astype(np.longdouble) / scale)
        assert new.dtype == dtype
        np.testing.assert_array_equal(new, codes.astype(dtype) * scale)
        assert low <= codes.min()
        assert codes.max() <= high
        ratio = old.astype(np.longdouble) / np.longdouble(scale)
        inside = (ratio >= low) & (ratio <= high)
        assert np.all(np.abs(ratio - codes)[inside] <= 0.5 + 1e-6)
        assert np.all(codes[ratio > high] == high)
        assert np.all(codes[ratio < low] == low)
    assert np.abs(after.train["x"]).max() == scale * np.dtype(dtype).type(high)
    np.testing.assert_array_equal(before.train["x"], x.astype(dtype))


def test_the_grid_by_hand():
    after = data.quantize_inputs(dataset([[-7.0], [2.4], [2.6], [0.5]], [[99.0], [-99.0]]), 4)
    assert after.input_scale == 1.0
    np.testing.assert_array_equal(after.train["x"][:, 0], [-7, 2, 3, 0])
    np.testing.assert_array_equal(after.test["x"][:, 0], [7, -8])
    zero = data.quantize_inputs(dataset([[0.0]]), 8)
    assert zero.input_scale == 1.0
    assert zero.train["x"][0, 0] == 0


@pytest.mark.parametrize(
    "source",
    [
        data.synthetic_regression,
        data.synthetic_classification,
        data.uniform_regression,
        data.digits,
    ],
)
def test_sources_put_their_inputs_on_the_grid(source):
    by_hand = data.quantize_inputs(source(), 8)
    got = source(input_bits=8)
    assert got.input_scale == by_hand.input_scale
    np.testing.assert_array_equal(got.train["x"], by_hand.train["x"])


@pytest.mark.parametrize("x", [[[np.nan]], [[np.inf]], [[5e-324]], [[1.0], [np.nan]]])
def test_inputs_that_fit_no_grid_are_refused(x, refused):
    with refused("input_bits=None"):
        data.quantize_inputs(dataset(x), 8)
    with refused("input_bits=None"):
        data.quantize_inputs(dataset([[1.0]], [[np.nan]]), 8)


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 1), ("float32", 25), ("float64", 33)])
def test_bits_out_of_range_are_refused(dtype, bits):
    with pytest.raises(ValueError, match=f"bits is {bits} but must be 2 to"):
        data.quantize_inputs(dataset([[1.0]], dtype=dtype), bits)
