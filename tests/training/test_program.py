"""The compiled functions of a run: compiled once, donated, exact over ragged batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml.training import program as programs
from lpml.training import pure
from lpml.training.assemble import assemble
from lpml.training.program import Batches

SAMPLES = 24


def config(*, data="synthetic_regression", model="linear_regression", optim=None, **training):
    source = dict(name=data, samples=SAMPLES, features=6, seed=1)
    if data == "synthetic_classification":
        source |= dict(informative=4)
    if data == "digits":
        source = dict(name=data, train_samples=1700)
    return dict(
        seed=3,
        precision="float32",
        data=source,
        model=dict(name=model, l2=0.1),
        optim=optim or dict(name="svrg", learning_rate=0.01, inner_steps=8),
        train=dict(steps=64, batch_size=4, log_every=8, checkpoint_every=64) | training,
    )


def built(**settings):
    return assemble(config(**settings))[0]


def trained(program, steps=5):
    carry = program.init(3)
    if program.refresh_every:
        carry = program.refresh(carry)
    return program.run(carry, 0, steps)


def flat(carry):
    leaves = jax.tree.leaves(carry.state.params)
    return np.concatenate([np.ravel(leaf) for leaf in leaves])


def test_one_compilation_serves_all_chunk_lengths_epochs_and_refreshes(monkeypatch):
    traces = []
    make_step = pure.make_step

    def counting(model, **options):
        step = make_step(model, **options)

        def traced(state, batch):
            traces.append(1)
            return step(state, batch)

        return traced

    monkeypatch.setattr(pure, "make_step", counting)
    jax.clear_caches()  # of all programs of this process: a full one forgets new ones
    program = built()
    carry = trained(program, 1)
    seen, at = len(traces), 1
    assert seen >= 1
    for count in (7, 1, 3, 4, 8):
        if at % 8 == 0:
            carry = program.refresh(carry)
        carry = program.run(carry, at, count)
        carry, _ = program.measure(carry)
        at += count
    assert len(traces) == seen
    assert program._run._cache_size() == 1
    assert program._refresh._cache_size() == 1
    assert int(carry.state.step) == at


def test_a_chunk_is_its_steps_one_by_one():
    program = built(optim=dict(name="sgd", learning_rate=0.01))
    at_once = program.run(program.init(3), 0, 6)
    singly = program.init(3)
    for step in range(6):
        singly = program.run(singly, step, 1)
    np.testing.assert_array_equal(flat(at_once), flat(singly))
    assert int(singly.count) == int(at_once.count) == 6


def test_buffers_are_donated():
    program = built()
    carry = program.init(3)
    refreshed = program.refresh(carry)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(carry.state.params))
    program.run(refreshed, 0, 2)
    for leaf in jax.tree.leaves((refreshed.state.params, refreshed.state.opt_state)):
        assert leaf.is_deleted()


def test_measuring_resets_the_sums_and_leaves_the_state():
    program = built(objective="batch", optim=dict(name="sgd", learning_rate=0.01))
    carry = trained(program)
    before = flat(carry)
    carry, numbers = program.measure(carry)
    assert set(numbers) == {"loss", "grad_norm"}
    assert int(carry.count) == 0
    assert all(float(leaf) == 0 for leaf in jax.tree.leaves(carry.sums))
    np.testing.assert_array_equal(flat(carry), before)


@pytest.mark.parametrize("size", [1, 7, 23, 24, 1000])
def test_evaluation_in_ragged_batches_is_that_of_all_samples_at_once(size):
    program = built(full_batch_size=size)
    carry = trained(program)
    x, y = (np.asarray(program.train[k], np.float64) for k in ("x", "y"))
    w = flat(carry).astype(np.float64)
    errors = x @ w - y
    _, numbers = program.measure(carry)
    loss = np.mean(errors**2) + 0.05 * w @ w
    grad = 2 * x.T @ errors / SAMPLES + 0.1 * w
    assert numbers["loss"] == pytest.approx(loss, rel=1e-5)
    assert numbers["grad_norm"] == pytest.approx(np.linalg.norm(grad), rel=1e-5)


@pytest.mark.parametrize("size", [5, 24])
def test_a_refresh_in_ragged_batches_is_the_full_gradient(size):
    program = built(full_batch_size=size)
    carry = program.refresh(program.init(3))
    x, y = (np.asarray(program.train[k], np.float64) for k in ("x", "y"))
    (found,) = jax.tree.leaves(carry.state.opt_state.full_grad)
    np.testing.assert_allclose(found[:, 0], -2 * x.T @ y / SAMPLES, rtol=1e-4, atol=1e-4)


def test_a_test_set_is_measured_and_accuracy_is_the_share_of_right_answers():
    program = built(
        data="digits", model="multinomial_regression", optim=dict(name="sgd", learning_rate=0.5)
    )
    carry = trained(program, 40)
    outputs = program.test["x"].reshape(97, -1) @ jax.tree.leaves(carry.state.params)[0]
    right = float(jnp.mean(jnp.argmax(outputs, 1) == program.test["y"]))
    _, numbers = program.measure(carry)
    assert numbers.keys() >= {"loss", "accuracy", "grad_norm", "test_loss", "test_accuracy"}
    assert "test_grad_norm" not in numbers
    assert numbers["test_accuracy"] == pytest.approx(right)
    assert right > 0.3


def test_steps_end_at_the_first_bad_loss():
    program = built(optim=dict(name="sgd", learning_rate=1e18))
    carry = program.run(program.init(3), 0, 16)
    bad = int(carry.bad_step)
    assert 0 < bad < 8
    # the step of the bad loss is the last one taken
    assert int(carry.state.step) == bad + 1
    again = program.run(carry, bad + 1, 4)
    assert int(again.bad_step) == bad
    assert int(again.state.step) == bad + 1


@pytest.mark.parametrize("seed", [0, 5])
def test_starts_are_functions_of_the_seed(seed):
    program = built(data="synthetic_classification", model="mlp")
    one, two = program.init(seed), program.init(seed)
    np.testing.assert_array_equal(flat(one), flat(two))
    assert not np.array_equal(flat(one), flat(program.init(seed + 1)))


def test_indices_are_those_of_their_steps_padded_to_one_shape():
    batches = Batches(seed=1, size=SAMPLES, batch_size=4, sampling="shuffle")
    whole = batches.indices(0, 12)
    for start, count in ((0, 5), (5, 7), (11, 1)):
        part = batches.indices(start, count)
        assert part.shape == whole.shape == (batches.rows, 4)
        assert part.dtype == np.int32
        np.testing.assert_array_equal(part[:count], whole[start : start + count])


@pytest.mark.parametrize("batch_size", [1, 64, 2**16, 2**22])
def test_the_index_buffer_stays_small(batch_size):
    rows = Batches(seed=0, size=2**23, batch_size=batch_size, sampling="shuffle").rows
    assert 16 <= rows <= programs.MAX_STEPS_PER_CALL
    assert rows * batch_size <= max(programs.MAX_INDICES_PER_CALL, 16 * batch_size)


def test_only_periodic_transformations_are_refreshed():
    assert built().refresh_every == 8
    assert built(optim=dict(name="sgd", learning_rate=0.1)).refresh_every is None
    rounded = dict(name="lp_svrg", learning_rate=0.1, inner_steps=6)
    assert built(optim=rounded).refresh_every == 6
