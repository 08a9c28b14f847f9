"""What quantising a network costs: excesses in closed form, gradients and steps by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from lpml import data
from lpml.measurements import quantized_training
from lpml.measurements.quantized_training import curvature_at, excesses, problem, trained

SHAPE = ("mlp", 8, "digits", None, 64)
QUICK = dict(width=8, float_epochs=2, bits=(1,))  # of more bits optima take long to compile


def final(seed=1, **settings):
    *_, line = quantized_training(**{**QUICK, **settings}).lines(seed)
    return line


def half_gaussian(n=4000):
    """Magnitudes at the quantiles of |N(0, 1)|: means over them are moments."""
    return norm.ppf(0.5 + (np.arange(n) + 0.5) / (2 * n))


def of(w, d, bits, per="tensor"):
    both = ({"layer": {"kernel": jnp.asarray(x, jnp.float32)}} for x in (w, d))
    return excesses(*both, bits, per)["excess"]


def test_the_excess_of_binary_weights_in_closed_form():
    # with d = |w|: alpha is E|w| without weights and E w^2 / E|w| with them
    w = half_gaussian()
    first, third = np.sqrt(2 / np.pi), 2 * np.sqrt(2 / np.pi)

    def error(alpha):
        return third - 2 * alpha + alpha**2 * first

    wanted = error(first) / error(1 / first) - 1
    assert wanted == pytest.approx(0.483, abs=0.001)
    assert of(w[:, None], w[:, None], 1) == pytest.approx(wanted, rel=5e-3)
    assert of(w[:, None], np.ones((len(w), 1)), 1) == pytest.approx(0, abs=1e-6)


def test_even_curvature_leaves_nothing_to_gain_and_no_weighting_beats_the_best():
    random = np.random.default_rng(0)
    w, d = random.standard_normal((64, 4)), np.exp(2 * random.standard_normal((64, 4)))
    for per in ("tensor", "channel"):
        assert of(w, np.full_like(w, 3.0), 1, per) == pytest.approx(0, abs=1e-6)
        assert of(w, d, 1, per) > 0.01
    # a factor of each channel is no weighting within it
    assert of(w, np.ones((64, 1)) * [1.0, 9.0, 2.0, 5.0], 1, "channel") == pytest.approx(
        0, abs=1e-6
    )
    assert of(np.zeros((4, 2)), np.ones((4, 2)), 2) == 0


def test_the_curvature_is_the_root_of_the_mean_square_of_an_epochs_gradients():
    params = trained(SHAPE, 0, 0, 0.003)
    found = curvature_at(SHAPE, params, 5)
    made = problem(*SHAPE)
    rows = data.batch_indices(5, 0, 16, size=1024, batch_size=64, sampling="shuffle")
    x, y = (np.asarray(made.train[key]) for key in ("x", "y"))
    w, b = (np.asarray(params["Dense_1"][name]) for name in ("kernel", "bias"))
    v, c = (np.asarray(params["Dense_0"][name]) for name in ("kernel", "bias"))
    squares = np.zeros_like(w)
    for batch in rows:  # by hand: the last kernel's gradient is hidden.T (softmax - label) / B
        hidden = np.maximum(x[batch] @ v + c, 0)
        logits = hidden @ w + b
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        p[np.arange(64), y[batch]] -= 1
        squares += (hidden.T @ p / 64) ** 2
    np.testing.assert_allclose(
        found["Dense_1"]["kernel"], np.sqrt(squares / 16), rtol=1e-3, atol=1e-6
    )


def test_more_bits_lose_less():
    lines = list(quantized_training(width=8, float_epochs=10, bits=(1, 4)).lines(1))
    assert [line["bits"] for line in lines] == [1, 4]
    few, many = (line["loss"] / line["float_loss"] for line in lines)
    assert lines[0]["float_loss"] == lines[1]["float_loss"]
    assert 0.9 < many < 1.1 < few
    assert all(-1e-6 < line["excess"] < 0.5 for line in lines)


def test_steps_after_the_quantisation_mend_it():
    line = final(solver="alternating", tuning_epochs=2)
    assert line["loss"] < final()["loss"]
    assert line["float_loss"] < final()["float_loss"]  # float, for as many epochs in all


def test_lines_are_functions_of_the_seed():
    assert final(3) == final(3) != final(4)
    assert final(3).keys() == set(quantized_training(**QUICK).metrics)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(network="lstm"), "network 'lstm' does not exist; choose from mlp, cifarnet"),
        (dict(data="svhn"), "data 'svhn' does not exist"),
        (dict(float_epochs=0), "must be at least 0, and one of them more"),
        (dict(width=0), "width = 0"),
        (dict(bits=()), "bits must name at least one width"),
        (dict(bits=(9,)), "bits = 9"),
        (dict(bits=(1,), solver="absmax"), "solver 'absmax'"),
        (dict(solver="guess"), "solver"),
        (dict(per="row"), "choose tensor or channel"),
        (dict(learning_rate=0.0), "learning_rate"),
    ],
)
def test_settings_that_do_not_exist_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        quantized_training(**settings)


@pytest.mark.slow
def test_convolutions_are_measured_too():
    made = quantized_training(network="cifarnet", width=1, bits=(1,), float_epochs=1)
    (line,) = made.lines(1)
    assert line.keys() == set(made.metrics)
    assert jax.tree.all(jax.tree.map(np.isfinite, line))
