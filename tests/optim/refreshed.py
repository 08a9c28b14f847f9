"""A small training by Shampoo, with roots from the host: what tests of the refresher share."""

import dataclasses
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lpml.optim import RootRefresher, shampoo
from lpml.optim.shampoo import find_state

SHAPES = {"w": (6, 4), "k": (3, 5), "v": (3,)}


def make(every=4, **settings):
    """Shampoo on 6 x 4 and 3 x 5 matrices in blocks of 4 and a vector, rooted by the host."""
    usual = {"refresh": "host", "refresh_every": every, "host_workers": 2, "block_size": 4}
    return shampoo(0.02, **{**usual, **settings})


def start():
    """Parameters and optimizer state before the first step; bound to no device."""
    keys = jax.random.split(jax.random.key(3), len(SHAPES))
    params = {
        name: jax.random.normal(key, shape)
        for key, (name, shape) in zip(keys, SHAPES.items(), strict=True)
    }
    return params, make().init(params)


def loss(params, number):
    """Another quadratic at every step."""
    draw = functools.partial(jax.random.normal, jax.random.fold_in(jax.random.key(5), number))
    rows = draw((8, 4))
    w = params["w"] @ rows.T
    return jnp.mean(w**2) + jnp.sum((params["k"] - 1) ** 4) + jnp.sum(params["v"] ** 2)


@functools.cache
def step():
    """The compiled step, the same for every interval and delay: these are the host's."""
    tx = make()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def one(params, opt_state, number):
        grads = jax.grad(loss)(params, number)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    return one


def train(tx, steps, *, first=1, at=None, refresher=None):
    """(params, opt_state) after `steps` steps with a refresher, from the start or from `at`."""
    params, opt_state = at or start()
    with refresher or RootRefresher(tx) as refresher:
        for number in range(first, steps + 1):
            params, opt_state = step()(params, opt_state, number)
            opt_state = refresher.after_step(number, opt_state)
    return params, opt_state


def inline(tx, steps):
    """The same by hand: solved at once, put in at the step that is due."""
    params, opt_state = start()
    due = {}
    for number in range(1, steps + 1):
        params, opt_state = step()(params, opt_state, number)
        if number in due:
            opt_state = tx.host.put(opt_state, *due.pop(number))
        if not tx.host.clock.due(number):
            continue
        stats = find_state(opt_state).stats
        solved = {name: tx.host.solve(name, np.asarray(stack)) for name, stack in stats.items()}
        back = (
            {name: jnp.asarray(each.matrix) for name, each in solved.items()},
            {name: jnp.asarray(each.ok) for name, each in solved.items()},
            {name: jnp.zeros(each.ok.shape, bool) for name, each in solved.items()},
            np.int32(number),
        )
        if tx.host.delay(number):
            due[number + tx.host.delay(number)] = back
        else:
            opt_state = tx.host.put(opt_state, *back)
    return params, opt_state


def with_solver(tx, solve):
    """The transformation with another solver on the host."""
    tx.host = dataclasses.replace(tx.host, solve=functools.partial(solve, tx.host.solve))
    return tx


def dawdling(solve, name, stack):
    """A solver that takes up to 30 ms longer, as chance has it."""
    time.sleep(np.random.default_rng().uniform(0, 0.03))
    return solve(name, stack)


def assert_same_bits(one, two):
    """Every leaf of both trees has the same bits."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
