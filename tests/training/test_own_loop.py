"""Transformations that take many steps in a call by themselves, of data they prepared."""

import dataclasses
import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from lpml import optim
from lpml.build import ConfigError
from lpml.parallel import Placement
from lpml.sweep.grouping import group_jobs
from lpml.sweep.jobs import Job
from lpml.sweep.metrics import names
from lpml.training.assemble import assemble, families
from lpml.training.loop import RunFailed, Stopped
from lpml.training.own_loop import check_own_loop
from lpml.training.run import train
from tests.launching import newest

SAMPLES, EVERY, WIDTH = 24, 8, 8
PREPARED: list[dict] = []


class ToyState(NamedTuple):
    step: jax.Array
    anchor: jax.Array  # (6, 1)
    full_grad: jax.Array  # (6, 1)


def prepare(train):
    """Rows with zeros up to WIDTH, and the targets as they came."""
    padded = np.zeros((len(train["x"]), WIDTH), train["x"].dtype)
    padded[:, : train["x"].shape[1]] = train["x"]
    PREPARED.append(train)
    return {"rows": padded, "y": train["y"]}


def forbidden(*_, **__):
    raise AssertionError("a transformation with its own loop is not asked for an update")


def taken(step, params, indices, count, move):
    """`count` moves of the one kernel there is, and the first step that gave no number."""
    leaves, tree = jax.tree.flatten(params)

    def body(loop):
        i, w, bad = loop
        w = move(w, indices[i], step + i)
        return i + 1, w, jnp.where((bad < 0) & ~jnp.isfinite(w).all(), step + i, bad)

    start = (jnp.zeros_like(count), leaves[0], jnp.full((), -1, jnp.int32))
    _, w, bad = jax.lax.while_loop(lambda loop: loop[0] < count, body, start)
    return jax.tree.unflatten(tree, [w]), bad


def toy_svrg(
    learning_rate: float, *, inner_steps: int, noise: float = 0.0
) -> optim.PeriodicTransformation:
    """SVRG for least squares by hand, with noise that steps draw."""

    def init(params):
        (w,) = jax.tree.leaves(params)
        return ToyState(jnp.zeros((), jnp.int32), jnp.copy(w), jnp.full_like(w, jnp.nan))

    def refresh(state, params, *, full_grad_fn, data, prepared, **_):
        (anchor,), (full,) = jax.tree.leaves(params), jax.tree.leaves(full_grad_fn(params))
        # the same from what was prepared, and from the data themselves
        own = 2 * prepared["rows"].T @ (data["x"] @ anchor - prepared["y"][:, None]) / SAMPLES
        state = state._replace(anchor=jnp.copy(anchor), full_grad=(full + own[:6]) / 2)
        return optim.Refreshed(params, state)

    def inner_loop(state, params, prepared, indices, count, *, key):
        def move(w, index, at):
            x = prepared["rows"][index][:, :6]
            difference = 2 * x.T @ (x @ (w - state.anchor)) / len(x)
            drawn = noise * jax.random.normal(jax.random.fold_in(key, at), w.shape, w.dtype)
            return w - learning_rate * (difference + state.full_grad + drawn)

        params, bad = taken(state.step, params, indices, count, move)
        return params, state._replace(step=state.step + count), bad

    return optim.PeriodicTransformation(
        *(init, forbidden),
        every=inner_steps,
        refresh=refresh,
        report=lambda state: {"anchor": jnp.linalg.norm(state.anchor)},
        prepare=prepare,
        inner_loop=inner_loop,
    )


def toy_sgd(learning_rate: float) -> optim.ReportingTransformation:
    """SGD for least squares by hand."""

    def inner_loop(step, params, prepared, indices, count, *, key):
        def move(w, index, at):
            x, y = prepared["rows"][index][:, :6], prepared["y"][index]
            return w - learning_rate * 2 * x.T @ (x @ w - y[:, None]) / len(x)

        params, bad = taken(step, params, indices, count, move)
        return params, step + count, bad

    return optim.ReportingTransformation(
        lambda params: jnp.zeros((), jnp.int32),
        forbidden,
        prepare=prepare,
        inner_loop=inner_loop,
    )


