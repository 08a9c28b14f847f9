"""SOAP against a second one in numpy, and against what must hold of it, in float64."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lpml.optim import SoapState, soap
from lpml.optim.clock import Clock
from lpml.optim.shampoo import Blocking
from lpml.optim.soap import Turning, eigenbases, scale_by_soap
from lpml.training.assemble import traceable

STEPS = 20
# In blocks of 4: a remainder of 3 and of 2, a vector, three axes of which none merge.
SHAPES = {"a": (4, 7), "b": (3,), "c": (3, 2, 4)}
B1, B2, BETA, EPS, RATE, DECAY = 0.9, 0.97, 0.8, 1e-8, 0.02, 0.1
RANDOM = functools.partial(np.random.default_rng, 11)


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


@functools.cache
def problem():
    """Coupled quadratics: curvature [n, n] with no axis of its own, and noise by step."""
    random, found = RANDOM(), {}
    for name, shape in SHAPES.items():
        n = int(np.prod(shape))
        vectors = np.linalg.qr(random.standard_normal((n, n)))[0]
        curvature = (vectors * np.geomspace(0.05, 2, n)) @ vectors.T
        found[name] = curvature, random.standard_normal((STEPS, *shape))
    return found


def gradient(curvature, w, noise):
    return (curvature @ w.reshape(-1)).reshape(w.shape) + 0.3 * noise


class ByHand:
    """One block's SOAP; matrices are turned by tensordot, one axis after another."""

    def __init__(self, shape, *, every, start, method, carried, matrices=True):
        self.every, self.start, self.method, self.carried = every, start, method, carried
        self.t, self.m, self.v = 0, np.zeros(shape), np.zeros(shape)
        axes = range(len(shape)) if matrices else ()
        self.sums = {axis: np.zeros((shape[axis],) * 2) for axis in axes}
        self.bases = {axis: np.eye(shape[axis]) for axis in axes}
        self.known = False

    def step(self, g):
        self.t += 1
        self.m = B1 * self.m + (1 - B1) * g
        self.v = B2 * self.v + (1 - B2) * along(self.bases, g) ** 2
        m, v = self.m / (1 - B1**self.t), self.v / (1 - B2**self.t)
        adam = along(self.bases, m) / (np.sqrt(v) + EPS)
        update = along({axis: q.T for axis, q in self.bases.items()}, adam)
        for axis in self.sums:
            flat = np.moveaxis(g, axis, 0).reshape(g.shape[axis], -1)
            self.sums[axis] = BETA * self.sums[axis] + (1 - BETA) * flat @ flat.T
        if self.t >= self.start and (self.t - self.start) % self.every == 0:
            self.renew()
        return update

    def renew(self):
        for axis, a in self.sums.items():
            old = self.bases[axis]
            if self.known and self.method == "qr":
                order = np.argsort(-np.diag(old.T @ a @ old))
                new = np.linalg.qr(a @ old[:, order])[0]
            else:
                order = np.arange(len(a))
                new = np.linalg.eigh(a)[1][:, ::-1]
            moved = (old.T @ new) ** 2 if self.carried else np.eye(len(a))[:, order]
            self.v = along({axis: moved}, self.v)
            self.bases[axis] = new
        self.known = True


def along(matrices, x):
    """x with each axis contracted with the rows of its matrix."""
    for axis, q in matrices.items():
        x = np.moveaxis(np.tensordot(q, x, (0, axis)), 0, axis)
    return x


def corners(shape, block):
    cuts = [range(0, n, block) for n in shape]
    for at in itertools.product(*cuts):
        yield tuple(slice(a, min(a + block, n)) for a, n in zip(at, shape))


def by_numpy(**how):
    ends = {}
    for name, (curvature, noise) in problem().items():
        shape = SHAPES[name]
        blocks = [
            (at, ByHand(np.zeros(shape)[at].shape, matrices=len(shape) > 1, **how))
            for at in corners(shape, 4 if len(shape) > 1 else max(shape))
        ]
        w = np.ones(shape)
        for t in range(STEPS):
            g, update = gradient(curvature, w, noise[t]), np.zeros(shape)
            for at, block in blocks:
                update[at] = block.step(g[at])
            w = w - RATE * (update + DECAY * w)
        ends[name] = w
    return ends


