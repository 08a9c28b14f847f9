"""What every model that a config can name promises; they come from the export list."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml import models
from lpml.build import choices

MODELS = choices(models, models.Supervised)
LINEAR = ("linear_regression", "logistic_regression", "multinomial_regression")
# Arguments, and the shape of one sample
CASES = {
    "linear_regression": ({}, (5,)),
    "logistic_regression": (dict(classes=2), (5,)),
    "multinomial_regression": (dict(classes=3), (5,)),
    "mlp": (dict(classes=3, hidden=(7, 6)), (5,)),
    "lenet5": (dict(classes=3, widths=(2, 3, 6, 5)), (8, 8, 1)),
    "cifarnet": (dict(classes=3, width=2, hidden=(5, 4), crop=None), (4, 4, 1)),
    "resnet20": (dict(classes=3, width=2, depth=8), (4, 4, 1)),
    "resnet50": (dict(classes=3, width=2, blocks=(1,)), (4, 4, 1)),
    "vgg11": (dict(classes=3, width=1), (4, 4, 1)),
    "character_transformer": (dict(classes=4, layers=1, width=8, heads=2, hidden=12), (5,)),
    "character_lstm": (dict(classes=4, layers=1, width=8), (5,)),
    "translation_transformer": (
        dict(classes=6, layers=1, width=8, heads=2, hidden=12),
        (2, 4),
    ),
}
# Those that tell a class at every place, from numbers of pieces
OF_TEXTS = ("character_lstm", "character_transformer", "translation_transformer")
SAMPLES = 6

# What takes seconds to compile is held to float64, the stricter, and with -m slow to both.
DEEP = ("resnet20", "resnet50", "vgg11", "character_transformer", "translation_transformer")
# draws of parameters whose answers differ, where the usual one gives one answer to all
SEEDS = {
    "character_lstm": 0,
    "cifarnet": 16,
    "resnet20": 7,
    "resnet50": 22,
    "vgg11": 7,
    "translation_transformer": 11,
}

every_model = pytest.mark.parametrize("name", sorted(MODELS))
every_model_and_dtype = pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(
            *(name, dtype),
            marks=[pytest.mark.slow] if name in DEEP and dtype == "float32" else [],
        )
        for name in sorted(MODELS)
        for dtype in ("float32", "float64")
    ],
)
linear_ones = pytest.mark.parametrize("name", LINEAR)


def make(name, **changes):
    return MODELS[name](**CASES[name][0] | changes)


def batch_of(name, dtype="float64", seed=0):
    arguments, shape = CASES[name]
    random = np.random.default_rng(seed)
    classes = arguments.get("classes")
    if name in OF_TEXTS:
        x, y = (
            random.integers(0, classes, size)
            for size in ((SAMPLES, *shape), (SAMPLES, shape[-1]))
        )
        return {"x": jnp.asarray(x), "y": jnp.asarray(y)}
    x = random.normal(size=(SAMPLES, *shape)).astype(dtype)
    if classes is None:
        return {"x": jnp.asarray(x), "y": jnp.asarray(random.normal(size=SAMPLES), dtype)}
    return {"x": jnp.asarray(x), "y": jnp.asarray(random.integers(0, classes, SAMPLES))}


@functools.cache
def start(name, dtype):
    """Parameters and model state at the start; compiled once, as deep networks take long."""
    return jax.jit(make(name, dtype=dtype).init)(jax.random.key(1), batch_of(name, dtype))


def randomly(tree, seed, scale=1.0):
    """A tree of normal numbers shaped like `tree`."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(scale * random.normal(size=leaf.shape), leaf.dtype), tree
    )


def loss_of(model, batch, model_state):
    return jax.jit(lambda params: model.objective(params, model_state, batch)[0])


@functools.partial(jax.jit, static_argnums=0)
def answer(model, params, model_state, batch):
    """Outputs and metrics, in one program: a deep network's operations one by one take long."""
    _, (_, metrics) = model.objective(params, model_state, batch)
    return model.outputs(params, model_state, batch), metrics


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def test_every_model_has_a_case_in_this_file():
    missing = sorted(set(MODELS) - set(CASES))
    assert not missing, f"add arguments of {', '.join(missing)} to CASES of {__file__}"
    assert set(CASES) == set(MODELS)
    assert {name for name in CASES if make(name).linear} == set(LINEAR)


@every_model_and_dtype
def test_starts_the_same_for_the_same_key_in_the_dtype_asked_for(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        model, batch = make(name, dtype=dtype), batch_of(name, dtype)
        init = jax.jit(model.init)
        params, _ = init(jax.random.key(3), batch)
        again, _ = init(jax.random.key(3), batch)
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(again), strict=True):
            assert a.dtype == jnp.dtype(dtype)
            np.testing.assert_array_equal(a, b)
        other, _ = init(jax.random.key(4), batch)
        differ = any(
            not np.array_equal(a, b)
            for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(other), strict=True)
        )
        assert differ != (name in LINEAR), "linear models start at 0, others at random"