def preparing_svrg(learning_rate: float, *, inner_steps: int) -> optim.PeriodicTransformation:
    """SVRG that prepares data and looks at them in its refresh alone."""
    own = toy_svrg(learning_rate, inner_steps=inner_steps)
    plain = optim.svrg(learning_rate, inner_steps=inner_steps)

    def refresh(state, params, **extra):
        _, made = own.refresh(own.init(params), params, **extra)
        full = jax.tree.unflatten(jax.tree.structure(params), [made.full_grad])
        return plain.refresh(state, params, **{**extra, "full_grad_fn": lambda _: full})

    return optim.PeriodicTransformation(
        plain.init, plain.update, every=plain.every, refresh=refresh, prepare=prepare
    )


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    """Configs may name them."""
    PREPARED.clear()
    for toy in (toy_svrg, toy_sgd, preparing_svrg):
        monkeypatch.setitem(families()["optim"], toy.__name__, toy)


SVRG = dict(name="toy_svrg", learning_rate=0.02, inner_steps=EVERY, noise=0.5)
SGD = dict(name="toy_sgd", learning_rate=0.02)


def config(optim=None, precision="float32", **sections):
    made = dict(
        seed=3,
        precision=precision,
        data=dict(name="synthetic_regression", samples=SAMPLES, features=6, seed=1),
        model=dict(name="linear_regression"),
        optim=optim or SVRG,
        train=dict(steps=30, batch_size=2, log_every=6, checkpoint_every=10),
    )
    return {k: {**made.get(k, {}), **v} for k, v in sections.items()} | {
        k: v for k, v in made.items() if k not in sections
    }


def flat(carry):
    (kernel,) = jax.tree.leaves(carry.state.params)
    return np.asarray(kernel)


def lines(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "steps_per_second"} for row in rows]


@pytest.mark.parametrize(
    ("own", "ordinary"),
    [
        (SVRG | dict(noise=0.0), dict(name="svrg", learning_rate=0.02, inner_steps=EVERY)),
        (SGD, dict(name="sgd", learning_rate=0.02)),
        (
            dict(name="preparing_svrg", learning_rate=0.02, inner_steps=EVERY),
            dict(name="svrg", learning_rate=0.02, inner_steps=EVERY),
        ),
    ],
)
def test_it_ends_where_the_ordinary_loop_does(own, ordinary, tmp_path):
    for name, settings in (("own", own), ("ordinary", ordinary)):
        train(config(settings, precision="float64"), str(tmp_path / name))
    found, wanted = lines(tmp_path / "own"), lines(tmp_path / "ordinary")
    assert wanted[-1]["grad_norm"] < 0.5 * wanted[0]["grad_norm"]
    for row, like in zip(found, wanted, strict=True):
        for name in ("step", "loss", "grad_norm"):
            assert row[name] == pytest.approx(like[name], rel=1e-10), name
    # no losses of batches are computed, hence none are told
    assert ("batch_loss" in found[-1]) == (own["name"] == "preparing_svrg")
    assert len(PREPARED) == 1


def test_the_report_is_in_the_log_and_the_names_of_metrics_are_known(tmp_path):
    train(config(), str(tmp_path / "run"))
    last = lines(tmp_path / "run")[-1]
    assert last["anchor"] > 0
    assert set(names(config())) == (set(last) - {"step"}) | {"steps_per_second"}


def test_calls_of_any_length_give_the_same_bits_and_one_compilation():
    program, _ = assemble(config())
    ends = []
    for calls in ([8, 8, 8], [1, 7, 3, 5, 8], [2] * 12):
        carry, at = program.init(3), 0
        for count in calls:
            if at % EVERY == 0:
                carry = program.refresh(carry)
            carry = program.run(carry, at, count)
            at += count
        assert int(carry.state.step) == int(carry.count) == at
        ends.append(flat(carry))
    np.testing.assert_array_equal(ends[0], ends[1])
    np.testing.assert_array_equal(ends[0], ends[2])
    assert program._run._cache_size() == program._refresh._cache_size() == 1


def test_the_steps_draw_by_the_runs_own_key():
    program, _ = assemble(config())
    one, two = (program.run(program.refresh(program.init(seed)), 0, 4) for seed in (3, 4))
    assert not np.array_equal(flat(one), flat(two))


def test_buffers_are_donated():
    program, _ = assemble(config())
    refreshed = program.refresh(program.init(3))
    program.run(refreshed, 0, 2)
    for leaf in jax.tree.leaves((refreshed.state.params, refreshed.state.opt_state)):
        assert leaf.is_deleted()