def by_program(tx):
    curvature = {name: jnp.asarray(a) for name, (a, _) in problem().items()}
    noise = {name: jnp.asarray(e) for name, (_, e) in problem().items()}

    def step(carry, noise):
        w, state = carry
        updates, state = tx.update(jax.tree.map(gradient, curvature, w, noise), state, w)
        return (optax.apply_updates(w, updates), state), None

    w = {name: jnp.ones(shape) for name, shape in SHAPES.items()}
    return jax.jit(lambda w: jax.lax.scan(step, (w, tx.init(w)), noise)[0])(w)


def found_state(opt_state):
    (state,) = [
        x
        for x in jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, SoapState))
        if isinstance(x, SoapState)
    ]
    return state


def counts(counters):
    return {n for k in counters.values() for n in np.asarray(k).tolist()}


# From step 9 on: before, blocks of 4 x 4 and smaller may have statistics of low rank, whose
# eigenvectors are anybody's choice.
@pytest.mark.parametrize(
    ("method", "carried", "every"),
    [("qr", True, 3), ("qr", False, 1), pytest.param("eigh", False, 1, marks=pytest.mark.slow)],
)
def test_twenty_steps_are_those_of_numpy(method, carried, every):
    settings = dict(b1=B1, b2=B2, shampoo_beta=BETA, eps=EPS, weight_decay=DECAY)
    tx = soap(
        RATE, block_size=4, merge=False, basis=method, carried=carried, refresh_every=every,
        start_at=9, **settings,
    )  # fmt: skip
    found, state = by_program(tx)
    expected = by_numpy(every=every, start=9, method=method, carried=carried)
    for name, w in expected.items():
        np.testing.assert_allclose(found[name], w, atol=1e-9)
    state = found_state(state)
    assert counts(state.refresh_ok) == {len(range(9, STEPS + 1, every))}
    assert counts(state.refresh_failed) == {0}
    assert int(state.vectors_from) == max(range(9, STEPS + 1, every))


def test_before_the_first_basis_it_is_adam():
    mine = soap(RATE, block_size=4, b1=B1, b2=B2, start_at=STEPS + 1, weight_decay=DECAY)
    theirs = optax.adamw(RATE, B1, B2, EPS, weight_decay=DECAY)
    found, state = by_program(mine)
    expected, _ = by_program(theirs)
    for name, w in expected.items():
        np.testing.assert_allclose(found[name], w, rtol=1e-13)
    assert int(found_state(state).vectors_from) == -1


# --- closed forms and symmetries of a single matrix ---


@functools.cache
def program(*, every=1, method="eigh", start=1, b1=0.9, b2=0.97, carried=True, max_dim=99):
    tx = scale_by_soap(
        Blocking(exponent=1, max_dim=max_dim),
        Turning(Clock(every, start), method, carried),
        b1=b1,
        b2=b2,
        shampoo_beta=1.0,
        eps=1e-14,
    )

    def step(state, gradient):
        update, state = tx.update(gradient, state)
        return state, update

    return jax.jit(lambda g: jax.lax.scan(step, tx.init(g[0]), g)[1])


def updates(gradients, **how):
    return np.asarray(program(**how)(jnp.asarray(gradients)))


def test_without_memory_the_second_step_is_the_sign_in_the_vectors_of_the_first():
    g = RANDOM().standard_normal((2, 5, 5))
    u, _, vh = np.linalg.svd(g[0])
    found = updates(g, b1=0.0, b2=0.0)
    np.testing.assert_allclose(found[0], np.sign(g[0]), atol=1e-12)
    np.testing.assert_allclose(found[1], u @ np.sign(u.T @ g[1] @ vh.T) @ vh, atol=1e-10)


