"""Trainings of `time_to_accuracy.py`, whose every part is timed."""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np

from lpml import optim
from lpml.optim import LinearProblem
from lpml.training.program import Batches, Program

PATIENCE = 15  # epochs without a smaller norm


class Clock:
    """Seconds since it was made: (of the processor, by the wall's clock)."""

    def __init__(self):
        self.begun = self.now()

    def now(self):
        """Both clocks."""
        return time.process_time(), time.perf_counter()

    def __call__(self):
        """Seconds by both."""
        return tuple(b - a for a, b in zip(self.begun, self.now()))


class Run:
    """One training of an optimizer of lpml, compiled; its state can be handed on."""

    def __init__(self, problem, name, *, epoch, **settings):
        self.settings = dict(settings, epoch=epoch)
        self.smoothness = problem.smoothness
        model, size = problem.model, problem.dataset.size
        known = LinearProblem(size, model.loss.name, problem.l2, 1, problem.dataset.input_scale)
        self.steps = int(epoch * size)
        tx = getattr(optim, name)(inner_steps=self.steps, problem=known, **settings)
        self.program = Program(
            model,
            tx,
            problem.dataset,
            batches=Batches(seed=0, size=size, batch_size=1, sampling="replacement"),
            objective="full",
            full_batch_size=1000,
        )
        self.fresh(0)
        self.epoch(0)  # compiles
        self.fresh(0)
        self.spent, self.epochs = np.zeros(2), 0

    def fresh(self, seed, before=None):
        """Starts again, at 0 or where another run is."""
        batches = dataclasses.replace(self.program.batches, seed=seed)
        self.program.batches = batches
        carry = self.program.init(seed)
        if before is not None:
            old, own = before.carry.state, carry.state.opt_state
            params = jax.tree.map(jnp.array, old.params)
            anchor, mu = jax.tree.map(jnp.array, (old.params, old.opt_state.mu))
            own = own._replace(anchor=anchor, mu=mu)
            carry = carry.replace(state=carry.state.replace(params=params, opt_state=own))
        self.carry = carry

    def epoch(self, number):
        """One pass and its steps; the norm of the gradient where it started."""
        clock = Clock()
        self.carry = self.program.refresh(self.carry)
        gradient = jax.tree.leaves(self.carry.state.opt_state.full_grad)[0]
        norm = float(np.linalg.norm(np.asarray(gradient)))
        passed, done = clock()[0], 0
        while done < self.steps:
            count = min(self.program.rows, self.steps - done)
            self.carry = self.program.run(self.carry, number * self.steps + done, count)
            done += count
        self.carry.bad_step.block_until_ready()
        if number:
            self.spent += (passed, clock()[0] - passed)
            self.epochs += 1
        return norm

    def note(self):
        """The settings, and what an epoch took of the processor."""
        share = self.settings["learning_rate"] * self.smoothness
        mu = self.settings.get("mu", "")
        mu = mu and f", mu {mu}" if isinstance(mu, str) else f", mu {mu:.2g}"
        gradient, steps = self.spent / max(self.epochs, 1) * 1e3
        epoch = self.settings["epoch"]
        return f"{share:.2g}/L, T = {epoch}N{mu}; {gradient:.2g} + {steps:.2g} ms"


def reached(phases, seed, targets, limit):
    """(cpu, wall) seconds to each target, and the last weights (K d,).

    Phases are (run, norm at which it hands on). The time to a norm ends before the pass that
    tells the norm, which is the first part of the next epoch.
    """
    times, number, phases, first = {}, 0, list(phases), None
    least, idle = np.inf, 0
    run, until = phases.pop(0)
    clock = Clock()
    run.fresh(seed)
    while len(times) < len(targets) and idle < PATIENCE:
        at = clock()
        norm = run.epoch(number)
        number += 1
        first = norm if first is None else first
        if not np.isfinite(norm) or norm > 1e4 * first or at[1] > limit:
            break
        for target, value in targets.items():
            if norm <= value:
                times.setdefault(target, at)
        idle = 0 if norm < least else idle + 1
        least = min(norm, least)
        if until is not None and norm <= until and phases:
            before = run
            run, until = phases.pop(0)
            run.fresh(seed, before)
            number = 0
    return times, np.ravel(np.asarray(jax.tree.leaves(run.carry.state.params)[0]).T)
