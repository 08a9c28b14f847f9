"""Gradients get longer by stochastic rounding the more entries they have, but not if clipped.

Propositions 1 and 2 of Hou, Zhang and Kwok, Analysis of quantized models, ICLR 2019: bounds of
E ||Q(g)||^2 / ||g||^2, whose roots are the factors by which the paper's convergence bounds get
slower. Here they stand beside what normal gradients do, and beside the worst gradient.

    python launch.py --experiment=laq_bounds

The bounds order the effects of bits, size and clipping rightly, but are far from what is
measured: a normal gradient's max |g| sum |g| / ||g||^2 grows as sqrt(2/pi) sqrt(2 log d), the
bound's as sqrt(d). The direction that attains the sharp constant is one large entry above many
equal ones; gradients where a few entries stand out are nearer to it than normal ones.
"""

import math
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import papers
from experiments.curves import in_words
from experiments.style import log_axes
from lpml.runs import Point, Run, Verdict, judge

PAPER = papers.QUANTIZED_MODELS
MINUTES = 2  # of two CPU cores, default size

CONFIG = "configs/laq_bounds.py"
SEEDS = (1, 2, 3)
BITS = (2, 3, 4)
CLIPS = (None, 3.0, 2.0, 1.0)
# Standard errors that a measured mean may lie above its bound: of some 140 means, each below
# its bound, one comes as far by chance in 200 repetitions.
ERRORS = 4
# The share that the measured bias may be off by; of small tensors few entries are cut off.
BIAS_SHARE = {"tiny": 0.3, "default": 0.05, "paper": 0.05}
GROWTH = {"tiny": 1.05, "default": 1.2, "paper": 1.2}
COLORS = {2: ("#D55E00", "o"), 3: ("#0072B2", "s"), 4: ("#009E73", "^")}
LINES = {None: "-", 3.0: "--", 2.0: "-.", 1.0: ":"}
MARKERS = {None: "o", 3.0: "s", 2.0: "^", 1.0: "D"}


class Case(NamedTuple):
    """Bits, threshold of clipping, and whether g is the worst direction."""

    bits: int
    clip: float | None
    spike: bool = False

    @property
    def name(self) -> str:
        """Of its runs."""
        kind = "spike" if self.spike else "normal"
        return f"{kind}-{self.bits}bits" + (f"-clip{self.clip:g}" if self.clip else "")


CASES = (
    *(Case(bits, clip) for bits in BITS for clip in CLIPS),
    *(Case(bits, None, spike=True) for bits in BITS),
)


class Measured(NamedTuple):
    """By number of entries: ||Q(g)||^2 / ||g||^2 with its error, and what clipping cuts off."""

    sizes: np.ndarray
    blow_up: np.ndarray
    error: np.ndarray
    clip_bias: np.ndarray


Results = dict[Case, dict[int, Measured]]


def bound(bits: int, size: float, clip: float | None = None, *, sharp: bool = False) -> float:
    """What E ||Q(g)||^2 / ||g||^2 cannot exceed, with K = 2^(bits-1) - 1.

    Not clipped 1 + (1 + sqrt(2 d - 1)) / (2 K) for the paper's d entries, where sqrt(d) would
    do (`sharp`); clipped 1 + sqrt(2 / pi) c / K for normal entries.
    """
    levels = 2 ** (bits - 1) - 1
    if clip is not None:
        return 1 + math.sqrt(2 / math.pi) * clip / levels
    return 1 + (1 + math.sqrt(size if sharp else 2 * size - 1)) / (2 * levels)


def bias(c: float) -> float:
    """E (Clip(g) - g)^2 of a standard normal g: (1 + c^2) erfc(c / sqrt 2) - 2 c phi(c)."""
    density = math.exp(-c * c / 2) / math.sqrt(2 * math.pi)
    return (1 + c * c) * math.erfc(c / math.sqrt(2)) - 2 * c * density


def runs(size: str) -> list[Point]:
    """Normal gradients with and without clipping, the worst ones without; three seeds."""
    return [
        Point(
            f"{case.name}-seed{seed}",
            f"{CONFIG}:{size}",
            {
                "measurement.bits": case.bits,
                "measurement.clip": case.clip,
                "measurement.spike": case.spike,
                "seed": seed,
            },
        )
        for case in CASES
        for seed in SEEDS
    ]