def test_a_gradient_that_repeats_is_moved_by_its_orthogonal_factor():
    g = RANDOM().standard_normal((5, 5))
    u, _, vh = np.linalg.svd(g)
    # the eigenvalues of others are 0 up to rounding, which only an epsilon keeps at 0
    tx = scale_by_soap(turning=Turning(Clock(1, 1), "eigh"), b1=0.0, b2=0.0, eps=1e-10)
    state = tx.init(g)
    for _ in range(2):
        found, state = jax.jit(tx.update)(jnp.asarray(g), state)
    np.testing.assert_allclose(found, u @ vh, atol=1e-4)


def test_one_side_alone_is_turned_alone():
    g = RANDOM().standard_normal((2, 6, 4))
    q = np.linalg.eigh(g[0].T @ g[0])[1]
    found = updates(g, b1=0.0, b2=0.0, max_dim=5)[1]
    np.testing.assert_allclose(found, np.sign(g[1] @ q) @ q.T, atol=1e-10)


@pytest.mark.parametrize("method", ["eigh", "qr"])
def test_it_turns_with_its_gradients_once_it_has_bases(method):
    random = RANDOM()
    g = random.standard_normal((6, 4, 5))
    left, right = (np.linalg.qr(random.standard_normal((n, n)))[0] for n in (4, 5))
    # the squares of the first step are Adam's, which knows its axes: so b2 forgets them
    how = dict(method=method, b2=0.0, start=2)
    plain, turned = updates(g, **how), updates(left @ g @ right, **how)
    np.testing.assert_allclose(turned[2:], left @ plain[2:] @ right, atol=1e-9)
    assert not np.allclose(turned[0], left @ plain[0] @ right, atol=0.1)
    for scale in (1e-4, 1e6):
        np.testing.assert_allclose(updates(scale * g, **how), plain, atol=1e-7)


# --- bases ---


def spectrum(*values):
    q = np.linalg.qr(RANDOM().standard_normal((len(values),) * 2))[0]
    return (q * np.array(values)) @ q.T, q


def test_orthogonal_iteration_comes_to_the_eigenvectors_and_squares_come_along():
    a, q = spectrum(8.0, 2.0, 0.5, 0.1)
    stack = jnp.asarray(a)[None]
    basis = jnp.asarray(np.linalg.qr(RANDOM().standard_normal((1, 4, 4)))[0])
    renew = jax.jit(functools.partial(eigenbases, method="qr", carried=True))
    for _ in range(20):
        basis, transfer, ok = renew(stack, basis, jnp.array([True]))
    np.testing.assert_allclose(np.abs(q.T @ basis[0]), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(transfer[0], np.eye(4), atol=1e-9)
    assert ok.all()


def test_squares_of_uncorrelated_numbers_are_those_of_the_new_coordinates():
    a, q = spectrum(4.0, 3.0, 2.0, 1.0)
    old = np.linalg.qr(RANDOM().standard_normal((1, 4, 4)))[0]
    found = eigenbases(
        jnp.asarray(a)[None], jnp.asarray(old), jnp.array([False]), method="qr", carried=True
    )
    v = np.array([1.0, 0.3, 0.2, 5.0])
    covariance = (old[0] * v) @ old[0].T
    wanted = np.diag(q.T @ covariance @ q)
    np.testing.assert_allclose(v @ found.transfer[0], wanted, rtol=1e-12)


def test_what_has_no_basis_keeps_the_old_one_bit_for_bit():
    good, _ = spectrum(3.0, 2.0, 1.0)
    bad = np.array([[np.nan, 0, 0], [0, 1, 0], [0, 0, 1]])
    stack = jnp.asarray(np.stack([good, bad, np.zeros((3, 3))]))
    old = jnp.asarray(np.linalg.qr(RANDOM().standard_normal((3, 3, 3)))[0])
    known = jnp.ones(3, bool)
    found = eigenbases(stack, old, known, method="qr", carried=True)
    assert found.ok.tolist() == [True, False, False]
    np.testing.assert_array_equal(found.vectors[1:], old[1:])
    np.testing.assert_array_equal(found.transfer[1:], np.stack([np.eye(3)] * 2))


# --- in use ---


def test_a_loop_of_ones_own():
    with jax.enable_x64(False):
        x = RANDOM().standard_normal((64, 8)) * np.geomspace(0.05, 3, 8)
        y = x @ RANDOM().standard_normal((8, 4))

        def loss(params):
            return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)

        tx = soap(learning_rate=0.1, decay="linear", decay_steps=150, block_size=4)
        params = {"w": jnp.zeros((8, 4)), "b": jnp.zeros(4)}
        state = tx.init(params)

        @jax.jit
        def step(params, state):
            updates, state = tx.update(jax.grad(loss)(params), state, params)
            return optax.apply_updates(params, updates), state

        before = loss(params)
        for _ in range(150):
            params, state = step(params, state)
        assert loss(params) < 1e-3 * before


