"""What every optimizer that a config can name promises; they come from the export list."""

import functools
import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lpml import optim
from lpml.build import choices
from lpml.optim import PeriodicTransformation
from lpml.training.checkpoint import Checkpoints

OPTIMIZERS = choices(optim, optax.GradientTransformation)
EPOCH = 8

# Arguments for the least-squares problem of this file.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "adagrad": dict(learning_rate=1.0),
    "adam": dict(learning_rate=0.1),
    # a scale for every weight, so that any weight is on its grid
    "loss_aware": dict(learning_rate=0.1, bits=2, group=1, clip=4.0),
    "momentum": dict(learning_rate=0.1, milestones=(600,)),
    # its steps have one length, whatever the gradient: only a rate of 0 ends them
    # steps of one length: what is left at the end is the swing of the momentum, so little of it
    "muon": dict(learning_rate=0.1, beta=0.5, decay="linear", decay_steps=400),
    "sgd": dict(learning_rate=0.1),
    # vectors: the only matrix of this problem is one column, which would be left to grafting
    "shampoo": dict(learning_rate=0.1, vectors=True, refresh_every=EPOCH, grafting="sgd"),
    # one gradient leaves all but one eigenvector to rounding: so not from the first step on
    "soap": dict(
        learning_rate=0.1,
        vectors=True,
        refresh_every=EPOCH,
        start_at=EPOCH,
        b1=0.9,
        b2=0.99,
        decay="linear",
        decay_steps=400,
    ),
    "svrg": dict(learning_rate=0.1, inner_steps=EPOCH),
    "lp_sgd": dict(learning_rate=0.1, bits=16, radius=4.0),
    "lp_svrg": dict(learning_rate=0.1, inner_steps=EPOCH, bits=16, radius=4.0),
    "halp": dict(learning_rate=0.1, inner_steps=EPOCH, bits=8, mu=0.5),
    "lm_halp": dict(
        learning_rate=0.1, inner_steps=EPOCH, bits=8, mu=0.5, samples=16, input_scale=0.25
    ),
}
# The same optimizers with other formats: what is changed of those arguments.
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "lp_sgd in e4m3fn": ("lp_sgd", dict(bits=None, radius=None, format="e4m3fn")),
    "lp_svrg in nvfp4": ("lp_svrg", dict(bits=None, radius=None, format="nvfp4")),
    "halp in posit8": ("halp", dict(format="posit8")),
    "halp in e4m3fn": ("halp", dict(format="e4m3fn")),
    "adam in posit16": ("adam", dict(state_format="bfloat16", master_format="posit16")),
    "adam in nvfp4": ("adam", dict(state_format="vsq8", master_format="nvfp4")),
    # with momentum, masters of 8 bits go on moving about the optimum by a spacing
    "momentum in float16": (
        "momentum",
        dict(state_format="mxfp8e4m3", master_format="float16"),
    ),
    "shampoo in int8": ("shampoo", dict(statistics_format="int8", roots_format="int8")),
}
# Changes of those for Rosenbrock's valley, whose curvature goes to 1000.
ROSENBROCK: dict[str, dict[str, Any]] = {
    "adagrad": dict(learning_rate=0.5),
    "adam": {},
    "loss_aware": {},
    "momentum": {},
    "muon": dict(decay="none", decay_steps=None),  # Adam, of numbers without axes
    "sgd": {},
    "shampoo": {},
    "soap": dict(decay="none", decay_steps=None),
    "svrg": {},
    "lp_sgd": dict(bits=20),
    "lp_svrg": dict(bits=20),
    "halp": dict(bits=16, mu=0.02),
}
LINEAR_ONLY = {"lm_halp": "takes linear models only: its step needs inputs and outputs"}
# Integer words and blocks have sizes known to the compiler, a momentum may have one form or the
# other, and optax compares factors of schedules.
HOST = {"first_delay", "timeout", "max_failures"}
STATIC = {
    "lm_halp": {"bits", "input_bits", "l2"},
    "muon": {"nesterov", "iterations"},
    "momentum": {"factor", "warmup_rate"},
    "loss_aware": {"factor", "iterations", "weighted"},
    "soap": {"block_size", "max_dim", "merge", "carried", "start_at"},
    "shampoo": {"block_size", "max_dim", "merge", "averaged", "nesterov"} | HOST,
}
SCHEDULE = {"warmup_steps", "decay_steps"}
KEEPS_OUT_NAN = {"loss_aware": "leaves out such a step and counts it"}
NO_ACCUMULATION = dict.fromkeys(
    ("svrg", "lp_svrg", "halp", "lm_halp"),
    "compares the mean gradient of many batches with grad_fn of the last one",
)

