"""Roots from the host: the steps at which they act, what resumes, and everything that fails."""

import functools
import logging
import os
import pathlib
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from refreshed import (
    assert_same_bits,
    dawdling,
    inline,
    make,
    start,
    step,
    train,
    with_solver,
)

from lpml.optim import RootRefresher, RootsFailed, shampoo
from lpml.optim.shampoo import find_state, scale_by_shampoo

STEPS = 21
QUIET = logging.CRITICAL + 1


@pytest.fixture(autouse=True)
def _no_log(caplog):
    caplog.set_level(QUIET, "lpml")


@pytest.mark.parametrize(
    ("every", "delay"), [(4, 3), (4, 4), (4, None), (4, 0), (1, 1), (5, 1)]
)
def test_slow_and_uneven_workers_change_no_bit(every, delay):
    tx = make(every, delay=delay)
    expected = inline(tx, STEPS)
    found = train(with_solver(tx, dawdling), STEPS)
    assert_same_bits(found, expected)
    start_at = tx.host.clock.first
    waiting = tx.host.delay(start_at + every)
    last = max(s for s in range(STEPS + 1) if tx.host.clock.due(s) and s + waiting <= STEPS)
    assert int(find_state(found[1]).roots_from) == last


def test_first_roots_come_at_once_unless_told_otherwise():
    for first_delay, expected in ((0, [4, 4, 4, 4, 8]), (2, [-1, -1, 4, 4, 8])):
        tx = make(4, first_delay=first_delay)
        params, opt_state = start()
        seen = {}
        with RootRefresher(tx) as refresher:
            for number in range(1, 13):
                params, opt_state = step()(params, opt_state, number)
                opt_state = refresher.after_step(number, opt_state)
                seen[number] = int(find_state(opt_state).roots_from)
        assert [seen[n] for n in (4, 5, 6, 11, 12)] == expected


def test_long_training_with_threads_is_the_same_bit_for_bit():
    tx = make(5, delay=4)
    assert_same_bits(train(with_solver(tx, dawdling), 101), inline(make(5, delay=4), 101))


@pytest.mark.parametrize("delay", [3, 4])
def test_resumes_at_every_offset_of_a_period(delay):
    tx = make(4, delay=delay)
    whole = train(tx, STEPS)
    for cut in range(8, 13):
        params, opt_state = start()
        first = RootRefresher(tx)
        for number in range(1, cut + 1):
            # a checkpoint of step n is written before what is due after step n is done
            opt_state = first.after_step(number - 1, opt_state)
            params, opt_state = step()(params, opt_state, number)
        saved = jax.device_get((params, opt_state, first.in_flight(opt_state)))
        expected = first.shapes(opt_state)
        assert jax.tree.map(jnp.shape, saved[2]) == jax.tree.map(lambda s: s.shape, expected)
        assert jax.tree.all(jax.tree.map(lambda a, s: a.dtype == s.dtype, saved[2], expected))
        first.close()
        second = RootRefresher(tx)
        params, opt_state = jax.tree.map(jnp.array, saved[:2])
        second.load(saved[2])
        opt_state = second.after_step(cut, opt_state)
        found = train(tx, STEPS, first=cut + 1, at=(params, opt_state), refresher=second)
        assert_same_bits(found, whole)


def test_swaps_keep_structure_types_and_the_compiled_step():
    compiled = step()
    train(make(), 5)
    programs = compiled._cache_size()
    before = jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), start()[1])
    _, opt_state = train(make(3), STEPS)
    assert compiled._cache_size() == programs == 1
    assert jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), opt_state) == before


def test_a_state_within_other_states():
    tx = scale_by_shampoo_from_host()
    chain = optax.chain(optax.clip_by_global_norm(1.0), tx, optax.scale(-0.1))
    params = {"w": jnp.ones((3, 3))}
    opt_state = chain.init(params)
    with RootRefresher(tx) as refresher:
        for number in range(1, 4):
            grads = {"w": jax.random.normal(jax.random.key(number), (3, 3))}
            _, opt_state = chain.update(grads, opt_state, params)
            opt_state = refresher.after_step(number, opt_state)
    assert int(find_state(opt_state).roots_from) == 2


def scale_by_shampoo_from_host():
    return shampoo(1.0, refresh="host", refresh_every=2, delay=0, block_size=4)


def fails(solve, name, stack):
    raise OSError("the disk of the solver is full")


def leaves(solve, name, stack):
    raise SystemExit("a solver must not end the training")


def nan(solve, name, stack):
    solved = solve(name, stack)
    return solved._replace(matrix=solved.matrix * np.nan)


def wrong_shape(solve, name, stack):
    solved = solve(name, stack)
    return solved._replace(matrix=solved.matrix[:, 1:])


