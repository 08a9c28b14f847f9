"""The noise of the integer steps: unbiased, of the right variance, and uncorrelated."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import needs_kernels

from lpml import native

pytestmark = needs_kernels
WIDTH = 2**17


@functools.partial(jax.jit, static_argnames=("bits", "steps"))
def fall(bits, steps, h, shift, codes, noise):
    """Codes after steps that take away h / 2^shift (8 bits) or 2^shift h / 2^16, alone."""
    dtype = jnp.int8 if bits == 8 else jnp.int16
    codes, noise, _ = native.halp_steps(
        codes.astype(dtype),
        noise,
        native.nothing_seen(),
        rows=jnp.zeros((1, WIDTH), dtype),
        h=jnp.full((1, WIDTH), h, jnp.int16),
        steps=native.Steps(jnp.zeros(steps, jnp.int32), jnp.int32(steps), jnp.int32(0)),
        at_anchor=jnp.zeros((0,), jnp.float32),
        seed=jnp.zeros(2, jnp.uint32),
        scalars=jnp.zeros(3, jnp.float32),
        shift=shift,
        loss="squared",
    )
    return codes, noise


def generators(seed):
    words = np.random.default_rng(seed).integers(
        1, 2**32, native.noise_shape(1, WIDTH), dtype=np.uint32
    )
    return jnp.asarray(words)


def chances(bits, shift):
    """Chances p that are whole in units of the noise, and the h that makes them."""
    unit = 2.0**shift if bits == 8 else 2.0 ** (16 - shift)
    least = max(1, round(unit / 4096))
    return [
        (h / unit, h) for h in (least, round(unit / 10), round(unit / 2), round(0.9 * unit))
    ]


CASES = [
    (bits, shift, p, h)
    for bits, shifts in ((8, (8, 10, 12, 14)), (16, (2, 4)))
    for shift in shifts
    for p, h in chances(bits, shift)
]


@pytest.mark.parametrize(("bits", "shift", "p", "h"), CASES)
def test_the_mean_is_right_to_a_4096th_of_a_code(bits, shift, p, h):
    steps, calls = 100, 16
    noise, zero = generators(0), jnp.zeros((1, WIDTH))
    means, spreads = [], []
    for _ in range(calls):
        codes, noise = fall(bits, steps, h, shift, zero, noise)
        codes = -np.asarray(codes, np.float64)
        means.append(codes.mean() / steps)
        spreads.append(codes.var() / (steps * p * (1 - p)))
    error = 5 * np.sqrt(p * (1 - p) / (WIDTH * steps * calls))
    assert error <= 2.0**-12
    assert abs(np.mean(means) - p) <= error
    # of the variance's estimate, for sums of `steps` outcomes
    kurtosis = 3 + (1 - 6 * p * (1 - p)) / (steps * p * (1 - p))
    assert abs(np.mean(spreads) - 1) <= 5 * np.sqrt((kurtosis - 1) / (WIDTH * calls))


def outcomes(bits, shift, h, steps=64):
    """(steps, WIDTH): which coordinates moved."""
    moved, noise = [], generators(1)
    for _ in range(steps):
        codes, noise = fall(bits, 1, h, shift, jnp.zeros((1, WIDTH)), noise)
        moved.append(-np.asarray(codes[0], np.float64))
    return np.array(moved)


def correlation(a, b):
    return np.mean((a - a.mean()) * (b - b.mean())) / np.sqrt(a.var() * b.var())


def of_one_word(shift, h):
    """Correlation of two coordinates that take the two ends of one word of 16 bits."""
    words = np.arange(2**16)
    first = 0xBCC7 * words % 2**shift + h >= 2**shift
    second = (words >> (16 - shift)) + h >= 2**shift
    return correlation(first.astype(float), second.astype(float))


@pytest.mark.parametrize("shift", [8, 11, 14])
@pytest.mark.parametrize("share", [0.004, 0.1, 0.5, 0.9])
def test_coordinates_and_steps_are_uncorrelated_but_for_what_shared_words_do(shift, share):
    h = max(1, round(share * 2**shift))
    moved = outcomes(8, shift, h)
    error = 5 / np.sqrt(moved.size / 2)
    blocks = moved.reshape(len(moved), -1, 8)
    assert abs(correlation(moved[:, :-1], moved[:, 1:])) <= error
    assert abs(correlation(moved[:-1], moved[1:])) <= error
    assert abs(correlation(moved[:, :-16], moved[:, 16:])) <= error
    shared = correlation(blocks[:, ::2], blocks[:, 1::2])
    assert abs(shared - of_one_word(shift, h)) <= error
    assert abs(shared) <= 0.01 + error  # what docs/NATIVE.md promises


def test_16_bits_have_a_word_for_every_coordinate():
    moved = outcomes(16, 4, 1000)
    error = 5 / np.sqrt(moved.size / 2)
    for lag in (1, 2, 4, 8):
        assert abs(correlation(moved[:, :-lag], moved[:, lag:])) <= error
    assert abs(correlation(moved[:-1], moved[1:])) <= error


def test_coefficients_are_rounded_without_bias():
    """Every output has z = 100 and a slope of 0.3 of a unit, for a row of 32767."""
    outputs, wanted = 2**16, 0.3
    codes, rows = np.zeros((outputs, 32), np.int16), np.zeros((1, 32), np.int16)
    codes[:, 0], rows[0, 0] = 100, 32767
    words = np.random.default_rng(2).integers(1, 2**32, (outputs, 1, 16), dtype=np.uint32)
    found, _, _ = native.halp_steps(
        jnp.asarray(codes),
        jnp.asarray(words),
        native.nothing_seen(),
        rows=jnp.asarray(rows),
        h=jnp.zeros((outputs, 32), jnp.int16),
        steps=native.Steps(jnp.zeros(1, jnp.int32), jnp.int32(1), jnp.int32(0)),
        at_anchor=jnp.zeros((0,), jnp.float32),
        seed=jnp.array([3, 7], jnp.uint32),
        scalars=jnp.array([0.5 / 3276700, wanted / 2**16, 0], jnp.float32),
        shift=jnp.int32(0),
        loss="squared",
    )
    # two roundings: of the coefficient to 0 or 1, then of the move, 32767 / 2^16, to 0 or 1
    p = wanted * 32767 / 2**16
    mean = np.mean(100 - np.asarray(found[:, 0], np.float64))
    assert abs(mean - p) <= 5 * np.sqrt(p * (1 - p) / outputs)


@pytest.mark.parametrize("loss", ["logistic", "softmax"])
def test_changes_of_the_derivative_have_their_digits_whatever_their_size(loss):
    """One step of SVRG, whose second weight is moved by the slope alone."""
    chances = [0.0, 1e-40, 1e-10, 0.3, 0.9, 1 - 2.0**-20]
    changes = [s * u for u in (1e-18, 1e-8, 1e-3, 0.7, 5, 19, 50, 300, 900) for s in (-1, 1)]
    for first in chances:
        p = np.array([first] if loss == "logistic" else [first, 1 - first], np.float32)
        # the kernels keep a chance between 1e-37 and 1 - 2^-24
        wide = np.clip(p.astype(np.longdouble), 1e-37, 1 - 2.0**-24)
        for change in changes:
            z = np.zeros((len(p), 16), np.float32)
            z[0, 0] = change
            u = z[:, 0].astype(np.longdouble)
            if loss == "logistic":
                growth = np.expm1(u)
                wanted = wide * (1 - wide) * growth / (1 + wide * growth)
            else:
                centred = np.expm1(u - wide @ u)
                wanted = wide * (centred - wide @ centred) / (1 + wide @ centred)
            rows = np.zeros((1, 16), np.float32)
            rows[0, :2] = 1
            found, _ = native.float_steps(
                jnp.asarray(z),
                native.nothing_seen(),
                rows=jnp.asarray(rows),
                h=jnp.zeros(z.shape, jnp.float32),
                steps=native.Steps(jnp.zeros(1, jnp.int32), jnp.int32(1), jnp.int32(0)),
                at_anchor=jnp.asarray(p[None]),
                y=jnp.zeros(1, jnp.float32),
                scalars=jnp.ones(2, jnp.float32),
                loss=loss,
            )
            # float32 holds the slope; below 1e-37 it may be 0
            np.testing.assert_allclose(-found[:, 1], wanted, rtol=2e-6, atol=2e-37)
