"""Students and teachers for the tests, as arrays of many."""

import jax
import jax.numpy as jnp
import numpy as np

from lpml.theory import TwoLayer


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def pairs(count, hidden, inputs, *, seed=0, lengths=(0.5, 3.0)):
    """(students, teachers): normal v and v*, ||w*|| = 1, ||w|| uniform within `lengths`."""
    random = np.random.default_rng(seed)
    v, other = random.normal(size=(2, count, hidden))
    w, filters = (unit(each) for each in random.normal(size=(2, count, inputs)))
    w = w * random.uniform(*lengths, size=(count, 1))
    students = TwoLayer(jnp.asarray(v), jnp.asarray(w))
    return students, TwoLayer(jnp.asarray(other), jnp.asarray(filters))


def pick(many, index):
    return jax.tree.map(lambda x: x[index], many)


def over_many(function):
    """`function(student, teacher)` for all of them, compiled."""
    return jax.jit(jax.vmap(function))
