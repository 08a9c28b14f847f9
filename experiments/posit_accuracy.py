"""Posits of 16 and 32 bits have more digits than floats around 1, fewer far away, and reach on.

Decimal accuracy along the number line, after Gustafson and Yonemoto, Beating floating point at
its own game: posit arithmetic, 2017: minus log10 of the error of log10 x, here of its RMS over
the numbers of a binade.

    python launch.py --experiment=posit_accuracy

A posit of es exponent bits loses a bit of its fraction for every 2^es binades away from 1. So
posit16 (es 2) has 11 bits from 2^-4 to 2^4, one more than float16, as many up to 2^+-8, and
fewer beyond, until float16 overflows or goes subnormal. With es 1 it has 12 bits around 1 and
falls behind at 2^+-6. At posit8's ends the exponent's own bits are cut, so that neighbours lie
two or four binades apart: there the curve dips between values.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import papers
from experiments.curves import in_words
from lpml import formats
from lpml.runs import Point, Run, Verdict, judge

PAPER = papers.POSITS
MINUTES = 0.5  # of two CPU cores, default size

CONFIG = "configs/posit_accuracy.py"
SEEDS = (1, 2, 3)


class Style(NamedTuple):
    """A format's width and how it is drawn."""

    bits: int
    color: str
    line: str
    width: float = 1.6


# Posits solid and in the warm colours, floats dashed, so that equal stretches show both.
FORMATS = {
    "posit16": Style(16, "#D55E00", "-", 2.6),
    "posit16es1": Style(16, "#E69F00", "-"),
    "float16": Style(16, "#0072B2", "--"),
    "bfloat16": Style(16, "#000000", ":"),
    "posit8": Style(8, "#D55E00", "-", 2.6),
    "e4m3fn": Style(8, "#0072B2", "--"),
    "e5m2": Style(8, "#000000", ":"),
    "posit32": Style(32, "#D55E00", "-", 2.6),
    "float32": Style(32, "#0072B2", "--"),
}
# Largest relative errors between 1/16 and 16: half a step just above a power of two.
WORST = {"posit16": 2**-12, "posit16es1": 2**-12, "posit8": 1 / 17}
# RMS relative errors follow the bits of the fraction in these, down to FEWEST of them; below,
# a binade has too few steps for errors to be uniform.
FOLLOWING = ("posit8", "posit16", "posit16es1", "posit32", "float16")
FEWEST = 3
# RMS of an error uniform within half a step, 2^-f, over x of uniform logarithm in [1, 2):
# sqrt(1/12) times sqrt(mean(1 / x^2)).
UNIFORM = np.sqrt(3 / (12 * 8 * np.log(2)))
# More exact by how much; errors of neighbouring numbers of bits differ by a factor of two.
CLEAR = 1.1
CENTRE = range(-4, 4)  # binades from 1/16 to 16

Curves = dict[str, dict[int, dict[int, dict[str, float]]]]
"""Lines of the log by format, seed and exponent of the binade."""


def runs(size: str) -> list[Point]:
    """All formats, three seeds."""
    return [
        Point(f"{name}-seed{seed}", f"{CONFIG}:{size}", _setting(name, seed))
        for name in FORMATS
        for seed in SEEDS
    ]


def _setting(name, seed):
    return {"measurement.format": name, "seed": seed}


def load(finished: dict[str, Run]) -> Curves:
    """All lines of the log."""
    found: Curves = {}
    for run in finished.values():
        by_seed = found.setdefault(run.config["measurement"]["format"], {})
        by_seed[run.config["seed"]] = {int(line["exponent"]): line for line in run.metrics}
    return found


