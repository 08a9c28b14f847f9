"""Inverse roots of known spectra: by numpy on the host, by products and eigh in programs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpml.optim.roots import (
    Damping,
    RootReport,
    accepted,
    eigh_roots,
    host_roots,
    newton_roots,
)
from lpml.optim.roots.newton import largest_eigenvalue
from lpml.optim.roots.products import power

NONE = Damping("relative", 0.0)
# Steps of Newton's iteration at n = 256, from 1e2 to 1e10: the spec's table.
CONDITIONS = (1e2, 1e4, 1e6, 1e8, 1e10)
STEPS = {2: (11, 16, 22, 27, 33), 4: (10, 14, 19, 24, 29), 8: (9, 13, 18, 23, 27)}


def spectrum(n, condition, seed=0):
    """Eigenvalues [n] of uniform logarithm from 1 to 1 / condition, and eigenvectors."""
    random = np.random.default_rng(seed)
    vectors = np.linalg.qr(random.standard_normal((n, n)))[0]
    inner = random.uniform(size=n - 2)
    return condition ** -np.concatenate([[0, 1], inner]), vectors


def with_spectrum(values, vectors, exponent=1.0):
    return (vectors * values**exponent) @ vectors.T


def matrix(n, condition, seed=0):
    return with_spectrum(*spectrum(n, condition, seed))


def distance(x, y):
    return np.linalg.norm(np.asarray(x, np.float64) - y) / np.linalg.norm(y)


def residual(x, a, p):
    return np.abs(np.linalg.matrix_power(x, p) @ a - np.eye(len(a))).max()


def on_host(method):
    return functools.partial(host_roots, method=method)


def program(solver):
    """A solver of a program with the call and the arrays of one of the host, in x64."""

    @functools.partial(jax.jit, static_argnums=(1, 2))
    def compiled(stack, p, kind, epsilon):
        return solver(stack, p, damping=Damping(kind, epsilon))

    def run(stack, p, damping):
        with jax.enable_x64(True):
            return jax.device_get(
                compiled(jnp.asarray(stack), p, damping.kind, damping.epsilon)
            )

    return run


SOLVERS = {
    "host eigh": on_host("eigh"),
    "host svd": on_host("svd"),
    "host newton": on_host("newton"),
    "newton": program(newton_roots),
    "eigh": program(eigh_roots),
}
every_solver = pytest.mark.parametrize("solve", SOLVERS.values(), ids=SOLVERS)
jit_newton = jax.jit(newton_roots, static_argnums=1, static_argnames="damping")
NEWTONS = ("host newton", "newton")


@pytest.mark.parametrize("p", STEPS)
def test_host_eigh_is_exact_to_the_condition_number(p):
    stack = np.stack([matrix(64, condition) for condition in CONDITIONS])
    report = host_roots(stack, p, damping=NONE)
    assert report.ok.all()
    for a, x, condition in zip(stack, report.root, CONDITIONS):
        assert residual(x, a, p) <= max(1e-12, 1e-16 * condition)
        assert (x == x.T).all()


@pytest.mark.parametrize("p", [1, 2.5, 3, 4])
@pytest.mark.parametrize("method", ["eigh", "svd"])
def test_decompositions_take_any_exponent(method, p):
    known = spectrum(24, 1e3)
    report = host_roots(
        np.asfortranarray(with_spectrum(*known))[None], p, method=method, damping=NONE
    )
    assert report.ok.all()
    assert distance(report.root[0], with_spectrum(*known, -1 / p)) < 1e-12


@pytest.mark.parametrize("p", STEPS)
@pytest.mark.parametrize("name", NEWTONS)
def test_newton_on_the_grid_of_conditions(name, p):
    """The smaller matrices need as many steps as the table's."""
    stack = np.stack([matrix(64, condition) for condition in CONDITIONS])
    report = SOLVERS[name](stack, p, damping=NONE)
    exact = host_roots(stack, p, damping=NONE).root
    assert np.all(np.abs(report.iterations - STEPS[p]) <= 1)
    assert np.all(report.residual <= 3e-6)
    assert all(distance(x, e) <= 1e-6 for x, e in zip(report.root, exact))


