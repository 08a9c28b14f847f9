"""The kernels' integer steps against a slow reference, code by code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import SETS, needs_kernels
from slow_halp import Halp

from lpml import native

pytestmark = needs_kernels
TYPES = {8: np.int8, 16: np.int16}


class Problem:
    """A random call of `halp_steps`, and the same for the reference."""

    def __init__(
        self, bits, features, outputs=1, *, loss="squared", samples=5, seed=0, **given
    ):
        random = np.random.default_rng([seed, bits, features, outputs])
        largest = 2 ** (bits - 1) - 1
        x = random.integers(-largest, largest + 1, (samples, features)).astype(TYPES[bits])
        self.bits, self.loss, self.rows = bits, loss, native.padded(given.get("x", x))
        stride = self.rows.shape[1]
        codes = random.integers(-largest - 1, largest + 1, (outputs, stride))
        self.codes = given.get("codes", codes).astype(TYPES[bits])
        self.noise = random.integers(
            1, 2**32, native.noise_shape(outputs, stride), dtype=np.uint32
        )
        self.h = given.get("h", random.integers(-300, 301, (outputs, stride))).astype(np.int16)
        self.seed = random.integers(0, 2**32, 2, dtype=np.uint32)
        p = random.dirichlet(np.ones(outputs), samples) if loss == "softmax" else None
        self.p = random.uniform(0.01, 0.99, (samples, outputs)) if loss == "logistic" else p
        if self.p is not None:
            self.p = self.p.astype(np.float32)
        # powers of 2, so that float32 holds what the reference is given
        self.unit = given.get("unit", 2.0 ** -(2 * bits - 4))
        self.gain = given.get("gain", 2.0 ** -(bits - 7))
        self.decay = np.float32(given.get("decay", 0))
        self.shift = given.get("shift", 10)

    def kernel(self, index, *, first=0, places=native.Places(), state=None):  # noqa: B008
        codes, noise, seen = state or (self.codes, self.noise, native.nothing_seen())
        return _halp_steps(
            jnp.asarray(codes),
            jnp.asarray(noise),
            jnp.asarray(seen),
            rows=jnp.asarray(self.rows),
            h=jnp.asarray(self.h),
            steps=native.Steps(jnp.asarray(index, jnp.int32), jnp.int32(len(index)), first),
            at_anchor=jnp.zeros((0,), jnp.float32) if self.p is None else jnp.asarray(self.p),
            seed=jnp.asarray(self.seed),
            scalars=jnp.array([self.unit, self.gain, self.decay], jnp.float32),
            shift=jnp.int32(self.shift),
            loss=self.loss,
            places=places,
        )

    def reference(self, index):
        p = None if self.p is None else self.p.astype(np.float64)
        slow = Halp(
            self.bits,
            self.codes,
            self.noise,
            self.rows,
            self.h,
            seed=self.seed,
            unit=self.unit,
            gain=self.gain,
            decay=float(self.decay),
            shift=self.shift,
            loss=self.loss,
            p=p,
        )
        slow.run(index)
        return slow


_halp_steps = jax.jit(native.halp_steps, static_argnames=("loss", "places"))


def check(problem, index):
    """Every instruction set gives the reference's codes, generators and counts."""
    slow = problem.reference(index)
    for name in SETS:
        codes, noise, words = problem.kernel(index, places=native.Places(1, name))
        np.testing.assert_array_equal(codes, np.array(slow.z))
        np.testing.assert_array_equal(noise, np.array([n.words() for n in slow.noise]))
        seen = native.seen(words)
        assert int(seen.saturated) == 8 * slow.saturated
        assert int(seen.clipped) == slow.clipped
        assert int(seen.peak) == slow.peak
        np.testing.assert_allclose(seen.steepest, slow.steepest, rtol=1e-6)
        assert int(seen.bad_step) == -1
    return slow


INDEX = [3, 0, 4, 4, 1, 2, 0, 3, 1, 1, 2]