every_optimizer = pytest.mark.parametrize("name", sorted(OPTIMIZERS))
every_case = pytest.mark.parametrize("name", [*sorted(OPTIMIZERS), *FORMATS])


def all_but(exceptions):
    """Every optimizer; those with a stated reason are expected to fail."""
    return pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - set(exceptions)))


class Problem(NamedTuple):
    """objective(params, batch), data and the start."""

    objective: Any
    data: dict[str, jax.Array]
    start: Any


def mean_square(params, batch):
    return jnp.mean(((batch["x"] @ params["w"])[:, 0] - batch["y"]) ** 2)


def least_squares(dtype="float32", *, solved=False):
    """16 samples of 4 inputs on a grid of 1/4, without noise; the optimum is SOLUTION."""
    x = np.random.default_rng(0).integers(-4, 5, (16, 4)) / 4
    w = np.zeros((4, 1)) if solved else SOLUTION
    data = {"x": jnp.asarray(x, dtype), "y": jnp.asarray((x @ w)[:, 0], dtype)}
    return Problem(mean_square, data, {"w": jnp.zeros((4, 1), dtype)})


SOLUTION = np.array([[1.0], [-2.0], [0.5], [3.0]])


def valley(params, batch):
    del batch
    return (1 - params["a"]) ** 2 + 100 * (params["b"] - params["a"] ** 2) ** 2


def rosenbrock():
    zero = jnp.zeros(())
    return Problem(valley, {"x": jnp.zeros((16, 1))}, {"a": zero, "b": zero})


def take_step(tx, problem, params, state, step):
    """One step as the loop takes it, with refreshes where they are due."""
    key = jax.random.fold_in(jax.random.key(5), step)
    index = jax.random.randint(key, (4,), 0, 16)
    batch = {"index": index, **{k: v[index] for k, v in problem.data.items()}}
    over_all = {
        "full_grad_fn": jax.grad(lambda at: problem.objective(at, problem.data)),
        "outputs_fn": lambda at: problem.data["x"] @ at["w"],
    }
    extra = {}
    if isinstance(tx, PeriodicTransformation):
        params, state = jax.lax.cond(
            step % tx.every == 0,
            lambda: tuple(tx.refresh(state, params, key=key, **over_all)),
            lambda: (params, state),
        )
    else:
        extra = over_all
    value, grads = jax.value_and_grad(problem.objective)(params, batch)
    updates, state = optax.with_extra_args_support(tx).update(
        grads,
        state,
        params,
        value=value,
        value_fn=lambda at: problem.objective(at, batch),
        grad_fn=lambda at: jax.grad(problem.objective)(at, batch),
        batch=batch,
        key=key,
        output_difference_fn=lambda _phi, change, _batch: 2 * change,
        nobody_reads_this=None,
        **extra,
    )
    return optax.apply_updates(params, updates), state


@functools.cache
def trainer(tx, objective):
    """One program for any data and number of steps: most of the time is for compiling."""

    @jax.jit
    def run(start, data, steps):
        def body(step, carry):
            return take_step(tx, Problem(objective, data, start), *carry, step)

        return jax.lax.fori_loop(0, steps, body, (start, tx.init(start)))

    return run


def train(tx, problem, steps):
    return trainer(tx, problem.objective)(problem.start, problem.data, np.int32(steps))


@functools.cache
def make(name, **changes):
    if name in FORMATS:
        name, in_format = FORMATS[name]
        changes = in_format | changes
    return OPTIMIZERS[name](**ARGUMENTS[name] | changes)


def same(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_every_optimizer_has_arguments_in_this_file():
    missing = sorted(set(OPTIMIZERS) - set(ARGUMENTS))
    assert not missing, f"add arguments of {', '.join(missing)} to ARGUMENTS of {__file__}"
    for table in (ARGUMENTS, ROSENBROCK, LINEAR_ONLY, STATIC, NO_ACCUMULATION):
        assert set(table) <= set(OPTIMIZERS)
    assert set(ROSENBROCK) | set(LINEAR_ONLY) == set(OPTIMIZERS)


@every_case
def test_reaches_the_optimum_of_a_quadratic(name):
    params, _ = train(make(name), least_squares(), 800)
    np.testing.assert_allclose(params["w"], SOLUTION, atol=2e-3)


@all_but(LINEAR_ONLY)
def test_walks_down_the_valley_of_rosenbrock(name):
    tx = make(name, **dict(learning_rate=1e-3) | ROSENBROCK[name])
    params, _ = train(tx, rosenbrock(), 20_000)
    assert abs(params["a"] - 1) < 0.03
    assert abs(params["b"] - 1) < 0.06


@every_case
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_keeps_shapes_and_dtypes_of_parameters_and_state(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        problem, tx = least_squares(dtype), make(name)
        state = tx.init(problem.start)
        # fori_loop inside refuses a carry whose dtypes change
        params, new_state = train(tx, problem, 3)
        assert params["w"].dtype == jnp.dtype(dtype)
        assert params["w"].shape == (4, 1)
        shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
        assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), new_state)
        assert not np.array_equal(params["w"], problem.start["w"])