@pytest.mark.slow
@pytest.mark.parametrize("p", STEPS)
def test_the_full_grid(p):
    stack = np.stack([matrix(256, condition) for condition in CONDITIONS])
    exact = host_roots(stack, p, damping=NONE)
    for a, x, condition in zip(stack, exact.root, CONDITIONS):
        assert residual(x, a, p) <= max(1e-12, 1e-16 * condition)
    for name in NEWTONS:
        report = SOLVERS[name](stack, p, damping=NONE)
        assert np.all(np.abs(report.iterations - STEPS[p]) <= 1)
        assert np.all(report.residual <= 3e-6)
        for a, x, e in zip(stack, report.root, exact.root):
            # X = D^(-1/p) M^(1/p), so an eigenvalue of X is off by that of (M - I) / p. The
            # iteration stops by the largest entry of M - I, which its norm may exceed.
            off = np.linalg.norm(np.linalg.matrix_power(x, p) @ a - np.eye(256), 2) / p
            assert distance(x, e) <= 1.01 * off + 1e-10


@pytest.mark.parametrize("p", [2, 4])
def test_float32_with_a_ridge_of_1e6(p, x32):
    values, vectors = spectrum(64, 1e6)
    with x32():
        stack = jnp.asarray(with_spectrum(values, vectors)[None], jnp.float32)
        report = jit_newton(stack, p, damping=Damping("relative", 1e-6))
    assert report.root.dtype == jnp.float32
    assert report.ok.all()
    assert distance(report.root[0], with_spectrum(values + 1e-6, vectors, -1 / p)) < 5e-3


def test_float32_without_a_ridge_is_refused_by_the_true_residual(x32):
    values, vectors = spectrum(96, 1e8)
    with x32():
        stack = jnp.asarray(with_spectrum(values, vectors)[None], jnp.float32)
        report = jit_newton(stack, 4, damping=Damping("relative", 1e-12))
    # the iteration's own error says 1e-7 on some processors and 0.2 on others
    assert report.residual[0] > 1
    assert not report.ok[0]
    assert distance(report.root[0], with_spectrum(values, vectors, -1 / 4)) > 0.05


@every_solver
def test_a_root_scales_with_its_matrix(solve):
    scales = np.array([1.0, 1e-12, 3e-5, 1e6])
    report = solve(scales[:, None, None] * matrix(48, 1e6), 4, damping=Damping())
    assert report.ok.all()
    for c, root in zip(scales, report.root):
        assert distance(root, c**-0.25 * report.root[0]) <= 1e-10


@every_solver
def test_the_dampings_are_what_they_say(solve):
    values, vectors = spectrum(32, 1e4)
    a = 50.0 * with_spectrum(values, vectors)
    relative = solve(a[None], 2, damping=Damping("relative", 1e-3)).root[0]
    absolute = solve(a[None], 2, damping=Damping("absolute", 1e-3)).root[0]
    # the largest eigenvalue is known to the tolerance of the power iteration
    assert distance(relative, with_spectrum(50 * (values + 1e-3), vectors, -1 / 2)) < 1e-5
    assert distance(absolute, with_spectrum(50 * values + 1e-3, vectors, -1 / 2)) < 2e-6


@pytest.mark.parametrize("name", ["host eigh", "host svd", "eigh"])
def test_truncation_is_the_root_of_the_pseudo_inverse(name):
    values, vectors = spectrum(32, 1e4)
    damping = Damping("truncate", 0.01)
    report = SOLVERS[name](7 * with_spectrum(values, vectors)[None], 4, damping=damping)
    kept = values > 0.01
    assert 0 < kept.sum() < 32
    expected = with_spectrum(7 * values[kept], vectors[:, kept], -1 / 4)
    assert report.ok.all()
    assert distance(report.root[0], expected) < 1e-12


def awkward():
    """Name to matrix: what statistics look like early, late and when something broke."""
    g = np.random.default_rng(3).standard_normal((24, 1))
    values, vectors = spectrum(24, 1e4)
    indefinite = np.where(values == values.min(), -1e-7, values)
    with_nan = matrix(24, 10.0)
    with_nan[3, 5] = np.nan
    return {
        "zero": np.zeros((24, 24)),
        "rank one": g @ g.T,
        "nan": with_nan,
        "infinite": np.full((24, 24), np.inf),
        "indefinite": with_spectrum(indefinite, vectors),
        "good": with_spectrum(values, vectors),
    }