@pytest.mark.parametrize("features", [1, 31, 32, 33, 63, 64, 65, 1023, 1025, 2049])
@pytest.mark.parametrize("bits", [8, 16])
def test_codes_are_the_references(bits, features):
    slow = check(Problem(bits, features), INDEX)
    assert len(set(slow.z[0][:features])) > min(features, 20) / 2


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("loss", "outputs"), [("logistic", 1), ("softmax", 3)])
def test_losses_share_a_row_among_outputs(bits, loss, outputs):
    check(Problem(bits, 70, outputs, loss=loss), INDEX)


@pytest.mark.parametrize("shift", range(8, 15))
def test_every_fraction_of_8_bits(shift):
    check(Problem(8, 100, shift=shift, gain=2.0**-5), INDEX)


@pytest.mark.parametrize("shift", [0, 1, 7, 13, 14])
def test_every_weight_of_h_in_16_bits(shift):
    check(Problem(16, 100, shift=shift), INDEX)


@pytest.mark.parametrize(("bits", "shift"), [(8, 8), (8, 12), (16, 10)])
@pytest.mark.parametrize("decay", [2.0**-20, 2.0**-7, 0.03, 0.4])
def test_the_l2_term_comes_in_lumps(bits, shift, decay):
    check(Problem(bits, 90, shift=shift, decay=decay), INDEX * 3)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("corner", [-1, 1])
def test_extremes(bits, sign, corner):
    """All inputs, codes and gradients at their ends, and coefficients far beyond 16 bits."""
    largest = 2 ** (bits - 1) - 1
    problem = Problem(
        bits,
        200,
        x=np.full((5, 200), sign * largest, TYPES[bits]),
        codes=np.full((1, 256 if bits == 8 else 224), -largest - 1 if corner < 0 else largest),
        h=np.full((1, 256 if bits == 8 else 224), corner * 32767),
        gain=2.0**3,
        shift=8 if bits == 8 else 14,
    )
    slow = check(problem, INDEX)
    assert slow.clipped > 0
    assert slow.saturated > 0


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_codes_do_not_tell_the_number_of_threads(bits, threads):
    problem = Problem(bits, 5000, 2, loss="softmax", decay=2.0**-7)
    index = np.random.default_rng(1).integers(0, 5, 40)
    one = problem.kernel(index)
    many = problem.kernel(index, places=native.Places(threads))
    for a, b in zip(one, many):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("cut", [1, 3, 8, 10])
def test_a_call_cut_in_two_is_one_call(bits, cut):
    problem = Problem(bits, 100, decay=2.0**-7)
    whole = problem.kernel(INDEX)
    half = problem.kernel(INDEX[:cut])
    rest = problem.kernel(INDEX[cut:], first=cut, state=half)
    for a, b in zip(whole, rest):
        np.testing.assert_array_equal(a, b)


def test_steps_beyond_the_count_are_not_taken_and_none_is_nothing():
    problem = Problem(8, 100)
    two = problem.kernel(INDEX[:2])
    state = (jnp.asarray(problem.codes), jnp.asarray(problem.noise), native.nothing_seen())
    for count, wanted in ((2, two), (0, state)):
        found = _halp_steps(
            *state,
            rows=jnp.asarray(problem.rows),
            h=jnp.asarray(problem.h),
            steps=native.Steps(jnp.asarray(INDEX, jnp.int32), jnp.int32(count), jnp.int32(0)),
            at_anchor=jnp.zeros((0,), jnp.float32),
            seed=jnp.asarray(problem.seed),
            scalars=jnp.array([problem.unit, problem.gain, 0], jnp.float32),
            shift=jnp.int32(10),
            loss="squared",
        )
        for a, b in zip(found, wanted):
            np.testing.assert_array_equal(a, b)


def test_a_number_that_is_not_finite_is_told_with_its_step():
    problem = Problem(8, 100, unit=np.inf, codes=np.ones((1, 128)))
    _, _, words = problem.kernel(INDEX)
    assert int(native.seen(words).bad_step) == 0
    assert int(native.seen(words).clipped) > 0


def test_under_vmap_calls_follow_each_other():
    problem = Problem(8, 100)
    shifts = jnp.array([8, 12])

    def run(shift):
        problem.shift = shift
        return problem.kernel(INDEX)[0]

    both = jax.vmap(run)(shifts)
    for shift, codes in zip(shifts, both):
        np.testing.assert_array_equal(codes, run(shift))
