"""The overhead of refreshes: what is raced, what a line says. No second is asserted."""

import jax
import numpy as np
import pytest

from lpml import optim
from lpml.measurements import refresh_overhead
from lpml.measurements.refresh_overhead import (
    COMPARED,
    METRICS,
    MODES,
    Racer,
    Runner,
    _line,
    made,
)
from lpml.optim.shampoo import find_state

EVERY = 3


@pytest.fixture(scope="module")
def race():
    """Frozen, inline and asynchronous after 1.5 and then 3 periods more."""
    problem = made(1, 4, 3, 2, 0)
    runner = Runner(problem)
    first = problem.model.init(jax.random.key(0), problem.samples)[0]

    def shampoo(delay):
        return optim.shampoo(
            1e-2, refresh="host", delay=delay, refresh_every=EVERY, start_at=1, block_size=4
        )

    delays = {"frozen": 0, "inline": 0, "asynchronous": EVERY}
    racers = {m: Racer(shampoo(d), first, runner, m != "frozen") for m, d in delays.items()}
    seconds = {m: [racer.go(EVERY + 1), racer.go(3 * EVERY)] for m, racer in racers.items()}
    yield racers, seconds, runner
    for racer in racers.values():
        racer.close()


def test_all_take_as_many_steps_with_roots_of_the_age_that_is_said(race):
    racers, seconds, _ = race
    states = {mode: find_state(racer.state.opt_state) for mode, racer in racers.items()}
    # 13 steps, snapshots after 1, 4, 7, 10, 13: the last is swapped in at once, or not yet
    assert {m: int(s.step) for m, s in states.items()} == dict.fromkeys(racers, 13)
    assert {m: int(s.roots_from) for m, s in states.items()} == {
        "frozen": 1,
        "inline": 13,
        "asynchronous": 10,
    }
    assert all(value > 0 for values in seconds.values() for value in values)


def test_roots_from_the_host_are_one_program(race):
    _, _, runner = race
    (program,) = runner._programs.values()
    assert program._cache_size() == 1


def test_a_line_has_medians_and_quartiles_of_ratios_within_rounds():
    frozen = np.array([1.0, 2.0, 4.0])
    of_mode = dict(zip(MODES, (1.0, 1.1, 1.5, 1.1, 0.5, 0.7), strict=True))
    seconds = {mode: list(factor * frozen) for mode, factor in of_mode.items()}
    seconds["adam"] = [0.2, 1.0, 4.0]
    line = _line(seconds, [0.0, 0.0, 0.22], 0.3, {"at_solved": 0.1})
    assert line["ratio_inline"] == line["low_inline"] == pytest.approx(1.5)
    assert [line[f"{q}_adam"] for q in ("low", "ratio", "high")] == pytest.approx(
        [0.35, 0.5, 0.75]
    )
    assert line["seconds_frozen"] == 2.0
    assert line["hidden"] == pytest.approx(1 - 0.1 / 0.5)
    assert line["waited"] == 0.0
    assert (line["seconds_solve"], line["at_solved"]) == (0.3, 0.1)


def test_where_waiting_costs_nothing_nothing_is_hidden():
    seconds = {mode: [1.0] for mode in MODES}
    assert _line(seconds, [0.0], 0.0, {})["hidden"] == 0.0


@pytest.mark.slow
def test_the_whole_measurement_at_a_tiny_size():
    tiny = dict(width=4, context=3, batch_size=2, block_size=4, refresh_every=2, refreshes=1)
    first, last = refresh_overhead(rounds=2, **tiny).lines(1)
    assert first.keys() == last.keys() == {*METRICS}
    assert all(np.isfinite(list(last.values())))
    for mode in COMPARED:
        assert 0 < last[f"low_{mode}"] <= last[f"ratio_{mode}"] <= last[f"high_{mode}"]
    assert 0 < last["at_solving"] < last["at_solved"] < last["at_swapped"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(refresh_every=1), "refresh_every = 1 must be at least 2"),
        (dict(refreshes=0), "refreshes = 0 must be at least 1"),
        (dict(rounds=0), "rounds = 0 must be at least 1"),
        (dict(block_size=0), "block_size = 0"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        refresh_overhead(**settings)
