"""What Shampoo's roots cost a step: in the program, by the host, and by the host beside it."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lpml import data as sources
from lpml import models, optim
from lpml.measurements.measurement import Lines, Measurement
from lpml.optim.clock import Clock
from lpml.optim.refresher import HostRefreshedTransformation, RootRefresher

MODES = ("frozen", "program", "inline", "asynchronous", "adam", "muon")
COMPARED = MODES[1:]
# Of one period, in seconds after the step whose statistics are taken
EVENTS = ("solving", "solved", "swapping", "swapped")
METRICS = (
    *(f"ratio_{mode}" for mode in COMPARED),
    *(f"{end}_{mode}" for end in ("low", "high") for mode in COMPARED),
    *(f"seconds_{mode}" for mode in MODES),
    *("hidden", "waited", "seconds_solve"),
    *(f"at_{event}" for event in EVENTS),
)
RATE = 3e-3


class Problem(NamedTuple):
    """A network and its samples on the device."""

    model: models.Supervised
    samples: dict[str, jax.Array]
    batch_size: int


class State(NamedTuple):
    """What a step moves."""

    step: jax.Array
    params: Any
    opt_state: Any


def refresh_overhead(
    *,
    layers: int = 1,
    width: int = 128,
    context: int = 32,
    batch_size: int = 32,
    block_size: int = 128,
    refresh_every: int = 20,
    refreshes: int = 10,
    rounds: int = 5,
    host_workers: int | None = 1,
) -> Measurement:
    """Seconds of a step by who renews the roots, in segments that take turns in one run.

    The modes are `frozen` (the first roots for ever), `program` (renewed within the step that
    is due), `inline` (by the host, which the next step waits for), `asynchronous` (by the host
    while steps go on; roots are used N = `refresh_every` steps later), `adam` and `muon`.
    frozen, inline and asynchronous run the very same program. A round is a segment of each;
    what else the machine does moves neighbours alike, so only their ratios mean much. Segments
    begin and end half-way between two refreshes, so that all their work is within; what is
    still under way at the end is waited for.

    A line is a round: `ratio_MODE` is the median over the rounds so far of seconds over
    frozen's in the same round, `low_` and `high_` their quartiles, `seconds_MODE` the median
    for a step. `hidden` is the share of what inline costs above frozen that asynchronous does
    not, `waited` the share of time that it waited for roots. `seconds_solve` is of one refresh
    alone; `at_*` is when, in seconds after the snapshot, the host begins to solve and has
    solved, and the roots are put into the state, in a period while steps go on.

    Args:
      layers, width: of a character Transformer.
      context: T, characters a sample.
      batch_size: samples a step.
      block_size: of Shampoo.
      refresh_every: N, steps between two refreshes, >= 2.
      refreshes: a segment's, >= 1; below 10 the ends count for much.
      rounds: lines, >= 1.
      host_workers: threads that solve; None is half of the cores.

    Raises:
      ValueError: a number out of its range.
    """
    for name, value, least in (
        ("refresh_every", refresh_every, 2),
        ("refreshes", refreshes, 1),
        ("rounds", rounds, 1),
    ):
        if value < least:
            raise ValueError(f"{name} = {value} must be at least {least}")
    txs = _transformations(block_size, refresh_every, host_workers)
    shape = (layers, width, context, batch_size)

    def lines(seed: int) -> Lines:
        problem = made(*shape, seed)
        first = problem.model.init(jax.random.key(seed), problem.samples)[0]
        runner = Runner(problem)
        racers = {mode: Racer(tx, first, runner, mode != "frozen") for mode, tx in txs.items()}
        try:
            for racer in racers.values():  # compiles everything, to the middle of a period
                racer.go(refresh_every + refresh_every // 2)
            tx = txs["asynchronous"]
            assert isinstance(tx, HostRefreshedTransformation)
            alone = _seconds_of_a_solve(tx, racers["frozen"].state.opt_state)
            events = _period(tx, racers["frozen"].state, runner, refresh_every)
            racers["asynchronous"].waited()  # from now on
            seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
            waited: list[float] = []
            steps = refresh_every * refreshes
            for number in range(rounds):
                for mode in MODES if number % 2 else MODES[::-1]:
                    seconds[mode].append(racers[mode].go(steps) / steps)
                waited.append(racers["asynchronous"].waited() / steps)
                yield _line(seconds, waited, alone, events)
        finally:
            for racer in racers.values():
                racer.close()

    return Measurement(lines, rounds, METRICS)


def _transformations(block_size, refresh_every, host_workers):
    settings = dict(block_size=block_size, refresh_every=refresh_every, start_at=1)
    host = dict(**settings, refresh="host", host_workers=host_workers)
    return {
        "frozen": optim.shampoo(RATE, **host, delay=0),
        "program": optim.shampoo(RATE, **settings),
        "inline": optim.shampoo(RATE, **host, delay=0),
        "asynchronous": optim.shampoo(RATE, **host, delay=refresh_every),
        "adam": optim.adam(RATE),
        "muon": optim.muon(RATE),
    }


def made(layers: int, width: int, context: int, batch_size: int, seed: int) -> Problem:
    """A Transformer for a text of 64 characters, and 32 batches of it."""
    text = sources.markov_text(
        samples=32 * batch_size, test_samples=0, context=context, classes=64, seed=seed
    )
    assert text.classes is not None
    model = models.character_transformer(classes=text.classes, layers=layers, width=width)
    return Problem(model, jax.tree.map(jnp.asarray, text.train), batch_size)


class Runner:
    """Compiles steps: one program for a transformation's `update` and any number of them."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self._programs: dict[Any, Callable[[State, int], State]] = {}

    def of(self, tx: optax.GradientTransformation, key: Any) -> Callable[[State, int], State]:
        """`run(state, steps)`, which overwrites the state; shared by those of equal `key`."""
        if key not in self._programs:
            self._programs[key] = jax.jit(self._steps(tx), donate_argnums=0)
        return self._programs[key]

    def _steps(self, tx):
        model, samples, size = self.problem
        batches = len(samples["x"]) // size

        def loss(params, batch):
            return model.objective(params, {}, batch)[0]

        def step(_, state):
            start = (state.step % batches) * size
            batch = jax.tree.map(
                lambda x: jax.lax.dynamic_slice_in_dim(x, start, size), samples
            )
            grads = jax.grad(loss)(state.params, batch)
            updates, opt_state = tx.update(grads, state.opt_state, state.params)
            return State(state.step + 1, optax.apply_updates(state.params, updates), opt_state)

        return lambda state, steps: jax.lax.fori_loop(0, steps, step, state)