@every_optimizer
def test_compiles_once_for_many_steps(name):
    traces = []
    problem, tx = least_squares(), make(name)

    def step(params, state, number):
        traces.append(number)
        return take_step(tx, problem, params, state, number)

    step = jax.jit(step)
    params, state = problem.start, jax.jit(tx.init)(problem.start)
    for number in range(2 * EPOCH + 2):
        params, state = step(params, state, np.int32(number))
    assert len(traces) == 1


@every_case
def test_a_saved_state_continues_bit_for_bit(name, tmp_path):
    problem, tx = least_squares(), make(name)
    step = jax.jit(lambda carry, number: take_step(tx, problem, *carry, number))
    carry = fresh = (problem.start, tx.init(problem.start))
    for number in range(EPOCH + 3):
        carry = step(carry, np.int32(number))
    store = Checkpoints(tmp_path / "checkpoints")
    store.save(EPOCH + 3, carry)
    at, restored = store.restore(fresh)
    assert at == EPOCH + 3
    same(restored, carry)
    for number in range(at, 2 * EPOCH + 2):
        carry, restored = step(carry, np.int32(number)), step(restored, np.int32(number))
    same(restored, carry)


@every_case
def test_a_gradient_of_zero_moves_nothing_and_makes_no_nan(name):
    problem = least_squares(solved=True)
    params, state = train(make(name), problem, EPOCH + 2)
    np.testing.assert_array_equal(params["w"], np.zeros((4, 1)))
    for leaf in jax.tree.leaves(state):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("name", [*sorted(set(OPTIMIZERS) - set(KEEPS_OUT_NAN)), *FORMATS])
def test_a_nan_in_the_data_reaches_the_parameters(name):
    problem = least_squares()
    bad = {**problem.data, "y": problem.data["y"].at[:].set(jnp.nan)}
    params, _ = train(make(name), problem._replace(data=bad), 2)
    assert np.isnan(params["w"]).all()


@pytest.mark.parametrize("name", [*sorted(set(OPTIMIZERS) - set(LINEAR_ONLY)), *FORMATS])
def test_several_leaves_move(name):
    params, _ = train(make(name, learning_rate=1e-3), rosenbrock(), 100)
    assert params["a"] > 0
    assert params["b"] != 0


@every_optimizer
def test_works_in_a_chain_and_refreshes_by_itself_there(name):
    problem, tx = least_squares(), make(name)
    alone, _ = train(tx, problem, 3 * EPOCH)
    chained, _ = train(optax.chain(optax.identity(), tx), problem, 3 * EPOCH)
    np.testing.assert_allclose(chained["w"], alone["w"], atol=1e-6)


@every_optimizer
def test_the_learning_rate_can_be_injected(name):
    fixed = set(ARGUMENTS[name]) - {"learning_rate"} | STATIC.get(name, set())
    fixed |= SCHEDULE & set(inspect.signature(OPTIMIZERS[name]).parameters)
    tx = optax.inject_hyperparams(OPTIMIZERS[name], static_args=fixed)(**ARGUMENTS[name])
    problem = least_squares()
    params, state = train(tx, problem, 3 * EPOCH)
    alone, _ = train(make(name), problem, 3 * EPOCH)
    np.testing.assert_allclose(params["w"], alone["w"], atol=1e-3)
    assert float(state.hyperparams["learning_rate"]) == pytest.approx(
        ARGUMENTS[name]["learning_rate"]
    )


@all_but(NO_ACCUMULATION)
def test_works_under_accumulation_of_gradients(name):
    problem = least_squares()
    steps = optax.MultiSteps(make(name), 2)
    # gradient_transformation() of optax would drop the extra arguments
    tx = optax.GradientTransformationExtraArgs(steps.init, steps.update)
    one, _ = train(tx, problem, 1)
    np.testing.assert_array_equal(one["w"], problem.start["w"])
    params, _ = train(tx, problem, 800)
    np.testing.assert_allclose(params["w"], SOLUTION, atol=2e-3)


@every_optimizer
def test_the_state_has_no_python_numbers_in_it(name):
    state = make(name).init(least_squares().start)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