@every_model_and_dtype
def test_loss_outputs_and_gradient_have_the_promised_shapes_and_dtype(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        model, batch = make(name, dtype=dtype), batch_of(name, dtype)
        params, model_state = start(name, dtype)
        outputs, _ = answer(model, params, model_state, batch)
        columns = 1 if name == "logistic_regression" else CASES[name][0].get("classes", 1)
        places = CASES[name][1][-1:] if name in OF_TEXTS else ()
        assert outputs.shape == (SAMPLES, *places, columns)
        assert outputs.dtype == jnp.dtype(dtype)
        (value, (new_state, metrics)), grads = jax.jit(
            jax.value_and_grad(lambda p: model.objective(p, model_state, batch), has_aux=True)
        )(params)
        assert value.shape == ()
        assert value.dtype == jnp.dtype(dtype)
        assert np.isfinite(value)
        assert jax.tree.structure(new_state) == jax.tree.structure(model_state)
        assert ("accuracy" in metrics) == (name != "linear_regression")
        for leaf, grad in zip(jax.tree.leaves(params), jax.tree.leaves(grads), strict=True):
            assert (grad.shape, grad.dtype) == (leaf.shape, leaf.dtype)


@every_model
def test_the_gradient_is_that_of_the_loss(name, x64):
    model, batch = make(name, l2=0.3, dtype="float64"), batch_of(name)
    params, model_state = start(name, "float64")
    params = jax.tree.map(jnp.add, params, randomly(params, 1, 0.3))
    direction = randomly(params, 2)
    loss = loss_of(model, batch, model_state)

    def along(t):
        return loss(jax.tree.map(lambda p, d: p + t * d, params, direction))

    h = 1e-6
    measured = (along(h) - along(-h)) / (2 * h)
    grads = jax.jit(jax.grad(loss))(params)
    expected = sum(
        jnp.vdot(g, d) for g, d in zip(jax.tree.leaves(grads), jax.tree.leaves(direction))
    )
    np.testing.assert_allclose(measured, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in DEEP else []) for n in sorted(MODELS)],
)
def test_l2_is_in_the_loss_and_in_the_gradient(name, x64):
    plain, decayed = make(name, dtype="float64"), make(name, l2=0.7, dtype="float64")
    batch = batch_of(name)
    params, model_state = start(name, "float64")
    params = randomly(params, 5)
    square = sum(jnp.sum(p**2) for p in jax.tree.leaves(params))
    (with_l2, decayed_grads), (without, grads) = (
        jax.jit(jax.value_and_grad(loss_of(m, batch, model_state)))(params)
        for m in (decayed, plain)
    )
    np.testing.assert_allclose(with_l2 - without, 0.35 * square, rtol=1e-12)
    for decayed_grad, grad, p in zip(*map(jax.tree.leaves, (decayed_grads, grads, params))):
        np.testing.assert_allclose(decayed_grad - grad, 0.7 * p, rtol=1e-9, atol=1e-12)


@every_model
def test_a_negative_l2_is_refused(name):
    with pytest.raises(ValueError, match="l2 = -1"):
        make(name, l2=-1)


@every_model
def test_the_objective_is_the_mean_over_the_samples(name, x64):
    model, batch = make(name, dtype="float64"), batch_of(name)
    params, model_state = start(name, "float64")
    params = randomly(params, 6)
    loss = jax.jit(lambda batch: model.objective(params, model_state, batch)[0])
    singles = [loss({k: v[i : i + 1] for k, v in batch.items()}) for i in range(SAMPLES)]
    np.testing.assert_allclose(loss(batch), np.mean(singles), rtol=1e-12)


@pytest.mark.parametrize("name", sorted(set(CASES) - {"linear_regression"}))
def test_accuracy_counts_the_right_answers(name, x64):
    model, batch = make(name, dtype="float64"), batch_of(name)
    params, model_state = start(name, "float64")
    params = randomly(params, SEEDS.get(name, 8))
    outputs = np.asarray(answer(model, params, model_state, batch)[0])
    answers = outputs.argmax(-1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).astype(int)
    assert len(set(answers.flat)) > 1, "the draw should give several answers"
    truth = answers.copy()
    truth[:2] = (truth[:2] + 1) % 2
    _, metrics = answer(model, params, model_state, {**batch, "y": jnp.asarray(truth)})
    assert float(metrics["accuracy"]) == pytest.approx(1 - 2 / SAMPLES)


