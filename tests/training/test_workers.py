"""Workers that exchange gradients: what they compute, send and refuse."""

import jax
import numpy as np
import pytest

from lpml.build import ConfigError
from lpml.config import OPTIONAL
from lpml.parallel import Exchange, wire_report
from lpml.training import workers as section
from lpml.training.assemble import assemble
from lpml.training.workers import Workers

SAMPLES, FEATURES = 64, 6


def config(workers=None, *, optim=None, batch_size=16, **training):
    made = dict(
        seed=3,
        precision="float32",
        data=dict(name="uniform_regression", samples=SAMPLES, features=FEATURES, seed=1),
        model=dict(name="linear_regression"),
        optim=optim or dict(name="sgd", learning_rate=0.5),
        train=dict(steps=24, batch_size=batch_size, log_every=8, checkpoint_every=64)
        | training,
    )
    return made if workers is None else made | dict(workers=workers)


def trained(settings, steps=24):
    program, _ = assemble(settings)
    carry, lines = program.init(3), []
    for start in range(0, steps, 8):
        carry = program.run(carry, start, 8)
        carry, line = program.measure(carry)
        lines.append(line)
    return np.ravel(carry.state.params["Dense_0"]["kernel"]), lines


def test_without_an_exchange_the_mean_is_that_of_the_whole_batch():
    alone, _ = trained(config())
    many, lines = trained(config(dict(count=4)))
    np.testing.assert_allclose(many, alone, rtol=1e-5)
    # a ring's all-reduce: 2 (N - 1) / N float32 of every weight
    assert lines[-1]["wire_bytes"] == pytest.approx(4 * FEATURES * 2 * 3 / 4)


def test_one_worker_without_an_exchange_is_no_section_at_all():
    assert section.workers(count=1) is None
    np.testing.assert_array_equal(trained(config(dict(count=1)))[0], trained(config())[0])


def test_each_worker_rounds_by_itself_and_more_bits_are_nearer():
    exact, _ = trained(config(dict(count=4)), steps=8)

    def distance(bits):
        settings = dict(count=4, bits=bits, exempt_below=0)
        return np.linalg.norm(trained(config(settings), steps=8)[0] - exact)

    # the step of SQ_m's grid is 1, 1/7 and 1/127 of the largest entry
    assert 0 < distance(8) < 0.1 * distance(4)
    assert distance(4) < distance(2)


def test_a_small_tensor_is_sent_as_it_is():
    np.testing.assert_array_equal(
        trained(config(dict(count=4, bits=2)))[0], trained(config(dict(count=4)))[0]
    )


def test_the_log_has_the_bytes_of_the_formula_and_the_norms():
    settings = dict(count=2, bits=3, clip=2.0, exempt_below=0, norms=True)
    _, lines = trained(config(settings, objective="batch"))
    params = {"kernel": jax.ShapeDtypeStruct((FEATURES, 1), "float32")}
    exchange = Exchange(bits=3, clip=2.0, exempt_below=0)
    assert lines[-1]["wire_bytes"] == wire_report(params, 2, exchange).received
    ratio = lines[-1]["norm_ratio/Dense_0/kernel"]
    # ||Q(g)||^2 is 1 + variance; SQ3 of 6 entries adds at most Delta (1 + sqrt 6) / 2
    assert 0.8 < ratio < 1 + (1 + np.sqrt(6)) / 6


def test_settings_are_those_of_every_config():
    fields = set(section.workers.__kwdefaults__) | {"count"}
    assert fields == set(OPTIONAL["workers"])


@pytest.mark.parametrize(
    ("settings", "more", "sentence"),
    [
        (dict(count=0), {}, "count = 0 must be at least 1"),
        (dict(count=3), {}, "batch_size = 16 does not split evenly over config.workers.count"),
        (dict(count=2, clip=3.0), {}, "clip acts on gradients"),
        (dict(count=2, scheme="two_shot"), {}, "scheme acts on gradients"),
        (dict(count=2, bits=4, exempt_below=-1), {}, "must not be negative"),
        (dict(count=2, bits=1), {}, "bits"),
        (dict(count=2, bits=9), {}, "bits"),
        (dict(count=2, bits=4, scheme="ring"), {}, "one_shot"),
        (dict(count=2, bits=4, clip=-1.0), {}, "clip"),
        (dict(count=2, format="nonsense"), {}, "nonsense"),
        (dict(count=2, format="e4m3fn", norms=True), {}, "norms are those of SQ_m"),
        (dict(number=2), {}, "config.workers.number"),
        (
            dict(count=2, bits=4),
            dict(optim=dict(name="svrg", learning_rate=0.1, inner_steps=8)),
            "svrg passes over the whole data",
        ),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(settings, more, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        assemble(config(settings, **more))
    assert "\n" not in str(caught.value)


def test_workers_compile_once():
    program, _ = assemble(config(dict(count=2, bits=4, exempt_below=0)))
    carry = program.run(program.init(3), 0, 3)
    compiled = program._run._cache_size()
    carry = program.run(carry, 3, 5)
    assert program._run._cache_size() == compiled <= 1
    assert isinstance(program.workers, Workers)
