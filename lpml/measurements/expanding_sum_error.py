"""How far sums of narrow products are from exact: a rounding for two products, or for each."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lpml import formats
from lpml.formats.exsdotp import unit_of
from lpml.measurements.measurement import Lines, Measurement

METRICS = (
    "exsdotp_error",
    "exfma_error",
    "ratio",
    "at_least_as_good",
    "three_times",
    "exsdotp_random_walk",
    "exfma_random_walk",
    "length",
)


def expanding_sum_error(
    *, source: str = "e5m2", into: str = "float16", length: int = 2000, every: int = 100,
    trials: int = 20000,
) -> Measurement:  # fmt: skip
    """Errors of ExSdotp and of a cascade of ExFMAs over the same sums of Gaussian products.

    A trial adds `length` products of standard normal numbers rounded to `source`, in order of
    the index, to an accumulator in `into` that starts at 0. ExSdotp takes two products at a
    time and rounds once, the cascade rounds after each. The reference is the float64 sum of
    the products, rounded to `into` (MiniFloat-NN's Table IV). Both units see the same numbers.

    A line for every `every` products gives, over all trials and the first `length` products:
      exsdotp_error, exfma_error: RMS(sum - reference) / RMS(reference).
      ratio: of the first to the second.
      at_least_as_good: share of trials in which ExSdotp is no further off.
      three_times: share of trials in which ExFMA is at least three times as far off.
      exsdotp_random_walk, exfma_random_walk: what the errors would be were the single
        roundings uncorrelated, sqrt(mean(sum of squared rounding errors)) / RMS(reference).

    Args:
      source: format of the factors, by name (see `lpml.formats.by_name`): a minifloat of at
        most 12 significant bits.
      into: format of the sums: an IEEE-like minifloat that holds `source`.
      length: products in a sum.
      every: products from line to line: even, and a divisor of `length`.
      trials: sums, >= 1.

    Raises:
      ValueError: formats that the units do not have, a number out of range, or a run without
        `precision = "float64"`.
    """
    pair = formats.by_name(source), formats.by_name(into)
    unit_of(*pair)  # refuses what is no pair of the units
    if trials < 1:
        raise ValueError(f"trials = {trials} must be positive")
    if every < 2 or every % 2:
        raise ValueError(f"every = {every} must be even, as ExSdotp takes products by twos")
    if length < every or length % every:
        raise ValueError(f"length = {length} must be a multiple of every = {every}")
    if jnp.result_type(float) != jnp.float64:
        raise ValueError("the reference needs config.precision = 'float64'")

    def lines(seed: int) -> Lines:
        random = np.random.default_rng(seed)
        advance, sums = _adding(*pair), _nothing(trials)
        for count in range(every, length + 1, every):
            sums = advance(sums, *random.standard_normal((2, every, trials)))
            reference = np.asarray(pair[1].round(sums.exact))
            yield {**_compared(sums, reference), "length": float(count)}

    return Measurement(lines, length // every, METRICS)


class Sums(NamedTuple):
    """What has been added up so far, (trials,)."""

    exact: Any  # float64
    exsdotp: Any  # float32, values of the accumulator's format
    exfma: Any
    exsdotp_squares: Any  # float64, squares of the rounding errors of all additions
    exfma_squares: Any


def _nothing(trials):
    wide, narrow = jnp.zeros(trials), jnp.zeros(trials, jnp.float32)
    return Sums(wide, narrow, narrow, wide, wide)


def _adding(source: Any, into: Any) -> Callable[..., Sums]:
    """The function that adds the products of (an even number, trials) factors."""
    units = {"source": source, "into": into}

    def step(sums, factors):
        a, b, c, d = factors
        first, second = _product(a, b), _product(c, d)
        fused = formats.exsdotp(a, b, c, d, sums.exsdotp, **units)
        half = formats.exfma(a, b, sums.exfma, **units)
        cascaded = formats.exfma(c, d, half, **units)
        return Sums(
            sums.exact + first + second,
            fused,
            cascaded,
            sums.exsdotp_squares + _squared_error(fused, sums.exsdotp, first + second),
            sums.exfma_squares
            + _squared_error(half, sums.exfma, first)
            + _squared_error(cascaded, half, second),
        ), None

    @jax.jit
    def advance(sums, left, right):
        left, right = (source.round(x).astype(jnp.float32) for x in (left, right))
        return jax.lax.scan(step, sums, (left[::2], right[::2], left[1::2], right[1::2]))[0]

    return advance


def _product(a, b):
    return a.astype(jnp.float64) * b.astype(jnp.float64)


def _squared_error(after, before, added):
    """Of one rounding; float64 has 29 bits more than the longest accumulator."""
    return (after.astype(jnp.float64) - before.astype(jnp.float64) - added) ** 2


def _compared(sums, reference):
    exsdotp, exfma = (
        np.abs(np.asarray(x, np.float64) - reference) for x in (sums.exsdotp, sums.exfma)
    )
    size = _rms(reference)
    one, two = _rms(exsdotp), _rms(exfma)
    return {
        "exsdotp_error": one / size,
        "exfma_error": two / size,
        "ratio": 1.0 if one == two else one / two,  # short sums may be exact in both
        "at_least_as_good": np.mean(exsdotp <= exfma),
        "three_times": np.mean((exfma >= 3 * exsdotp) & (exfma > 0)),
        "exsdotp_random_walk": np.sqrt(np.mean(sums.exsdotp_squares)) / size,
        "exfma_random_walk": np.sqrt(np.mean(sums.exfma_squares)) / size,
    }


def _rms(x):
    return np.sqrt(np.mean(np.square(x)))