@pytest.mark.parametrize("optimizer", [SVRG, SGD])
def test_stopped_anywhere_it_ends_the_same(optimizer, tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    train(config(optimizer), str(whole))
    monkeypatch.setattr("lpml.training.loop.SECONDS_PER_CALL", 0)  # calls of one step
    for cut in (5, 9, 12):
        folder, asked = tmp_path / str(cut), []

        def stop(asked=asked, cut=cut):
            asked.append(None)
            return len(asked) == cut

        with pytest.raises(Stopped):
            train(config(optimizer), str(folder), should_stop=stop)
        train(config(optimizer), str(folder))
        one, two = ocp.load(newest(folder)), ocp.load(newest(whole))
        assert set(one) == set(two)
        for name in one:
            np.testing.assert_array_equal(one[name], two[name], err_msg=name)
        assert lines(folder) == lines(whole)


def test_data_are_prepared_once_and_given_back_they_are_no_second_copy():
    program, _ = assemble(config())
    assert not PREPARED, "preparing may take long, so it waits until it is needed"
    for _ in range(2):
        program.run(program.refresh(program.init(3)), 0, 2)
    assert [train is program.dataset.train for train in PREPARED] == [True]
    assert program.prepared["y"] is program.train["y"]
    assert program.prepared["rows"].shape == (SAMPLES, WIDTH)
    assert set(program.train) == {"x", "y"}


def first_bad(rate):
    """The step at which a power iteration by hand leaves float32."""
    program, _ = assemble(config(SGD))
    x, y = (np.asarray(program.dataset.train[k], np.float64) for k in ("x", "y"))
    w, indices = np.zeros(6), program.batches.indices(0, 30)
    for step in range(30):
        rows = x[indices[step]]
        w = w - rate * 2 * rows.T @ (rows @ w - y[indices[step]]) / 2
        if np.abs(w).max() > np.finfo(np.float32).max:
            return step
    raise AssertionError("it converges")


def test_it_goes_no_further_than_a_bad_number(tmp_path):
    bad = first_bad(1e5)
    assert 3 < bad < 15
    bad_config = config(SGD | dict(learning_rate=1e5))
    program, _ = assemble(bad_config)
    carry = program.run(program.init(3), 0, 20)
    assert int(carry.bad_step) == bad
    kept = flat(carry)
    carry = program.run(carry, 20, 4)
    assert int(carry.bad_step) == bad
    assert int(carry.state.step) == 20
    np.testing.assert_array_equal(flat(carry), kept)
    with pytest.raises(RunFailed, match=f"loss is not finite at step {bad}"):
        train(config(SGD | dict(learning_rate=1e5), train=dict(log_every=30)), str(tmp_path))


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (dict(workers=dict(count=2)), "no workers exchange gradients"),
        (dict(train=dict(objective="batch")), "set config.train.objective = 'full'"),
        (
            dict(
                data=dict(name="digits", train_samples=40, features=None, samples=None, seed=0),
                model=dict(name="mlp", hidden=[4]),
            ),
            "config.model.name = 'mlp' is none",
        ),
    ],
)
def test_what_it_would_pass_over_is_refused(sections, words):
    settings = config(**sections)
    settings["data"] = {k: v for k, v in settings["data"].items() if v is not None}
    with pytest.raises(ConfigError) as refusal:
        assemble(settings)
    assert words in str(refusal.value)
    assert "config.optim (toy_svrg) takes its steps in a loop of its own" in str(refusal.value)
    assert "\n" not in str(refusal.value)


class TwoDevices(Placement):
    devices = 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(place=TwoDevices()), "on one device; config.mesh.data = 2 must be 1"),
        (dict(augment=lambda key, x: x), "config.model must not augment"),
    ],
)
def test_several_devices_and_augmentation_are_refused(change, words):
    program, _ = assemble(config())
    check_own_loop(config(), program)
    program.place = change.pop("place", program.place)
    program.model = dataclasses.replace(program.model, **change)
    with pytest.raises(ConfigError, match=words):
        check_own_loop(config(), program)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (SGD, "a loop of its own, which vmap cannot widen"),
        (
            dict(name="preparing_svrg", learning_rate=0.02, inner_steps=EVERY),
            "each prepares the data for itself",
        ),
    ],
)
def test_points_of_a_sweep_run_one_by_one(optimizer, words, tmp_path):
    jobs = [
        Job(str(seed), config(optimizer) | {"seed": seed}, str(tmp_path / str(seed)), ())
        for seed in (1, 2)
    ]
    (group,) = group_jobs(jobs)
    assert words in group.alone
    assert str(group).startswith("one by one: 1, 2 (")