def load(finished: dict[str, Run]) -> Results:
    """Every line of every log."""
    by_name = {case.name: case for case in CASES}
    found: Results = {}
    for name, run in finished.items():
        case = by_name[name.rpartition("-")[0]]
        columns = (run.series(m)[1] for m in ("size", "blow_up", "error", "clip_bias"))
        found.setdefault(case, {})[run.config["seed"]] = Measured(*columns)
    return found


def draw(results: Results) -> dict[str, Figure]:
    """Left: 2 bits by size, beside the bounds. Middle: slow-downs by bits. Right: the bias."""
    figure = Figure(figsize=(13.5, 5), layout="constrained")
    two_bits, slowness, biases = figure.subplots(1, 3)
    sizes = next(iter(results[CASES[0]].values())).sizes
    for clip in CLIPS:
        name = "not clipped" if clip is None else rf"clipped at {clip:g}$\sigma$"
        shade = {None: "#D55E00", 3.0: "#0072B2", 2.0: "#009E73", 1.0: "#CC79A7"}[clip]
        _plot(two_bits, sizes, results[Case(2, clip)], shade, clip, f"{name}, measured")
        if clip is not None:
            two_bits.axhline(bound(2, 1, clip), color=shade, linestyle=LINES[clip], linewidth=1)
    _plot(two_bits, sizes, results[Case(2, None, spike=True)], "0.5", None, "worst gradient")
    for sharp, line, label in ((False, "-", "the paper's bound"), (True, ":", "sharp bound")):
        two_bits.plot(sizes, [bound(2, d, sharp=sharp) for d in sizes], color="black",
                      linestyle=line, label=label)  # fmt: skip
    two_bits.set(title="2 bits (thin lines: bounds with clipping)",
                 ylabel="E ||Q(g)||² / ||g||²")  # fmt: skip
    two_bits.set_yscale("log")
    log_axes(two_bits)
    for bits in BITS:
        for clip in (None, 3.0):
            label = f"{bits} bits" + (rf", clipped at {clip:g}$\sigma$" if clip else "")
            root = {
                seed: m._replace(blow_up=np.sqrt(m.blow_up))
                for seed, m in results[Case(bits, clip)].items()
            }
            color, marker = COLORS[bits]
            style = dict(marker=marker, mfc="white" if clip else color)
            _plot(slowness, sizes, root, color, clip, label, **style)
    slowness.set(title="implied slow-down", ylabel="√(E ||Q(g)||² / ||g||²)")
    for axes in (two_bits, slowness):
        axes.set_xscale("log")
        axes.set_xlabel("entries of the tensor d")
    fine = np.linspace(0.8, 3.2, 100)
    biases.plot(fine, [bias(c) for c in fine], color="black", label="(2/π)$^{1/2}$ F(c)")
    for place, size in enumerate(sizes):
        clips = [clip for clip in CLIPS if clip is not None]
        seen = [_mean(results[Case(2, c)], "clip_bias")[place] for c in clips]
        biases.plot(clips, seen, "osD^v"[place % 5], mfc="none", color=f"C{place}",
                    label=f"measured, d = {size:.0f}")  # fmt: skip
    biases.set(title="what clipping cuts off", xlabel="threshold c (standard deviations)",
               ylabel="E ||Clip(g) - g||² / E ||g||²", yscale="log")  # fmt: skip
    log_axes(biases)
    for axes in (two_bits, slowness, biases):
        axes.legend(fontsize=8)
        axes.grid(True, color="0.88")
    slowness.set_ylim(top=2.6)  # room for the legend
    figure.suptitle(f"Stochastic rounding of normal gradients (means over {len(SEEDS)} seeds)")
    return {"figure": figure}


def _plot(axes, sizes, by_seed, color, clip, label, **style):
    style = dict(color=color, linestyle=LINES[clip], marker=MARKERS[clip]) | style
    axes.plot(sizes, _mean(by_seed, "blow_up"), label=label, **style)


def _mean(by_seed, name):
    return np.mean([getattr(m, name) for m in by_seed.values()], axis=0)


