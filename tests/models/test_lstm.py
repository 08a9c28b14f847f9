"""The character LSTM against its recurrence in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml import models

TINY = dict(classes=7, layers=2, width=5)


def made(length=6, dtype="float64", **changed):
    model = models.character_lstm(**TINY | changed, dtype=dtype)
    x = np.random.default_rng(0).integers(0, TINY["classes"], (4, length))
    batch = {"x": jnp.asarray(x), "y": jnp.asarray(np.roll(x, -1, 1))}
    return model, batch, jax.jit(model.init)(jax.random.key(1), batch)[0]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def logits_in_numpy(params, x):
    params = jax.tree.map(np.asarray, params)
    out = []
    for sample in np.asarray(x):
        rows = np.sqrt(TINY["width"]) * params["pieces"][sample]
        for layer in range(TINY["layers"]):
            cell = params[f"layer_{layer}"]
            h = c = np.zeros(TINY["width"])
            states = []
            for row in rows:
                gate = {
                    g: row @ cell[f"i{g}"]["kernel"]
                    + h @ cell[f"h{g}"]["kernel"]
                    + cell[f"h{g}"]["bias"]
                    for g in "ifgo"
                }
                c = sigmoid(gate["f"]) * c + sigmoid(gate["i"]) * np.tanh(gate["g"])
                h = sigmoid(gate["o"]) * np.tanh(c)
                states.append(h)
            rows = np.array(states)
        out.append(rows @ params["head"]["kernel"] + params["head"]["bias"])
    return np.array(out)


def test_it_is_the_recurrence_of_the_paper():
    with jax.enable_x64(True):
        model, batch, params = made()
        params = jax.tree.map(lambda p: p + 0.1, params)  # biases too
        found = jax.jit(model.outputs)(params, {}, batch)
        np.testing.assert_allclose(found, logits_in_numpy(params, batch["x"]), rtol=1e-12)


def test_the_number_of_parameters_is_the_formula_s():
    _, _, params = made(dtype="float32")
    k, d, layers = TINY["classes"], TINY["width"], TINY["layers"]
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert size == 2 * k * d + k + layers * (8 * d * d + 4 * d)


def test_the_full_gradient_is_the_mean_of_the_samples_gradients():
    with jax.enable_x64(True):
        model, batch, params = made()

        def gradient(params, batch):
            return jax.grad(lambda p: model.objective(p, {}, batch)[0])(params)

        whole = jax.jit(gradient)(params, batch)
        parts = [gradient(params, {k: v[i, None] for k, v in batch.items()}) for i in range(4)]
        mean = jax.tree.map(lambda *g: sum(g) / 4, *parts)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-14), whole, mean)


@pytest.mark.parametrize("wrong", [dict(layers=0), dict(width=0)])
def test_sizes_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="must be at least 1"):
        models.character_lstm(**TINY | wrong)
