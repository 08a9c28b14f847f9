"""Each verdict of posit_accuracy says *fails* of numbers that contradict its claim."""

import copy

import pytest

from experiments import posit_accuracy as experiment
from experiments.posit_accuracy import CENTRE, FORMATS, SEEDS, UNIFORM, WORST
from lpml import formats


def as_expected():
    """Numbers by the bits of fraction alone; far out as of one bit less each binade."""
    return {name: dict.fromkeys(SEEDS, lines(name)) for name in FORMATS}


def lines(name):
    fmt = formats.by_name(name)
    made = {}
    for k in range(-40, 40):
        if isinstance(fmt, formats.Posit):
            step = k // 2**fmt.es
            bits = fmt.bits - 2 - (step + 1 if step >= 0 else -step) - fmt.es
        else:
            most = 2 ** (fmt.exponent_bits - 1)
            outside = max(k - most + 1, 2 - most - k, 0)
            bits = fmt.mantissa_bits - 4 * outside
        made[k] = {
            "rms_relative_error": UNIFORM * 2.0**-bits,
            "worst_relative_error": 0.99 * WORST.get(name, 0),
            "decimal_accuracy": max(1 + 0.3 * bits, 0),
            "mean_decimal_accuracy": {"bfloat16": 3.0}.get(name, 2.0),
        }
    return made


def verdicts(data):
    return {v.claim: v.verdict for v in experiment.check(data, "default")}


def test_all_claims_hold_of_what_is_expected():
    assert set(verdicts(as_expected()).values()) == {"holds"}


@pytest.mark.parametrize(
    ("name", "metric", "binades", "factor", "claim"),
    [
        ("posit16", "worst_relative_error", CENTRE, 1.02, "largest relative error of posit16 "),
        ("posit8", "worst_relative_error", CENTRE, 0.9, "largest relative error of posit8 "),
        ("posit32", "rms_relative_error", [20], 1.1, "RMS relative errors of posit32 "),
        ("posit16", "rms_relative_error", [-8], 2, "posit16 is more exact than float16"),
        ("posit16es1", "rms_relative_error", [6], 0.5, "posit16es1 is more exact than float16"),
        ("bfloat16", "rms_relative_error", [15], 0.1, "posit16 is more exact than bfloat16"),
        ("float32", "rms_relative_error", [30], 4096, "posit32 is more exact than float32"),
        ("e4m3fn", "rms_relative_error", [0], 1.1, "between 1/16 and 16 posit8 is as exact"),
        ("posit8", "decimal_accuracy", range(-40, 40), 0, "posit8 keeps the order"),
        ("float16", "decimal_accuracy", range(-8, 8), 2, "posit16 has the most decimals"),
    ],
)
def test_a_claim_can_fail(name, metric, binades, factor, claim):
    data = copy.deepcopy(as_expected())
    for k in binades:
        data[name][SEEDS[0]][k][metric] *= factor  # the seeds share their lines
    found = verdicts(data)
    assert [v for c, v in found.items() if c.startswith(claim)] == ["fails"]


def test_half_of_the_codes_is_counted(monkeypatch):
    monkeypatch.setattr(experiment.formats, "by_name", lambda name: formats.Posit(16, es=1))
    assert experiment._half_of_the_codes().verdict == "fails"
