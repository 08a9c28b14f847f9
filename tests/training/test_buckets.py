"""Steps of the length of their batch: the same gradients, one program, fewer places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml import data
from lpml.build import ConfigError
from lpml.training.assemble import assemble
from lpml.training.buckets import buckets_of
from lpml.training.step import whole_batch

LENGTH, SAMPLES, BATCH = 8, 40, 4


@pytest.fixture(scope="module")
def pairs():
    return data.synthetic_translation(samples=SAMPLES, test_samples=0, length=LENGTH, classes=6)


def config(**training):
    return {
        "seed": 3,
        "precision": "float32",
        "data": dict(
            name="synthetic_translation",
            samples=SAMPLES,
            test_samples=0,
            length=LENGTH,
            classes=6,
        ),
        "model": dict(name="translation_transformer", layers=1, width=8, heads=2, hidden=8),
        "optim": dict(name="sgd", learning_rate=0.1),
        "train": dict(steps=9, batch_size=BATCH, log_every=9, checkpoint_every=9) | training,
    }


def test_lengths_are_those_of_the_longer_side(pairs):
    """Against counting: a sentence of n words has n + 1 places on either side."""
    words = (pairs.train["x"][:, 0] >= 4).sum(1)
    np.testing.assert_array_equal(data.lengths(pairs.train), words + 1)
    short = data.pieces([[4]], [[4, 5, 4]], length=LENGTH)
    assert data.lengths(short).tolist() == [4]


def test_every_sample_is_in_the_shortest_bucket_that_holds_it(pairs):
    made = buckets_of(pairs, (3, 5, 20))
    assert made.lengths == (3, 5, LENGTH)
    for length, bucket in zip(data.lengths(pairs.train), made.of):
        assert bucket == (0 if length <= 3 else 1 if length <= 5 else 2)


def test_gradients_do_not_see_what_is_cut_and_steps_have_their_batch_s_length(pairs):
    """Any batch, also a mixed one, has the gradient that it has at full length."""
    program, _ = assemble(config(buckets=(5,)))
    seen = []

    def spied(objective, params, model_state, batch, key):
        place = batch["y"].shape[1]
        jax.debug.callback(lambda: seen.append(place))
        return whole_batch(objective, params, model_state, batch, key)

    def gradient(of):
        return jax.jit(
            lambda params, batch: of(program.model.objective, params, {}, batch, None)[1]
        )

    traces = []

    def counted(*arguments):
        traces.append(1)
        return program.batches.buckets.gradient(spied)(*arguments)

    cut, whole = gradient(counted), gradient(whole_batch)
    params = program.init(3).state.params
    need = data.lengths(pairs.train)
    for chosen in (np.flatnonzero(need <= 5), np.flatnonzero(need > 5), np.arange(SAMPLES)):
        index = chosen[:BATCH]
        batch = {key: jnp.asarray(value[index]) for key, value in pairs.train.items()}
        for found, wanted in zip(*(jax.tree.leaves(f(params, batch)) for f in (cut, whole))):
            np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)
        jax.effects_barrier()
        assert seen[-1] == (5 if need[index].max() <= 5 else LENGTH)
    assert set(seen) == {5, LENGTH}
    assert traces == [1]


def test_a_run_draws_by_buckets_and_one_without_them_as_ever():
    drawn = assemble(config(buckets=(3, 5)))[0].batches
    of = drawn.buckets.of[drawn.indices(0, 10)[:10]]
    assert (of == of[:, :1]).all(1).sum() >= 7
    plain = assemble(config())[0].batches
    wanted = data.batch_indices(3, 0, 9, size=SAMPLES, batch_size=BATCH, sampling="shuffle")
    np.testing.assert_array_equal(plain.indices(0, 9)[:9], wanted)


def test_buckets_that_cannot_be_are_refused(pairs):
    for wrong in ((5, 3), (3, 3), (1, 4)):
        with pytest.raises(ValueError, match="must grow and be at least 2"):
            buckets_of(pairs, wrong)
    with pytest.raises(ValueError, match="of which this data set has none"):
        buckets_of(data.digits(train_samples=64), (3,))
    with pytest.raises(ConfigError, match="buckets need sampling 'shuffle'"):
        assemble(config(buckets=(3,), sampling="replacement"))