@every_solver
@pytest.mark.parametrize("kind", ["relative", "absolute"])
def test_no_nan_and_no_silent_failure(solve, kind):
    matrices = awkward()
    stack = np.stack(list(matrices.values()))
    report = solve(stack, 4, damping=Damping(kind, 1e-6))
    ok = dict(zip(matrices, report.ok))
    assert ok == {**dict.fromkeys(matrices, True), "nan": False, "infinite": False} | (
        {"zero": False} if kind == "relative" else {}
    )
    assert np.isfinite(report.root).all()
    assert not np.isfinite(report.residual[[2, 3]]).any()
    alone = solve(stack[-1:], 4, damping=Damping(kind, 1e-6))
    assert distance(report.root[-1], alone.root[0]) < 1e-13


@every_solver
def test_a_rank_one_statistic(solve):
    """g g^T + r I is g g^T / |g|^2 (|g|^2 + r)^(-1/p) and r^(-1/p) elsewhere."""
    rank_one = awkward()["rank one"]
    square = np.trace(rank_one)
    report = solve(rank_one[None], 2, damping=Damping("relative", 1e-4))
    along = rank_one / square
    ridge = 1e-4 * square
    expected = along / np.sqrt(square + ridge) + (np.eye(24) - along) / np.sqrt(ridge)
    assert distance(report.root[0], expected) < 2e-6


@every_solver
def test_a_small_constant_matrix(solve):
    """Newton's first step takes the largest error from 0.58 to 0.94, and is not the last."""
    along = np.full((6, 6), 1 / 6)
    report = solve(along[None], 4, damping=Damping("relative", 1e-6))
    expected = along * (1 + 1e-6) ** -0.25 + (np.eye(6) - along) * 1e-6**-0.25
    assert report.ok.all()
    assert distance(report.root[0], expected) < 2e-6


def test_a_matrix_of_zeros_has_no_pseudo_inverse_to_go_by():
    for name in ("host eigh", "host svd", "eigh"):
        report = SOLVERS[name](np.zeros((1, 8, 8)), 4, damping=Damping("truncate", 1e-6))
        assert not report.ok[0]
        assert (report.root[0] == np.eye(8)).all()


def test_the_host_raises_the_ridge_until_newton_converges():
    stack = np.stack([awkward()["indefinite"], awkward()["good"]])
    report = host_roots(stack, 4, method="newton", damping=Damping("relative", 1e-9))
    assert report.ok.all()
    assert report.epsilon == pytest.approx([1e-6, 1e-9])
    refused = host_roots(
        stack, 4, method="newton", damping=Damping("relative", 1e-9), retries=1
    )
    assert refused.ok.tolist() == [False, True]
    assert refused.epsilon == pytest.approx([1e-8, 1e-9])


@pytest.mark.parametrize("method", ["eigh", "svd"])
def test_decompositions_clamp_what_is_negative(method):
    values, vectors = spectrum(24, 1e4)
    indefinite = np.where(values == values.min(), -1e-7, values)
    a = with_spectrum(indefinite, vectors)
    report = host_roots(a[None], 4, method=method, damping=Damping("absolute", 1e-9))
    assert report.ok.all()
    assert report.epsilon == [1e-9]
    expected = with_spectrum(np.maximum(indefinite, 0) + 1e-9, vectors, -1 / 4)
    assert distance(report.root[0], expected) < 1e-6


def test_a_decomposition_that_does_not_converge_costs_its_own_matrix_only(monkeypatch):
    stack = np.stack([matrix(12, 10.0, seed) for seed in range(3)])
    expected = host_roots(stack, 4)
    decompose = np.linalg.eigh

    def failing(a):
        if a.ndim == 3 or np.allclose(a / a[0, 0], stack[1] / stack[1][0, 0]):
            raise np.linalg.LinAlgError("no convergence")
        return decompose(a)

    monkeypatch.setattr(np.linalg, "eigh", failing)
    report = host_roots(stack, 4)
    assert report.ok.tolist() == [True, False, True]
    assert np.isfinite(report.root).all()
    assert np.array_equal(report.root[[0, 2]], expected.root[[0, 2]])


