"""The mean over a data set, exact where N is no multiple of the batch (fact 18)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml.optim import halp, mean_over_data, rows_over_data


@pytest.mark.parametrize("batch_size", [1, 7, 128, 500, 999, 1000, 4096])
def test_the_accumulated_gradient_equals_the_one_shot_gradient(data_b, batch_size, in_x64):
    """Fact 18: to 1e-12 relative, ragged last batch or not."""
    w = {"Dense_0": {"kernel": np.random.default_rng(0).normal(size=(100, 1))}}
    whole = jax.grad(data_b.loss)(w, data_b.data)["Dense_0"]["kernel"]
    found = mean_over_data(
        lambda batch: jax.grad(data_b.loss)(w, batch), data_b.data, batch_size=batch_size
    )["Dense_0"]["kernel"]
    assert np.linalg.norm(found - whole) <= 1e-12 * np.linalg.norm(whole)


def test_float32_gradients_are_summed_in_float64_where_x64_is_enabled(in_x64):
    data = {"x": np.full(10_001, 0.1, np.float32)}
    found = mean_over_data(lambda batch: batch["x"].mean(), data, batch_size=1)
    assert found.dtype == np.float64
    assert found == pytest.approx(float(np.float32(0.1)), rel=1e-12)


def test_half_precision_means_are_summed_in_float32(in_x32):
    data = {"x": np.ones(3000, np.float16)}
    found = mean_over_data(lambda batch: batch["x"].mean(), data, batch_size=1)
    assert found.dtype == np.float32
    assert found == pytest.approx(1.0, rel=1e-4)


def test_every_sample_counts_once_in_any_tree():
    data = {"a": np.arange(10.0), "b": np.arange(20.0).reshape(10, 2)}
    found = mean_over_data(
        lambda batch: (batch["a"].mean(), {"b": batch["b"].mean(axis=0)}), data, batch_size=4
    )
    assert found[0] == pytest.approx(4.5)
    np.testing.assert_allclose(found[1]["b"], [9.0, 10.0], rtol=1e-6)


def test_arrays_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="unpack"):
        mean_over_data(lambda _: 0.0, {"x": np.ones(3), "y": np.ones(4)})


def test_the_mean_of_batch_means_leaves_halp_on_a_floor(data_b, new_problem, x64):
    """Fact 18: batches of 128, the last one of 104; the exact gradient has no floor."""

    class MeanOfMeans(new_problem):
        def full_grad(self, params):
            sizes = [min(128, len(self.x) - i) for i in range(0, len(self.x), 128)]
            weight = np.concatenate([np.full(n, 1 / (n * len(sizes))) for n in sizes])

            def mean_of_means(params):
                return weight @ (self.outputs(params)[:, 0] - self.y) ** 2

            return jax.grad(mean_of_means)(params)

    class Ragged(new_problem):
        def full_grad(self, params):
            return mean_over_data(
                lambda batch: jax.grad(self.loss)(params, batch), self.data, batch_size=128
            )

    norms = []
    for kind in (MeanOfMeans, Ragged):
        problem = kind(data_b.model, data_b.x, data_b.y)
        with x64():
            history = problem.train(
                lambda: halp(5e-4, inner_steps=2000, bits=8, mu=4.0), [dict(seed=1)], epochs=40
            )
        norms.append(problem.grad_norm(history.weights)[0, -1])
    assert norms[0] > 1e-2
    assert norms[1] < 1e-12


def test_it_compiles_to_one_loop_whatever_the_number_of_batches():
    def text(size):
        data = {"x": jnp.ones(size)}
        return str(
            jax.make_jaxpr(
                lambda d: mean_over_data(lambda b: jnp.sin(b["x"]).mean(), d, batch_size=4)
            )(data)
        )

    assert text(400).count(" sin ") == text(40).count(" sin ") == 1


@pytest.mark.parametrize("batch_size", [1, 4, 5, 6, 10, 64])
def test_rows_of_parts_are_those_of_the_whole(batch_size):
    x = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    seen = []

    def fn(batch):
        seen.append(len(batch["x"]))
        return jnp.cumsum(batch["x"], axis=1)

    found = jax.jit(lambda data: rows_over_data(fn, data, batch_size=batch_size))({"x": x})
    np.testing.assert_allclose(found, np.cumsum(x, axis=1), rtol=1e-6)
    assert max(seen) == min(batch_size, 10)
