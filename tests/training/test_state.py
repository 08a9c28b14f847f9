"""The train state: what it hands to a transformation, and how it travels."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lpml.training.state import TrainState


def spy(seen):
    """SGD with rate 1 that notes what update was given."""

    def update(grads, state, params=None, **extra):
        seen.append((params, extra))
        return jax.tree.map(jnp.negative, grads), state + 1

    return optax.GradientTransformationExtraArgs(lambda _: jnp.zeros((), int), update)


def create(tx, **more):
    return TrainState.create(params={"w": jnp.ones(3)}, tx=tx, key=jax.random.key(0), **more)


GRADS = {"w": jnp.array([1.0, 2.0, 3.0])}


def test_starts_at_step_zero_with_the_optimizers_own_state():
    state = create(optax.adam(0.1))
    assert state.step.dtype == jnp.int32
    assert int(state.step) == 0
    assert state.model_state == {}
    fresh = optax.adam(0.1).init(state.params)
    assert jax.tree.structure(state.opt_state) == jax.tree.structure(fresh)


def test_all_extras_and_the_parameters_reach_the_transformation():
    seen = []
    state = create(spy(seen))
    state.apply_gradients(grads=GRADS, value=1.5, key="a key", grad_fn=abs, anything=None)
    ((params, extra),) = seen
    assert params is state.params
    assert extra == dict(value=1.5, key="a key", grad_fn=abs, anything=None)


@pytest.mark.parametrize("tx", [optax.sgd(1.0), optax.chain(optax.identity(), optax.sgd(1.0))])
def test_transformations_that_take_no_extras_get_none(tx):
    state = create(tx).apply_gradients(grads=GRADS, value=1.5, nobody_reads_this=2)
    np.testing.assert_array_equal(state.params["w"], [0.0, -1.0, -2.0])


def test_an_update_counts_and_leaves_key_and_model_state():
    before = create(spy([]), model_state={"mean": jnp.ones(2)})
    after = before.apply_gradients(grads=GRADS)
    assert (int(after.step), int(after.opt_state)) == (1, 1)
    assert int(before.step) == 0
    np.testing.assert_array_equal(after.params["w"], [0.0, -1.0, -2.0])
    assert after.key is before.key
    assert after.model_state is before.model_state


def test_travels_through_jit_with_its_transformation_static():
    state = create(optax.sgd(1.0))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    step = jax.jit(lambda state: state.apply_gradients(grads=GRADS))
    again = step(step(state))
    assert int(again.step) == 2
    assert again.tx is state.tx