@every_solver
def test_the_residual_is_not_the_solvers_word(solve):
    """It is max |X^p D - I| of the root handed out, by other means than the solver's."""
    a = matrix(16, 1e9)
    report = solve(a[None], 2, damping=Damping("absolute", 1e-9))
    true = residual(report.root[0], a + 1e-9 * np.eye(16), 2)
    assert 0.2 * true < report.residual[0] < 5 * true


@pytest.mark.parametrize("solver", [newton_roots, eigh_roots])
def test_jit_and_vmap_change_nothing(solver, x64):
    stack = np.stack([matrix(16, 10.0**k, seed=k) for k in range(1, 7)])
    with x64():
        run = jax.jit(lambda s: solver(s, 4))
        together = jax.device_get(run(jnp.asarray(stack)))
        for k, a in enumerate(stack):
            alone = jax.tree.map(lambda leaf: leaf[0], jax.device_get(run(a[None])))
            assert alone.iterations == together.iterations[k]
            assert distance(together.root[k], alone.root) < 1e-11
        if solver is newton_roots:
            nested = jax.device_get(
                jax.vmap(lambda s: solver(s, 4))(stack.reshape(2, 3, 16, 16))
            )
            assert distance(nested.root.reshape(6, 16, 16), together.root) < 1e-11
            assert isinstance(nested, RootReport)


def test_only_matrices_of_a_program_keep_their_type(x32):
    with x32():
        stack = jnp.eye(8, dtype=jnp.bfloat16)[None] * 4
        for solver in (newton_roots, eigh_roots):
            report = jax.jit(solver, static_argnums=1)(stack, 2)
            assert report.root.dtype == jnp.bfloat16
            assert np.allclose(report.root[0].astype(np.float32), np.eye(8) / 2)
    assert host_roots(4 * np.eye(8, dtype=np.float32)[None], 2).root.dtype == np.float32


def test_an_empty_stack_has_no_roots():
    for method in ("eigh", "svd", "newton"):
        assert host_roots(np.empty((0, 4, 4)), 4, method=method).root.shape == (0, 4, 4)


def test_what_is_refused_leaves_the_old_root_bit_for_bit(x32):
    old = np.random.default_rng(0).standard_normal((3, 4, 4)).astype(np.float32)
    new = np.stack([np.full((4, 4), np.nan), np.ones((4, 4)), np.full((4, 4), np.inf)])
    with x32():
        kept = np.asarray(accepted(jnp.asarray(old), jnp.asarray(new), np.arange(3) == 1))
    assert np.array_equal(kept[[0, 2]].view(np.int32), old[[0, 2]].view(np.int32))
    assert (kept[1] == 1).all()
    assert kept.dtype == np.float32


def test_the_largest_eigenvalue_in_any_units(x64):
    a = matrix(64, 1e6)
    with x64():
        for c in (1e-12, 1.0, 1e9):
            assert float(largest_eigenvalue(jnp.asarray(c * a))) == pytest.approx(c, rel=1e-4)


@pytest.mark.parametrize("p", [1, 2, 3, 4, 5, 6, 8, 12])
def test_powers_are_products(p):
    assert power(3, p, lambda a, b: a * b) == 3**p


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Damping("ridge"), "damping 'ridge' does not exist; choose relative, absolute"),
        (lambda: Damping(epsilon=-1.0), r"epsilon = -1\.0 of the damping must be >= 0"),
        (lambda: host_roots(np.eye(3)[None], 0.5), r"p = 0\.5 of the root .* at least 1"),
        (lambda: host_roots(np.eye(3), 4), r"\[K, b, b\], not \[3, 3\]"),
        (lambda: host_roots(np.eye(3)[None], 4, method="qr"), "method 'qr' does not exist"),
        (lambda: host_roots(np.eye(3)[None], 2.5, method="newton"), r"p = 2\.5 must be an int"),
        (lambda: host_roots(np.eye(3)[None], 4, retries=-1), "retries = -1"),
        (lambda: newton_roots(jnp.eye(3)[None], 1.5), r"p = 1\.5 must be an integer"),
        (
            lambda: newton_roots(jnp.eye(3)[None], 4, damping=Damping("truncate")),
            "cannot truncate eigenvalues: take eigh",
        ),
        (lambda: eigh_roots(jnp.ones((2, 3, 4)), 4), r"not \[2, 3, 4\]"),
    ],
)
def test_bad_input_is_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
