"""The verdicts of `vsq_sqnr` on numbers that were made up: they hold, and each can fail."""

import pytest

from experiments import vsq_claims, vsq_sqnr

SEEDS = (1, 2, 3)
# dB by format and distribution that satisfy every claim; 20 elsewhere
FINE = {
    **{(k, source): v for source, t in vsq_claims.SHORT_BLOCKS.items() for k, v in t.items()},
    **{(k, source): (low + high) / 2 for k, source, low, high in vsq_claims.COARSE},
    ("vsq4v16m4.paper", "gaussian"): 20.7,
    ("vsq4v16m8.paper", "gaussian"): 21.38,
    ("vsq4v16m4.paper", "laplace"): 19.0,
    ("vsq4v16m8", "laplace"): 19.91,
    ("vsq4v16m8.paper", "laplace"): 19.90,
    ("vsq4v16m8.tensor", "laplace"): 19.90,
    ("vsq4v16m8.tensor", "gaussian"): 21.38,
    ("nvfp4", "gaussian"): 20.43,
    ("nvfp4", "student4"): 21.24,
    ("vsq4v16m4.tensor", "student4"): 17.0,
    ("product.int4", "gaussian"): 12.0,
    ("product.vsq4v16m4.4", "gaussian"): 18.5,
    ("mxfp8e4m3", "gaussian"): 30.64,
    ("mxfp8e4m3rceil", "gaussian"): 31.51,
}
# The claim by its first words, and one number that belies it
DOCTORED = [
    ("Gaussian numbers: the SQNR of blocks", "vsq4v32m4", "gaussian", {"sqnr": 20.3}),
    ("Laplace numbers: the SQNR of blocks", "mxfp4", "laplace", {"sqnr": 17.8}),
    ("Gaussian numbers: the SQNR of int4tensor", "int4tensor", "gaussian", {"sqnr": 13.6}),
    ("Gaussian numbers: the SQNR of int4channel", "int4channel", "gaussian", {"sqnr": 15.9}),
    ("Laplace numbers: the SQNR of int4channel", "int4channel", "laplace", {"sqnr": 11.95}),
    ("Gaussian numbers: VSQ (V16 M4)", "int4channel", "gaussian", {"sqnr": 16.2}),
    ("Laplace numbers: VSQ (V16 M4)", "int4channel", "laplace", {"sqnr": 12.1}),
    ("elements rounded by", "vsq4v16m6.paper", "student4", {"sqnr": 20.001}),
    ("Gaussian numbers, V16", "vsq4v16m4.paper", "gaussian", {"sqnr": 20.9}),
    ("Gaussian numbers, V16", "vsq4v16m8.paper", "gaussian", {"sqnr": 21.3}),
    ("one float scale", "vsq4v16m8.tensor", "uneven_rows", {"sqnr": 19.7}),
    ("one float scale", "vsq4v16m4.tensor", "student4", {"sqnr": 19.9}),
    ("W4A4 products: vectors", "product.int4", "gaussian", {"sqnr": 15.1}),
    ("W4A4 products: scale products rounded to 2", "product.vsq4v64m8.10", "gaussian",
     {"sqnr": 19.8}),
    ("W4A4 products: scale products rounded to the", "product.vsq4v16m4.4", "gaussian",
     {"sqnr": 19.5}),
    ("float32 products", "product.vsq4v64m8", "gaussian", {"float_difference": 2e-6}),
    ("int32 holds", "product.long", "gaussian", {"sum_bits": 31.5}),
    ("Gaussian numbers at 4.5", "nvfp4", "gaussian", {"sqnr": 21.5}),
    ("Laplace numbers at 4.5", "nvfp4", "laplace", {"bits_per_element": 4.25}),
    ("Student t numbers at 4.5", "nvfp4", "student4", {"sqnr": 21.0}),
    ("MXFP8 E4M3", "mxfp8e4m3rceil", "gaussian", {"sqnr": 31.2}),
    ("MX exponents", "exponents.mxint8", "any", {"wrong": 1.0}),
    ("MX exponents", "exponents.mxint8", "any", {"wrong_by_log2": 0.0}),
]  # fmt: skip


def made_up():
    """All labels of the experiment with fine numbers."""
    found = {}
    for point in vsq_sqnr.runs("default"):
        label, source, _ = point.name.rsplit("-", 2)
        line = {"sqnr": FINE.get((label, source), 20.0), "bits_per_element": 4.5}
        line |= {"float_difference": 5e-7, "sum_bits": 22.0}
        line |= {"wrong": 0.0, "wrong_by_log2": 212.0}
        found[label, source] = {seed: dict(line) for seed in SEEDS}
    return found


def words(results, size="default"):
    return {verdict.claim: verdict.verdict for verdict in vsq_sqnr.check(results, size)}


def test_fine_numbers_hold():
    assert set(words(made_up()).values()) == {"holds"}


@pytest.mark.parametrize(("claim", "label", "source", "change"), DOCTORED)
def test_a_number_that_belies_a_claim_is_seen(claim, label, source, change):
    for seeds, verdict in ((SEEDS, "fails"), (SEEDS[:1], "undecided")):
        results = made_up()
        for seed in seeds:
            results[label, source][seed] |= change
        found = words(results)
        (ours,) = [each for each in found if each.startswith(claim)]
        assert found[ours] == verdict


def test_every_claim_was_doctored():
    claims = [doctored[0] for doctored in DOCTORED]
    for claim in words(made_up()):
        assert any(claim.startswith(each) for each in claims), claim


def test_points_have_unique_names():
    for size in ("tiny", "default", "paper"):
        names = [point.name for point in vsq_sqnr.runs(size)]
        assert len(set(names)) == len(names)


def test_the_pictures_are_drawn():
    assert vsq_sqnr.draw(made_up()).keys() == {"figure", "cost"}
