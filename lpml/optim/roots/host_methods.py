"""The solvers of the host: from a stack to a function that tries one damping after another.

A method prepares (decomposes) once and returns `attempt(which, damping)`, the roots of the
matrices at the indices `which`. All work in float64.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lpml.optim.roots.newton import (
    POWER_ROUNDS,
    POWER_TOLERANCE,
    STEPS,
    STOP,
    WORSE,
    start_vector,
)
from lpml.optim.roots.products import deviation, power
from lpml.optim.roots.report import Damping
from lpml.optim.roots.spectrum import damped


class Try(NamedTuple):
    """Roots with one damping; the fields as in `RootReport`, of n matrices."""

    root: np.ndarray  # [n, b, b]
    residual: np.ndarray  # [n]
    error: np.ndarray  # [n]
    iterations: np.ndarray  # [n]


Attempt = Callable[[np.ndarray, Damping], Try]
Decomposition = tuple[np.ndarray, np.ndarray]
Method = Callable[[np.ndarray, np.ndarray, float], Attempt]


def by_eigh(a: np.ndarray, unit: np.ndarray, p: float) -> Attempt:
    """LAPACK's syevd, one call of numpy for the whole stack [K, b, b]."""
    return from_spectrum(a, unit, p, *_each_if_one_fails(np.linalg.eigh, a))


def by_svd(a: np.ndarray, unit: np.ndarray, p: float) -> Attempt:
    """LAPACK's gesdd; singular values with the signs of the eigenvalues."""

    def decompose(a):
        return signed(*np.linalg.svd(a))

    return from_spectrum(a, unit, p, *_each_if_one_fails(decompose, a))


def by_newton(a: np.ndarray, unit: np.ndarray, p: float) -> Attempt:
    """Coupled Newton as in `newton.py`, each matrix for as long as it needs."""

    def attempt(which, damping):
        found = Try(a[which], *np.zeros((3, len(which))))
        for at, k in enumerate(which):
            ridge = damping.ridge(_largest_eigenvalue(a[k]), unit[k])
            one = _newton(a[k] + ridge * np.eye(a.shape[1]), int(p))
            for field, value in zip(found, one):
                field[at] = value
        return found

    return attempt


METHODS: dict[str, Method] = {"eigh": by_eigh, "svd": by_svd, "newton": by_newton}


def signed(u: np.ndarray, s: np.ndarray, vh: np.ndarray) -> Decomposition:
    """Eigenvalues [..., b] and vectors of a symmetric matrix from its SVD.

    Columns of U and V differ by the sign of the eigenvalue. Equal and opposite eigenvalues may
    mix; then the residual tells.
    """
    vectors = np.swapaxes(vh, -1, -2)
    return s * np.sign(np.sum(u * vectors, axis=-2)), vectors


def from_spectrum(
    a: np.ndarray, unit: np.ndarray, p: float, values: np.ndarray, vectors: np.ndarray
) -> Attempt:
    """Roots of A / unit [K, b, b] from its eigenvalues [K, b] and vectors [K, b, b].

    X = H H^T with H = V w^(-1 / 2p), which is symmetric by construction. Its residual is of A
    itself, so that it also tells of a wrong decomposition.
    """

    def attempt(which, damping):
        v = vectors[which]
        spectrum = damped(values[which], damping, unit[which], np)
        root = _outer(v * (spectrum.weights ** (1 / (2 * p)))[:, None])
        if p == int(p):
            inverse = power(root, int(p), np.matmul)
        else:
            inverse = _outer(v * np.sqrt(spectrum.weights)[:, None])
        identity = np.eye(a.shape[1], dtype=a.dtype)
        d = a[which] + spectrum.ridge[..., None] * identity
        if spectrum.clamp.any():  # seldom, and a product
            d += _between(v, spectrum.clamp)
        target = _between(v, spectrum.kept) if damping.truncates else identity
        residual = deviation(inverse @ d, target, np)
        return Try(root, residual, residual, np.zeros(len(which), np.int32))

    return attempt


def _outer(half):
    return half @ np.swapaxes(half, 1, 2)


def _between(v, diagonal):
    return (v * diagonal[:, None]) @ np.swapaxes(v, 1, 2)


def _each_if_one_fails(
    decompose: Callable[[np.ndarray], Decomposition], a: np.ndarray
) -> Decomposition:
    """One call for all; numpy gives up all if one does not converge, so then one by one."""
    try:
        return decompose(a)
    except np.linalg.LinAlgError:
        values, vectors = np.full(a.shape[:2], np.nan, a.dtype), np.full_like(a, np.nan)
        for k, matrix in enumerate(a):
            try:
                values[k], vectors[k] = decompose(matrix)
            except np.linalg.LinAlgError:
                continue
        return values, vectors


def _largest_eigenvalue(a: np.ndarray) -> float:
    vector, value = start_vector(len(a)).astype(a.dtype), 0.0
    for _ in range(POWER_ROUNDS):
        image = a @ vector
        before, value = value, float(vector @ image)
        norm = np.linalg.norm(image)
        if not norm > 0 or abs(value - before) <= POWER_TOLERANCE * value:
            break
        vector = image / norm
    return max(value, 0.0)


def _newton(d: np.ndarray, p: int) -> tuple[np.ndarray, float, float, int]:
    identity = np.eye(len(d), dtype=d.dtype)
    largest = np.abs(d).max()
    z = (1 + p) / (2 * np.linalg.norm(d / largest)) / largest
    m, x = z * d, z ** (1 / p) * identity
    before, error, steps = np.inf, deviation(m, identity, np), 0
    x_before = x
    while error > STOP and (error < WORSE * before or steps == 1) and steps < STEPS:
        t = ((p + 1) * identity - m) / p
        m = power(t, p, np.matmul) @ m
        x_before, x = x, x @ t
        before, error, steps = error, deviation(m, identity, np), steps + 1
    if not error < WORSE * before:
        x, error = x_before, before
    x = (x + x.T) / 2
    return x, deviation(power(x, p, np.matmul) @ d, identity, np), error, steps