def test_numbers_that_are_not_finite_show_and_are_not_kept():
    tx = scale_by_soap(turning=Turning(Clock(99, 1)))
    g = jnp.asarray(RANDOM().standard_normal((3, 3)))
    step = jax.jit(tx.update)
    _, state = step(g, tx.init(g))
    update, after = step(g.at[1, 2].set(jnp.nan), state)
    assert np.isnan(update).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
    np.testing.assert_array_equal(after.squares[0], state.squares[0])
    for name, stack in after.stats.items():
        np.testing.assert_array_equal(stack, state.stats[name])
    update, _ = step(g, after)
    assert np.isfinite(update).all()


def test_many_at_once_are_each_alone_and_renew_when_they_are_due():
    g = RANDOM().standard_normal((2, 5, 3, 3))
    run = program(every=2, start=2, method="qr")
    together = jax.vmap(run)(jnp.asarray(g))
    for many, alone in zip(together, g, strict=True):
        np.testing.assert_allclose(many, run(jnp.asarray(alone)), atol=1e-12)
    text = str(jax.make_jaxpr(jax.vmap(run))(jnp.asarray(g)))
    assert "cond[" in text
    assert "f64[2,3,3] = eigh" not in text


def test_parameters_of_few_bits_have_a_state_of_float32():
    tx = soap(0.1)
    params = {"w": jnp.ones((4, 6), jnp.bfloat16), "b": jnp.ones((), jnp.bfloat16)}
    updates, state = jax.eval_shape(lambda p: tx.update(p, tx.init(p), p), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}
    floats = [x.dtype for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert set(floats) == {jnp.dtype(jnp.float32)}
    assert [x.shape for x in found_state(state).squares] == [(1, 4, 6), ()]


def test_zeros_have_no_basis_and_no_failure():
    tx = scale_by_soap(turning=Turning(Clock(1, 1)))
    zeros = jnp.zeros((3, 3))
    update, state = jax.jit(tx.update)(zeros, tx.init(zeros))
    np.testing.assert_array_equal(update, zeros)
    assert counts(state.refresh_ok) == counts(state.refresh_failed) == {0}
    assert int(state.vectors_from) == -1


def test_numbers_that_a_sweep_traces():
    numbers = dict(learning_rate=0.1, b1=0.9, b2=0.9, shampoo_beta=0.9, eps=1e-8)
    numbers["weight_decay"] = 0.1
    words = dict(name="soap", basis="eigh", refresh_every=5, start_at=1, block_size=16)
    assert traceable(dict(optim=words | numbers)) == numbers


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(learning_rate=0), "learning_rate = 0 must be positive"),
        (dict(b1=1.0), r"b1 = 1.0 must be in \[0, 1\)"),
        (dict(b2=-0.1), r"b2 = -0.1 must be in \[0, 1\)"),
        (dict(shampoo_beta=0.0), r"shampoo_beta = 0.0 must be in \(0, 1\]; 1 sums"),
        (dict(eps=0.0), "eps = 0.0 must be positive"),
        (dict(weight_decay=-1.0), "weight_decay = -1.0 must not be negative"),
        (dict(basis="svd"), "basis 'svd' does not exist; choose qr or eigh"),
        (dict(refresh_every=0), "refresh_every = 0 must be an integer of at least 1"),
        (dict(start_at=0), "start_at = 0 must be an integer of at least 1"),
        (dict(block_size=0), "block_size = 0 must be an integer"),
        (dict(decay="linear"), "decay 'linear' needs decay_steps"),
    ],
)
def test_settings_out_of_range_are_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        soap(**dict(learning_rate=0.1) | changes)