def check(results: Results, size: str) -> list[Verdict]:
    """The bounds hold, clipping frees from the size, the bias is F(c); how far they are off."""
    clipped = [Case(bits, clip) for bits in BITS for clip in CLIPS if clip]
    free = [Case(bits, None) for bits in BITS]
    worst = [Case(bits, None, spike=True) for bits in BITS]
    return [
        _below("not clipped: measured is below the paper's bound and below the sharp one",
               results, [*free, *worst]),
        _below("clipped: measured is below the bound without a size", results, clipped),
        _growth("clipped: from the smallest to the largest tensor it grows by less than 6 %",
                results, clipped, below=1.06),
        _growth(f"not clipped: with 2 bits it grows by more than {GROWTH[size] - 1:.0%}",
                results, free[:1], above=GROWTH[size]),
        _attained(results, worst),
        _pessimism(results),
        _bias(results, BIAS_SHARE[size]),
    ]  # fmt: skip


def _outcomes(results, holds):
    return {seed: holds(seed) for seed in results[CASES[0]]}


def _below(claim, results, cases):
    def found(seed):
        for case in cases:
            seen = results[case][seed]
            for d, blow_up, error in zip(seen.sizes, seen.blow_up, seen.error):
                most = bound(case.bits, d, case.clip, sharp=case.clip is None)
                yield blow_up / most, (blow_up - most) / error

    every = [pair for seed in results[CASES[0]] for pair in found(seed)]
    return judge(
        claim,
        _outcomes(results, lambda seed: all(errors <= ERRORS for _, errors in found(seed))),
        measured=f"measured / bound: {in_words(ratio for ratio, _ in every)}; at most "
        f"{max(errors for _, errors in every):.2g} standard errors above it",
        expected=f"no more than {ERRORS} standard errors above the bound",
    )


def _growth(claim, results, cases, *, below=math.inf, above=0.0):
    grown = {
        seed: [m.blow_up[-1] / m.blow_up[0] for m in (results[c][seed] for c in cases)]
        for seed in results[CASES[0]]
    }
    return judge(
        claim,
        {seed: above < min(v) and max(v) < below for seed, v in grown.items()},
        measured="largest / smallest tensor: " + in_words(x for v in grown.values() for x in v),
        expected=f"above {above:g}" if above else f"below {below:g}",
    )


def _attained(results, worst):
    """SQ2 of the worst direction has E ||Q(g)||^2 = max |g| sum |g|, the bound less 1."""
    close = {
        seed: [
            results[c][seed].blow_up[-1] / bound(c.bits, results[c][seed].sizes[-1], sharp=True)
            for c in worst
        ]
        for seed in results[CASES[0]]
    }
    return judge(
        "the sharp bound is nearly attained: by the worst gradient, in the largest tensor",
        {seed: min(v) > 0.95 for seed, v in close.items()},
        measured="measured / sharp bound: " + in_words(x for v in close.values() for x in v),
        expected="above 0.95",
    )


def _pessimism(results):
    """With 2 bits, in roots, as these are what the convergence bounds are slower by."""
    seen = {seed: results[Case(2, None)][seed] for seed in results[CASES[0]]}
    factor = {s: math.sqrt(bound(2, m.sizes[-1]) / m.blow_up[-1]) for s, m in seen.items()}
    largest = int(next(iter(seen.values())).sizes[-1])
    clipped = [results[Case(2, 3.0)][seed].blow_up[-1] for seed in seen]
    return judge(
        f"not clipped: of {largest} normal entries the slow-down of SQ2 is below a third of "
        "the bound's",
        {seed: x > 3 for seed, x in factor.items()},
        measured=f"bound {math.sqrt(bound(2, largest)):.3g}, measured "
        f"{in_words(math.sqrt(m.blow_up[-1]) for m in seen.values())}: pessimistic by "
        f"{in_words(factor.values())}; clipped at 3 sigma: bound "
        f"{math.sqrt(bound(2, 1, 3.0)):.3g}, measured {in_words(map(math.sqrt, clipped))}",
        expected="pessimistic by more than 3",
    )


def _bias(results, share):
    """At the largest size, where the draws of 16 gradients are the most."""
    ratios = {
        clip: {
            seed: results[Case(2, clip)][seed].clip_bias[-1] / bias(clip)
            for seed in results[CASES[0]]
        }
        for clip in CLIPS
        if clip
    }
    return judge(
        f"largest tensor: clipping cuts off (2/pi)^(1/2) F(c) within {share:.0%}",
        _outcomes(results, lambda s: all(abs(r[s] - 1) < share for r in ratios.values())),
        measured="; ".join(
            f"c = {c:g}: {in_words(r.values())} of {bias(c):.3g}" for c, r in ratios.items()
        ),
        expected=f"1 within {share:g}",
    )