@linear_ones
@pytest.mark.parametrize("size", [1e-6, 1e-1, 3.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gradient_difference_in_float32_is_that_of_float64(name, size, seed, x64):
    model, batch = make(name, l2=0.2, dtype="float64"), batch_of(name, seed=seed)
    start, model_state = jax.jit(model.init)(jax.random.key(0), batch)
    anchor = randomly(start, seed + 10)
    offset = jax.tree.map(lambda p: p.astype(jnp.float32), randomly(start, seed + 20, size))
    wide = jax.tree.map(lambda p: p.astype(jnp.float64), offset)
    gradient = jax.grad(loss_of(model, batch, model_state))
    exact = jax.tree.map(
        lambda a, b: a - b, gradient(jax.tree.map(jnp.add, anchor, wide)), gradient(anchor)
    )
    found = model.gradient_difference(anchor, offset, model_state, batch)
    for f, e in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        assert f.dtype == jnp.float32
        error = np.linalg.norm(np.asarray(f, np.float64) - e)
        assert error <= 3e-6 * np.linalg.norm(e)


@linear_ones
def test_gradient_difference_of_no_offset_is_zero(name):
    model, batch = make(name), batch_of(name, "float32")
    anchor, model_state = jax.jit(model.init)(jax.random.key(0), batch)
    zero = jax.tree.map(jnp.zeros_like, anchor)
    found = model.gradient_difference(randomly(anchor, 1), zero, model_state, batch)
    for leaf in jax.tree.leaves(found):
        np.testing.assert_array_equal(leaf, 0)


@pytest.mark.parametrize("name", sorted(set(CASES) - set(LINEAR)))
def test_gradient_difference_of_a_curved_model_is_refused(name, x64):
    model, batch = make(name, dtype="float64"), batch_of(name)
    params, model_state = start(name, "float64")
    with pytest.raises(ValueError, match="linear"):
        model.gradient_difference(params, params, model_state, batch)


EVERYWHERE = dict(weights="vsq8v16m8", activations="uvsq8v16m8t", gradients="vsq8v16m8")
takes_formats = pytest.mark.parametrize(
    "name",
    [
        "mlp",
        pytest.param("lenet5", marks=pytest.mark.slow),
        pytest.param("character_transformer", marks=pytest.mark.slow),
    ],
)


@takes_formats
def test_formats_change_the_numbers_and_not_the_parameters(name):
    plain, batch = make(name), batch_of(name, "float32")
    assert make(name, quant=dict.fromkeys(EVERYWHERE)) == plain
    rounded = make(name, quant=EVERYWHERE | dict(gradient_rounding="stochastic"))
    # post-training quantisation: the parameters of one model in the other
    params, _ = jax.jit(plain.init)(jax.random.key(0), batch)
    again, _ = jax.jit(rounded.init)(jax.random.key(0), batch)
    jax.tree.map(np.testing.assert_array_equal, params, again)

    @functools.partial(jax.jit, static_argnums=0)
    def run(model, key):
        slope = jax.value_and_grad(lambda p: model.objective(p, {}, batch, key)[0])
        value, grads = slope(params)
        return value, jnp.concatenate([jnp.ravel(g) for g in jax.tree.leaves(grads)])

    value, grads = run(plain, jax.random.key(1))
    keys = [jax.random.key(k) for k in (1, 2, 1)]
    values, draws = zip(*(run(rounded, key) for key in keys))
    assert len(set(map(float, values))) == 1, "only gradients are rounded stochastically"
    assert 1e-6 < abs(values[0] - value) < 0.02
    assert all(1e-4 < np.linalg.norm(d - grads) / np.linalg.norm(grads) < 0.1 for d in draws)
    np.testing.assert_array_equal(draws[0], draws[2])
    assert not np.array_equal(draws[0], draws[1])


def test_unsigned_formats_follow_the_activation_of_the_model():
    def unsigned(name, **changes):
        roles = make(name, quant=EVERYWHERE, **changes).module.roles
        return [not layer.activations.element.signed for layer in roles]

    assert unsigned("mlp", activation="tanh") == [False, False, False]
    assert unsigned("mlp", activation="relu") == [False, True, True]
    assert unsigned("mlp", activation=dict(bits=2)) == [False, True, True]
    assert unsigned("lenet5") == [False, True, True, True, True]
    assert unsigned("resnet20") == [False] + 7 * [True]
    assert unsigned("resnet50") == [False] + 5 * [True]
    assert unsigned("vgg11") == [False] + 8 * [True]


@pytest.mark.parametrize("name", sorted(set(CASES) - {*LINEAR, "character_lstm"}))
def test_a_layer_that_the_model_does_not_have_is_refused(name):
    with pytest.raises(ValueError, match=r"quant.layers.Dense_7 does not exist.*the model has"):
        make(name, quant=dict(layers={"Dense_7": dict(weights="vsq4")}))


def test_binary_logistic_regression_refuses_other_class_counts():
    with pytest.raises(ValueError, match="multinomial_regression"):
        models.logistic_regression(classes=3)


def test_an_unknown_activation_is_refused_with_the_list():
    with pytest.raises(ValueError, match="tanh, relu"):
        models.mlp(classes=2, activation="sigmoidal")


@every_model
def test_the_table_names_the_layers(name):
    batch = batch_of(name, "float32")
    table = make(name).table(batch)
    assert "Total Parameters" in table
    assert "\x1b" not in table