@pytest.mark.parametrize("broken", [fails, leaves, nan, wrong_shape])
def test_failures_keep_the_old_roots_and_are_counted(broken):
    good = train(make(4, delay=2), 5)
    held = jax.device_get(find_state(good[1]))
    tx = with_solver(make(4, delay=2, on_failure="keep"), broken)
    refresher = RootRefresher(tx)
    params, opt_state = train(tx, 17, first=6, at=good, refresher=refresher)
    state = find_state(opt_state)
    assert_same_bits(state.roots, held.roots)
    assert int(state.roots_from) == int(held.roots_from) == 4
    # snapshots after 8 and 12 came back; that after 16 is due at 18
    for name, failed in state.refresh_failed.items():
        np.testing.assert_array_equal(failed, held.refresh_failed[name] + 2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((params, opt_state)))
    counted = refresher.report()["roots_jobs_failed"]
    assert (counted > 0) == (broken is not nan)


def refuses_some(solve, name, stack):
    solved = solve(name, stack)
    return solved._replace(ok=solved.ok & (name != "size4_p4"))


def test_after_too_many_failures_a_block_goes_back_to_grafting():
    tx = with_solver(make(1, delay=0, max_failures=3), refuses_some)
    _, opt_state = train(make(1, delay=0), 1)
    params = start()[0]
    counts = {}
    with RootRefresher(tx) as refresher:
        for number in range(2, 7):
            params, opt_state = step()(params, opt_state, number)
            opt_state = refresher.after_step(number, opt_state)
            counts[number] = jax.device_get(find_state(opt_state).refresh_ok)
    for number in (2, 3, 4):  # three failures in a row: the first root stays in use
        assert (counts[number]["size4_p4"] == 1).all()
    assert (counts[5]["size4_p4"] == 0).all()
    assert (counts[5]["size3_p4"] == 5).all()
    share = tx.report(opt_state)["roots_share"]
    assert 0 < share < 1
    with pytest.raises(RootsFailed, match="size4_p4 have no root at step 4, the last of 4"):
        train(with_solver(make(1, delay=0, on_failure="raise"), refuses_some), 9)


def test_streaks_of_failures_outlive_a_restart():
    tx = with_solver(make(1, delay=0, on_failure="raise"), refuses_some)
    params, opt_state = train(tx, 2)
    first = RootRefresher(tx)
    params, opt_state = step()(params, opt_state, 3)
    opt_state = first.after_step(3, opt_state)
    second = RootRefresher(tx)
    second.load(jax.device_get(first.in_flight(opt_state)))
    with pytest.raises(RootsFailed, match="the last of 4"):
        train(tx, 9, first=4, at=(params, opt_state), refresher=second)


def test_a_solver_that_hangs_is_left_behind():
    gate = threading.Event()

    def hangs_once(solve, name, stack):
        if not gate.is_set():
            gate.wait(20)
        return solve(name, stack)

    tx = with_solver(make(4, delay=1, first_delay=1, timeout=2.0), hangs_once)
    refresher = RootRefresher(tx)
    params, opt_state = start()
    with refresher:
        for number in range(1, 10):
            params, opt_state = step()(params, opt_state, number)
            opt_state = refresher.after_step(number, opt_state)
            if number == 5:
                assert int(find_state(opt_state).roots_from) == -1
                gate.set()
        report = refresher.report()
    assert int(find_state(opt_state).roots_from) == 8
    assert report["roots_jobs_failed"] == 1
    assert report["roots_workers_replaced"] == 1
    assert report["roots_late"] >= 1
    assert report["roots_wait_seconds"] >= 2.0


def test_late_roots_may_be_taken_later():
    gate = threading.Event()

    def waits(solve, name, stack):
        gate.wait(20)
        return solve(name, stack)

    tx = with_solver(make(2, delay=1, first_delay=1, late="skip"), waits)
    params, opt_state = start()
    with RootRefresher(tx) as refresher:
        for number in range(1, 8):
            params, opt_state = step()(params, opt_state, number)
            opt_state = refresher.after_step(number, opt_state)
        assert int(find_state(opt_state).roots_from) == -1
        gate.set()
        until = time.monotonic() + 20
        number = 8
        while int(find_state(opt_state).roots_from) < 0 and time.monotonic() < until:
            params, opt_state = step()(params, opt_state, number)
            opt_state = refresher.after_step(number, opt_state)
            number += 1
        assert refresher.report()["roots_late"] == 1
    assert int(find_state(opt_state).roots_from) == 2


def test_who_hangs_is_not_waited_for_and_still_counted():
    gate, calls = threading.Event(), []

    def hangs(solve, name, stack):
        calls.append(name)
        if len(calls) <= 1:
            gate.wait(20)
        return solve(name, stack)

    tx = with_solver(make(2, delay=1, first_delay=1, late="skip", timeout=0.3), hangs)
    params, opt_state = start()
    with RootRefresher(tx) as refresher:
        until = time.monotonic() + 20
        number = 1
        while int(find_state(opt_state).roots_from) < 0 and time.monotonic() < until:
            params, opt_state = step()(params, opt_state, number)
            opt_state = refresher.after_step(number, opt_state)
            number += 1
        report = refresher.report()
    gate.set()
    assert int(find_state(opt_state).roots_from) > 2
    assert report["roots_jobs_failed"] >= 1
    assert report["roots_workers_replaced"] >= 1