def draw(curves: Curves) -> dict[str, Figure]:
    """Decimal accuracy by magnitude, a panel for each width."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    for axes, bits in zip(figure.subplots(1, 3), (8, 16, 32)):
        for name, style in FORMATS.items():
            if style.bits == bits:
                _draw(axes, name, style, curves[name])
        axes.axvspan(CENTRE.start, CENTRE.stop, color="0.92", zorder=0)
        axes.set_xticks(range(-40, 41, 10), [f"$2^{{{k}}}$" for k in range(-40, 41, 10)])
        axes.set(xlabel="magnitude", ylabel="decimal accuracy", title=f"{bits} bits")
        axes.set_ylim(6 if bits == 32 else 0, 1.15 * axes.get_ylim()[1])
        axes.grid(True, color="0.88", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.legend(loc="upper center", ncols=2, fontsize="small")
    figure.suptitle(
        "Digits that survive rounding, -log10 of the RMS error of log10 x by binade "
        f"(means over {len(SEEDS)} seeds; grey: 1/16 to 16)"
    )
    return {"figure": figure}


def _draw(axes, name, style, by_seed):
    exponents = sorted(next(iter(by_seed.values())))
    means = [_mean(by_seed, k, "decimal_accuracy") for k in exponents]
    axes.step(
        [*exponents, exponents[-1] + 1],
        [*means, means[-1]],
        where="post",
        label=name,
        color=style.color,
        linestyle=style.line,
        linewidth=style.width,
        snap=False,  # else noise of a thousandth is drawn as a pixel
    )


def _mean(by_seed, exponent, metric):
    return float(np.mean([lines[exponent][metric] for lines in by_seed.values()]))


def check(curves: Curves, size: str) -> list[Verdict]:
    """Errors between 1/16 and 16, by binade, against floats, and the range."""
    return [
        *(_worst(curves, name, tiny=size == "tiny") for name in WORST),
        *(_rms(curves, name, tiny=size == "tiny") for name in FOLLOWING),
        _beats(curves, "posit16", no_worse=8),
        _beats(curves, "posit16es1", no_worse=6),
        _beats_wider_range(curves, "posit16", "bfloat16"),
        _beats_wider_range(curves, "posit32", "float32"),
        _eight_bits(curves),
        _range(curves),
        _means(curves),
        _half_of_the_codes(),
    ]


def _worst(curves, name, *, tiny):
    bound = WORST[name]
    found = {
        s: max(lines[k]["worst_relative_error"] for k in CENTRE)
        for s, lines in curves[name].items()
    }
    below = 0.1 if tiny else 0.02  # the worst place lies between the samples
    return judge(
        f"largest relative error of {name} between 1/16 and 16",
        {s: (1 - below) * bound < error <= bound for s, error in found.items()},
        measured=_four(found.values()),
        expected=f"at most {bound:.4g}, and within {below:.0%}",
    )


def _rms(curves, name, *, tiny):
    fraction = _fraction_bits(formats.by_name(name), curves[name][SEEDS[0]])
    shares = {
        s: [lines[k]["rms_relative_error"] / (UNIFORM * 2.0**-f) for k, f in fraction.items()]
        for s, lines in curves[name].items()
    }
    at_1 = [lines[0]["rms_relative_error"] for lines in curves[name].values()]
    within = 0.05 if tiny else 0.02  # the noise of an RMS, at most four of its deviations
    return judge(
        f"RMS relative errors of {name} are 0.2123 2^-f for f bits of fraction, in "
        f"{len(fraction)} binades",
        {s: bool(np.all(np.abs(np.array(f) - 1) < within)) for s, f in shares.items()},
        measured=f"at 1: {in_words(at_1)}; measured / expected: {in_words(_all(shares))}",
        expected=f"at 1: {UNIFORM * 2.0 ** -fraction[0]:.3g}; 1 within {within:.0%}",
    )


def _fraction_bits(fmt, binades):
    """By exponent, where there are enough; a posit's regime takes what floats have fixed."""
    if isinstance(fmt, formats.Posit):
        steps = {k: k // 2**fmt.es for k in binades}
        runs = {k: step + 1 if step >= 0 else -step for k, step in steps.items()}
        bits = {k: fmt.bits - 2 - run - fmt.es for k, run in runs.items()}
    else:
        most = 2 ** (fmt.exponent_bits - 1)
        bits = {k: fmt.mantissa_bits for k in binades if 2 - most <= k < most}
    return {k: f for k, f in bits.items() if f >= FEWEST}


def _beats(curves, name, *, no_worse):
    """Against float16, in the range of its normal numbers."""
    normal = range(-14, 16)
    sides = _sides(curves, name, "float16", normal)
    wanted = (
        list(CENTRE),
        [k for k in normal if not -no_worse <= k < no_worse],
    )
    return judge(
        f"{name} is more exact than float16 from 2^-4 to 2^4, no less from 2^-{no_worse} to "
        f"2^{no_worse}, and less beyond, to the ends of float16's normal numbers",
        {s: found == wanted for s, found in sides.items()},
        measured=f"more exact: {_spans(sides, 0)}; less exact: {_spans(sides, 1)}",
        expected=f"{_span(wanted[0])}; {_span(wanted[1])}",
    )


def _beats_wider_range(curves, name, peer):
    sides = _sides(curves, name, peer, range(-40, 40))
    wanted = list(range(-16, 16)), [*range(-40, -20), *range(20, 40)]
    return judge(
        f"{name} is more exact than {peer} from 2^-16 to 2^16, and less beyond 2^+-20",
        {s: found == wanted for s, found in sides.items()},
        measured=f"more exact: {_spans(sides, 0)}; less exact: {_spans(sides, 1)}",
        expected=f"{_span(wanted[0])}; {_span(wanted[1])}",
    )


def _sides(curves, name, peer, binades):
    """By seed, the binades in which a format is clearly more and clearly less exact."""
    ratios = {
        s: {
            k: lines[k]["rms_relative_error"] / curves[peer][s][k]["rms_relative_error"]
            for k in binades
        }
        for s, lines in curves[name].items()
    }
    return {
        s: (
            [k for k, ratio in found.items() if ratio < 1 / CLEAR],
            [k for k, ratio in found.items() if ratio > CLEAR],
        )
        for s, found in ratios.items()
    }


def _eight_bits(curves):
    """Errors of the 8-bit floats over posit8's, between 1/16 and 16."""
    shares = {
        s: [
            [
                curves[peer][s][k]["rms_relative_error"] / lines[k]["rms_relative_error"]
                for k in CENTRE
            ]
            for peer in ("e4m3fn", "e5m2")
        ]
        for s, lines in curves["posit8"].items()
    }
    same, twice = (np.concatenate([found[i] for found in shares.values()]) for i in (0, 1))
    return judge(
        "between 1/16 and 16 posit8 is as exact as e4m3fn and twice as exact as e5m2",
        {
            s: bool(np.allclose(found[0], 1, rtol=0.01) and np.allclose(found[1], 2, rtol=0.05))
            for s, found in shares.items()
        },
        measured=f"RMS error of e4m3fn and of e5m2 / of posit8: {in_words(same)}; "
        f"{in_words(twice)}",
        expected="1 within 1%; 2 within 5%",
    )


def _range(curves):
    """Binades in which at least the order of magnitude is right."""
    names = ("posit8", "e5m2", "e4m3fn")
    counts = {
        s: [sum(line["decimal_accuracy"] > 0 for line in curves[n][s].values()) for n in names]
        for s in curves["posit8"]
    }
    spans = [np.log2(f.largest / f.smallest) for f in map(formats.by_name, names)]
    return judge(
        "posit8 keeps the order of magnitude over more binades than e5m2, that over more than "
        "e4m3fn",
        {s: found[0] > found[1] > found[2] for s, found in counts.items()},
        measured=f"binades: {_lists(counts)}",
        expected="descending; from the smallest to the largest value there are "
        + ", ".join(f"{span:.1f}" for span in spans),
    )


def _means(curves):
    """Mean decimals near 1 and over the whole range, in the order of `names`."""
    names = ("posit16", "float16", "bfloat16")
    near = {
        s: [np.mean([curves[n][s][k]["decimal_accuracy"] for k in range(-8, 8)]) for n in names]
        for s in SEEDS
    }
    far = {
        s: [curves[n][s][max(curves[n][s])]["mean_decimal_accuracy"] for n in names]
        for s in SEEDS
    }
    return judge(
        "posit16 has the most decimals in the mean from 2^-8 to 2^8, bfloat16 from 2^-40 to "
        "2^40",
        {s: near[s][0] == max(near[s]) and far[s][2] == max(far[s]) for s in SEEDS},
        measured=f"posit16, float16, bfloat16: {_lists(near)}, and {_lists(far)}",
        expected="posit16 first, then bfloat16",
    )


def _half_of_the_codes():
    names = ("posit8", "posit16")
    shares = []
    for name in names:
        size = np.abs(formats.by_name(name).values())
        shares.append(np.mean((size >= 1 / 16) & (size < 16)))
    return judge(
        "half of all values of posit8 and posit16 lie between 1/16 and 16",
        dict.fromkeys(SEEDS, all(abs(share - 0.5) < 0.005 for share in shares)),
        measured=", ".join(f"{share:.4f}" for share in shares),
        expected="0.5 within 0.005",
    )


def _all(by_seed):
    return np.concatenate(list(by_seed.values()))


def _four(values):
    """As `in_words`, with four digits."""
    numbers = list(values)
    return f"{min(numbers):.4g} to {max(numbers):.4g}"


def _lists(by_seed):
    """Lists of numbers, those of different seeds apart only where they differ in print."""
    texts = dict.fromkeys(", ".join(f"{n:.3g}" for n in found) for found in by_seed.values())
    return " or ".join(texts)


def _spans(sides, side):
    return " or ".join(dict.fromkeys(_span(found[side]) for found in sides.values()))


def _span(binades: Sequence[int]) -> str:
    """Ascending exponents of binades as intervals: `2^-4 to 2^4`."""
    starts = [k for k in binades if k - 1 not in binades]
    ends = [k + 1 for k in binades if k + 1 not in binades]
    return " and ".join(f"2^{a} to 2^{b}" for a, b in zip(starts, ends)) or "nowhere"