class Racer:
    """One mode with a state of its own."""

    def __init__(
        self, tx: optax.GradientTransformation, params: Any, runner: Runner, renews: bool
    ):
        hosted = isinstance(tx, HostRefreshedTransformation)
        # when roots come from the host the program does not know who brings them, and when
        self._run = runner.of(tx, "host" if hosted else tx)
        self._refresher = RootRefresher(tx) if hosted else None
        self._renews = renews
        params = jax.tree.map(jnp.copy, params)
        self.state = State(jnp.zeros((), jnp.int32), params, tx.init(params))
        self._step = 0

    def go(self, steps: int) -> float:
        """Seconds of so many steps, with all the work of the host that belongs to them."""
        jax.block_until_ready(self.state)
        started = time.perf_counter()
        end = self._step + steps
        while self._step < end:
            to = min(self._next(), end)
            # waited for, lest the steps' own time count as waiting for roots
            self.state = jax.block_until_ready(self._run(self.state, to - self._step))
            self._step = to
            self._after()
        if self._refresher and self._renews:
            self._refresher.in_flight(self.state.opt_state)
        jax.block_until_ready(self.state)
        return time.perf_counter() - started

    def _next(self):
        renewing = self._refresher and (self._renews or self._step == 0)
        return self._refresher.next_step(self._step) if renewing else 2**31 - 1

    def _after(self):
        if self._refresher and (self._renews or self._step == 1):
            opt_state = self._refresher.after_step(self._step, self.state.opt_state)
            self.state = self.state._replace(opt_state=opt_state)

    def waited(self) -> float:
        """Seconds that the loop waited for roots since it was last asked."""
        return self._refresher.report()["roots_wait_seconds"] if self._refresher else 0.0

    def close(self) -> None:
        """Ends the host's workers."""
        if self._refresher:
            self._refresher.close()


def _seconds_of_a_solve(tx: HostRefreshedTransformation, opt_state: optax.OptState) -> float:
    stacks = jax.device_get(tx.host.take(opt_state).stacks)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        for name, stack in stacks.items():
            tx.host.solve(name, stack)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def _period(
    tx: HostRefreshedTransformation, state: State, runner: Runner, every: int
) -> dict[str, float]:
    """When what happens in the second of two periods, whose steps are waited for."""
    solves: list[tuple[float, float]] = []
    solve = tx.host.solve

    def timed(name, stack):
        started = time.perf_counter()
        found = solve(name, stack)
        solves.append((started, time.perf_counter()))
        return found

    # a refresh begins by the clock of the state, which goes on from where it is
    first = int(state.step) + 1
    work = dataclasses.replace(tx.host.work, delay=every, first_delay=every)
    host = dataclasses.replace(tx.host, solve=timed, work=work, clock=Clock(every, first))
    observed = HostRefreshedTransformation(tx.init, tx.update, host=host)
    run = runner.of(tx, "host")
    state = jax.tree.map(jnp.copy, state)
    before: list[float] = []
    after: list[float] = []
    with RootRefresher(observed) as refresher:
        for step in range(first, first + 2 * every + 1):
            state = jax.block_until_ready(run(state, 1))
            before.append(time.perf_counter())
            opt_state = jax.block_until_ready(refresher.after_step(step, state.opt_state))
            after.append(time.perf_counter())
            state = state._replace(opt_state=opt_state)
        refresher.in_flight(state.opt_state)
    # three refreshes of as many calls each; the first compiles the swap, the last is not used
    calls = len(solves) // 3
    own = sorted(solves)[calls : 2 * calls]
    instants = (own[0][0], max(end for _, end in own), before[-1], after[-1])
    return {f"at_{n}": t - before[every] for n, t in zip(EVENTS, instants, strict=True)}


def _line(
    seconds: Mapping[str, Sequence[float]],
    waited: Sequence[float],
    alone: float,
    events: Mapping[str, float],
) -> dict[str, float]:
    line: dict[str, float] = {}
    by_mode = {mode: np.array(values) for mode, values in seconds.items()}
    ratios = {mode: by_mode[mode] / by_mode["frozen"] for mode in COMPARED}
    for name, share in (("low", 0.25), ("ratio", 0.5), ("high", 0.75)):
        line |= {f"{name}_{mode}": float(np.quantile(r, share)) for mode, r in ratios.items()}
    medians = {mode: float(np.median(values)) for mode, values in by_mode.items()}
    line |= {f"seconds_{mode}": value for mode, value in medians.items()}
    # differences within a round, as what else the machine does is the same there
    extra = {m: by_mode[m] - by_mode["frozen"] for m in ("inline", "asynchronous")}
    inline, beside = (float(np.median(values)) for values in extra.values())
    line["hidden"] = 1 - beside / inline if inline > 0 else 0.0
    line["waited"] = float(np.median(waited)) / medians["asynchronous"]
    return {**line, "seconds_solve": alone, **events}
