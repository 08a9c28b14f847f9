"""What Shampoo's direction loses when its statistics and roots are held in few bits."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lpml.measurements.measurement import Lines, Measurement
from lpml.optim.packed_codes import bytes_of
from lpml.optim.roots import Damping, eigh_roots
from lpml.optim.shampoo.kronecker import Stacks, accumulated
from lpml.optim.shampoo.storage import Storage, plain

METRICS = (
    "direction_error",
    "cosine",
    "norm",
    "root_error",
    "statistics_error",
    "accepted",
    "bytes_per_parameter",
)
NAME = "only"
Ratios = dict[str, jax.Array]


def shampoo_state_error(
    *,
    size: int = 32,
    samples: int = 32,
    condition: float = 1e4,
    turned: bool = True,
    steps: int = 600,
    beta2: float = 0.99,
    exponent: int = 4,
    epsilon: float = 1e-5,
    statistics_format: str | None = "int8",
    roots_format: str | None = "int8",
    form: str = "factor",
    rounding: str = "stochastic",
    count: int = 4,
) -> Measurement:
    r"""Statistics, roots and directions of a state in few bits beside the same in floats.

    Gradients G [b, n] have columns of covariance C / n, C of random eigenvectors and
    eigenvalues 1 to 1 / condition in equal ratios. Both states take the same ones into
    A <- beta2 A + (1 - beta2) G G^T. Both make X = (A + epsilon max(w) I)^(-1/p) of what they
    hold; one rounds it to its format. Then a further gradient is multiplied by both.

    Args:
      size: b, at least 2.
      samples: n, columns of a gradient. Fewer dither: rounding to nearest then loses less.
      condition: > 1.
      turned: whether half-way the eigenvectors become others; a mean must forget the old.
      steps: in all; a multiple of 2 count.
      beta2: in (0, 1].
      exponent: p.
      epsilon: of the damping, relative.
      statistics_format, roots_format, form, rounding: see `Storage`.
      count: lines; the last is of the end.

    Returns:
      Lines of: `direction_error`, |X' G - X G| / |X G|, of both scaled to length 1 (grafting
      does that); their `cosine`, and the `norm` of one over the other before; `root_error` and
      `statistics_error`, relative in the Frobenius norm; `accepted`, 1 if the root is by its
      residual; `bytes_per_parameter` of both kinds, of a b x b matrix with one of each along
      both axes (16 of float32).

    Raises:
      ValueError: a number out of range, or what `Storage` refuses.
    """
    storage = Storage(statistics_format, roots_format, form, rounding)
    if size < 2 or samples < 1 or count < 1:
        raise ValueError(
            f"size = {size} must be at least 2, samples = {samples} and count = {count} "
            "positive"
        )
    if not condition > 1 or not 0 < beta2 <= 1:
        raise ValueError(f"condition = {condition} must be above 1, beta2 = {beta2} in (0, 1]")
    if steps < 1 or steps % (2 * count):
        raise ValueError(f"steps = {steps} must be a multiple of twice count = {count}")

    def lines(seed: int) -> Lines:
        random = np.random.default_rng(seed)
        first, second = (_root_of_covariance(size, condition, random) for _ in range(2))
        key = jax.random.key(seed)
        run, compare = _programs(storage, size, samples, exponent)
        zeros: Stacks = {NAME: jnp.zeros((1, size, size))}
        states = storage.first(storage.statistics, zeros), zeros
        chunk = steps // (2 * count)
        for half in range(2 * count):
            root = second if turned and half >= count else first
            keys = jax.random.split(jax.random.fold_in(key, half), chunk)
            states = run(states, jnp.asarray(root), keys, beta2)
            if half % 2:
                found = compare(
                    states, jnp.asarray(root), jax.random.fold_in(key, 2 * count), epsilon
                )
                yield {name: float(value) for name, value in found.items()}

    return Measurement(lines, count, METRICS)


def _root_of_covariance(size, condition, random):
    """R [b, b] with R R^T = C."""
    vectors = np.linalg.qr(random.standard_normal((size, size)))[0]
    values = np.geomspace(1, 1 / condition, size)
    return (vectors * np.sqrt(values)).astype(np.float32)


@functools.lru_cache(maxsize=64)
def _programs(
    storage: Storage, size: int, samples: int, p: int
) -> tuple[Callable, Callable[..., Ratios]]:
    """Compiled once for all seeds, conditions and ridges: the steps, and the comparison."""

    def gradient(root, key):
        return root @ jax.random.normal(key, (size, samples)) / np.sqrt(samples)

    @jax.jit
    def run(states, root, keys, beta2):
        def step(states, key):
            held, exact = states
            g = gradient(root, key)
            new = {NAME: (g @ g.T)[None]}
            # folded apart from the gradient's own words
            held = storage.advanced(held, new, beta2, jax.random.fold_in(key, 1))
            return (held, accumulated(exact, new, beta2)), None

        return jax.lax.scan(step, states, keys)[0]

    @jax.jit
    def compare(states, root, key, epsilon):
        held, exact = states
        damping = Damping("relative", epsilon)
        true = eigh_roots(exact[NAME], p, damping=damping)
        report = eigh_roots(plain(held)[NAME], p, damping=damping)
        roots = storage.first(storage.roots, {NAME: report.root})
        g = gradient(root, key)
        ours, theirs = plain(roots)[NAME][0] @ g, true.root[0] @ g
        lengths = jnp.linalg.norm(ours), jnp.linalg.norm(theirs)
        return {
            "direction_error": jnp.linalg.norm(ours / lengths[0] - theirs / lengths[1]),
            "cosine": jnp.vdot(ours, theirs) / (lengths[0] * lengths[1]),
            "norm": lengths[0] / lengths[1],
            "root_error": _relative(plain(roots)[NAME], true.root),
            "statistics_error": _relative(plain(held)[NAME], exact[NAME]),
            "accepted": report.ok[0].astype(jnp.float32),
            "bytes_per_parameter": jnp.float32(2 * bytes_of((held, roots)) / size**2),
        }

    return run, compare


def _relative(found, true):
    return jnp.linalg.norm(found - true) / jnp.linalg.norm(true)
