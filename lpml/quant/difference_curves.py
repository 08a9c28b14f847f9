"""f(a + d) - f(a) of curved functions of one number, accurate relative to d."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Point(NamedTuple):
    """Where a function is, in the dtype of offsets; arrays of one shape."""

    a: jax.Array  # its argument at the anchor
    d: jax.Array  # the argument's offset
    y: jax.Array  # its value at the anchor
    params: dict[str, Any]


Curve = Callable[[Point], jax.Array]


def _up_to_one(small: Curve, function: Callable[[jax.Array], jax.Array]) -> Curve:
    """`small` where |d| < 1; elsewhere its factors may overflow, and the difference does."""

    def curve(p):
        near = jnp.abs(p.d) < 1
        change = small(p._replace(d=jnp.where(near, p.d, 0)))
        return jnp.where(near, change, function(p.a + p.d) - p.y)

    return curve


def _sech(x):
    e = jnp.exp(-jnp.abs(x))
    return 2 * e / (1 + e * e)


def _tanh(p):
    return jnp.sinh(p.d) * _sech(p.a) * _sech(p.a + p.d)


def _logistic(p):
    return 0.5 * jnp.sinh(p.d / 2) * _sech(p.a / 2) * _sech((p.a + p.d) / 2)


def _over(d, x):
    """d / x, and 0 where nothing moves, whatever x is."""
    return jnp.where(d == 0, 0, d / jnp.where(d == 0, 1, x))


def _rsqrt(p):
    there = lax.rsqrt(p.a + p.d)
    product = p.y * there
    return jnp.where(p.d == 0, 0, -p.d * product * (product / (p.y + there)))


def _abs(p):
    same = jnp.where(p.a == 0, jnp.abs(p.d), jnp.sign(p.a) * p.d)
    return jnp.where(same < -p.y, jnp.abs(p.a + p.d) - p.y, same)


def _integer_pow(p):
    """d sum_k (a + d)^k a^(n - 1 - k); of a^-n, minus that over (a + d)^n a^n."""
    n, there = p.params["y"], p.a + p.d
    if n == 0:
        return jnp.zeros_like(p.d)
    total, power = jnp.ones_like(p.a), jnp.ones_like(p.a)
    for _ in range(abs(n) - 1):
        power = power * there
        total = total * p.a + power
    return p.d * total if n > 0 else -p.d * total * p.y / (power * there)


def power_change(p: Point) -> jax.Array:
    """a^e (exp(e log1p(d / a)) - 1), for a and a + d above 0; `params` has the `exponent`."""
    return p.y * jnp.expm1(p.params["exponent"] * jnp.log1p(_over(p.d, p.a)))


CURVES: dict[str, Curve] = {
    "exp": _up_to_one(lambda p: p.y * jnp.expm1(p.d), jnp.exp),
    "exp2": _up_to_one(lambda p: p.y * jnp.expm1(p.d * math.log(2)), jnp.exp2),
    "expm1": _up_to_one(lambda p: (p.y + 1) * jnp.expm1(p.d), jnp.expm1),
    "log": lambda p: jnp.log1p(_over(p.d, p.a)),
    "log1p": lambda p: jnp.log1p(_over(p.d, 1 + p.a)),
    "tanh": _up_to_one(_tanh, jnp.tanh),
    "logistic": _up_to_one(_logistic, jax.nn.sigmoid),
    "sin": lambda p: 2 * jnp.cos(p.a + p.d / 2) * jnp.sin(p.d / 2),
    "cos": lambda p: -2 * jnp.sin(p.a + p.d / 2) * jnp.sin(p.d / 2),
    "sqrt": lambda p: _over(p.d, jnp.sqrt(p.a + p.d) + p.y),
    "rsqrt": _rsqrt,
    "square": lambda p: p.d * (2 * p.a + p.d),
    "one_minus_square": lambda p: -p.d * (2 * p.a + p.d),  # of tanh's derivative, JAX 0.12
    "integer_pow": _integer_pow,
    "abs": _abs,
}