def test_any_patience_is_one():
    def slow(solve, name, stack):
        time.sleep(0.02)
        return solve(name, stack)

    for timeout in (1e10, float("inf")):
        tx = with_solver(make(4, delay=0, timeout=timeout), slow)
        _, opt_state = train(tx, 4)
        assert int(find_state(opt_state).roots_from) == 4


def test_nothing_to_solve_for_is_no_error():
    tx = shampoo(0.1, refresh="host", refresh_every=1, delay=0)
    params = {"v": jnp.ones(3), "s": jnp.ones(())}
    opt_state = tx.init(params)
    with RootRefresher(tx) as refresher:
        for number in (1, 2):
            updates, opt_state = tx.update(params, opt_state, params)
            opt_state = refresher.after_step(number, opt_state)
        flight = refresher.in_flight(opt_state)
    assert tx.report(opt_state) == {}
    assert flight.matrices == {}
    assert float(updates["s"]) < 0


def dies_once(folder, solve, name, stack):
    """Ends its process, the first time that anyone calls it."""
    try:
        pathlib.Path(folder, "died").touch(exist_ok=False)
    except FileExistsError:
        return solve(name, stack)
    os._exit(9)


def test_a_process_that_dies_is_replaced_and_its_work_done_again(tmp_path):
    tx = make(4, delay=2, executor="process", host_workers=1)
    expected = inline(tx, 11)
    tx = with_solver(tx, functools.partial(dies_once, str(tmp_path)))
    refresher = RootRefresher(tx)
    assert_same_bits(train(tx, 11, refresher=refresher), expected)
    assert refresher.report()["roots_workers_replaced"] == 1
    assert refresher.report()["roots_jobs_failed"] == 0


@pytest.mark.parametrize(
    "gradient",
    ["zero", "rank 1", "nan", "huge"],
)
def test_gradients_of_every_kind_leave_the_state_finite(gradient):
    shape = {"w": (6, 4), "k": (3, 5), "v": (3,)}
    made = {
        "zero": jnp.zeros,
        "rank 1": jnp.ones,
        "nan": lambda s: jnp.full(s, jnp.nan),
        "huge": lambda s: jnp.full(s, 1e18),
    }[gradient]
    grads = {name: made(s) for name, s in shape.items()}
    params, opt_state = start()
    tx = make(1, delay=0)
    update = jax.jit(tx.update)
    with RootRefresher(tx) as refresher:
        for number in range(1, 4):
            _, opt_state = update(grads, opt_state, params)
            opt_state = refresher.after_step(number, opt_state)
    state = find_state(opt_state)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((state.roots, state.stats)))
    refused = sum(int(n.sum()) for n in state.refresh_failed.values())
    assert refused == 0  # zeros ask for no root, NaN never enters
    assert (int(state.roots_from) == -1) == (gradient in ("zero", "nan"))


def test_who_else_renews_roots_is_found_out():
    tx = make(2, delay=0)
    params, opt_state = start()
    one, two = RootRefresher(tx), RootRefresher(tx)

    def both():
        state = params, opt_state
        for number in range(1, 9):
            state = step()(*state, number)
            state = state[0], two.after_step(number, one.after_step(number, state[1]))

    with one, two, pytest.raises(ValueError, match="a state takes one RootRefresher"):
        both()


def test_mistakes_of_the_caller():
    _, opt_state = train(make(), 3)
    refresher = RootRefresher(make(2, delay=0))
    with refresher, pytest.raises(ValueError, match=r"after_step\(4, \.\.\.\) .* of step 3"):
        refresher.after_step(4, opt_state)
    with pytest.raises(ValueError, match="closed"):
        refresher.after_step(4, opt_state)
    for renews in (shampoo(0.1), scale_by_shampoo(), optax.adam(0.1)):
        with pytest.raises(ValueError, match="leaves its roots to the host"):
            RootRefresher(renews)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(delay=-1), "delay = -1 must be an integer of at least 0"),
        (dict(delay=5), "delay = 5 must be 0 to refresh_every = 4"),
        (dict(first_delay=9), "first_delay = 9 must be 0 to refresh_every = 4"),
        (dict(delay=1.5), "delay = 1.5 must be an integer"),
        (dict(executor="fork"), "executor 'fork' does not exist; choose thread, process"),
        (dict(late="never"), "late 'never' does not exist"),
        (dict(on_failure="cry"), "on_failure 'cry' does not exist"),
        (dict(timeout=0), "timeout = 0 must be a positive"),
        (dict(max_failures=-1), "max_failures = -1"),
        (dict(root="qr"), "root 'qr' does not exist with refresh 'host'; choose eigh, svd"),
        (dict(host_workers=0), "host_workers = 0 must be an integer of at least 1"),
        (dict(first_delay=float("nan")), "first_delay = nan must be an integer"),
        (dict(block_size="8"), "block_size = '8' must be an integer"),
        (dict(refresh="program"), "host_workers is of refresh 'host': set that, or leave"),
        (dict(root="newton", damping="truncate"), "needs eigenvalues"),
    ],
)
def test_settings_out_of_range(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(4, **settings)
