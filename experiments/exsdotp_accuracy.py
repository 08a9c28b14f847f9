"""Rounding once for two products makes long sums up to 1.4 times as exact, not three times.

Table IV of Bertaccini et al., MiniFloat-NN and ExSdotp, ARITH 2022, arXiv 2207.03192: relative
errors of sums of n Gaussian products, by ExSdotp (a b + c d + e, rounded once) and by a cascade
of two expanding fused multiply-adds (rounded twice).

    python launch.py --experiment=exsdotp_accuracy

The table gives one number for each case: FP8 into FP16 2.7e-3 against 8.2e-3 at n = 1000 and
3.9e-3 against 1.2e-2 at n = 2000; FP16 into FP32 5.4e-7 against 9.9e-7 at n = 2000. The bands
below are those of an independent prototype with 4000 sums.

Where it fails: the table's numbers look like single sums. Over 20 000 sums the ratio of RMS
errors is near 1/sqrt(2), because half as many roundings walk at random; it is nearer to 1 where
many roundings change nothing, those of products of few bits.
"""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import papers
from experiments.curves import in_words
from experiments.style import log_axes
from lpml.runs import Point, Run, Verdict, judge

PAPER = papers.EXSDOTP
MINUTES = 1  # of two CPU cores, default size

CONFIG = "configs/exsdotp_accuracy.py"
SEEDS = (1, 2, 3)
TICKS = (100, 200, 500, 1000, 2000)
HALF_AS_MANY = 2**-0.5


class Pair(NamedTuple):
    """Formats of factors and of sums, how they are drawn, and what is expected at n = 2000."""

    source: str
    into: str
    color: str
    marker: str
    error: float  # of ExSdotp
    ratio: float  # to ExFMA's
    within: float  # of the ratio

    @property
    def label(self) -> str:
        """In words."""
        return f"{self.source} into {self.into}"


E5M2 = Pair("e5m2", "float16", "#D55E00", "o", 4.4e-3, 0.78, 0.06)
E4M3 = Pair("e4m3", "float16", "#E69F00", "s", 4.7e-3, 0.73, 0.05)
WIDE = Pair("e5m2", "bfloat16", "#CC79A7", "^", 3.7e-2, 0.73, 0.05)
FLOAT16 = Pair("float16", "float32", "#0072B2", "D", 5.6e-7, 0.70, 0.04)
BFLOAT16 = Pair("bfloat16", "float32", "#009E73", "v", 3.5e-7, 0.92, 0.04)
PAIRS = (E5M2, E4M3, WIDE, FLOAT16, BFLOAT16)
ERROR_WITHIN = 0.10
# The paper's relative errors at n = 2000: ExSdotp, ExFMA.
PUBLISHED = {E5M2: (3.9e-3, 1.2e-2), FLOAT16: (5.4e-7, 9.9e-7)}

Errors = dict[Pair, dict[int, dict[str, np.ndarray]]]
"""The metrics of `expanding_sum_error` along the length, by pair and seed."""


def runs(size: str) -> list[Point]:
    """All pairs, three seeds; a run goes through all lengths."""
    return [
        Point(
            f"{pair.source}-{pair.into}-seed{seed}",
            f"{CONFIG}:{size}",
            {"measurement.source": pair.source, "measurement.into": pair.into, "seed": seed},
        )
        for pair in PAIRS
        for seed in SEEDS
    ]


def load(finished: dict[str, Run]) -> Errors:
    """All metrics at every line of the log."""
    pairs = {(pair.source, pair.into): pair for pair in PAIRS}
    found: Errors = {}
    for run in finished.values():
        setting = run.config["measurement"]
        pair = pairs[setting["source"], setting["into"]]
        metrics = {name: run.series(name)[1] for name in run.metrics[0] if name != "step"}
        found.setdefault(pair, {})[run.config["seed"]] = metrics
    return found


def draw(errors: Errors) -> dict[str, Figure]:
    """Left: errors of both units by length. Right: their ratio."""
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    axes = figure.subplot_mosaic([["narrow", "ratio"], ["wide", "ratio"]])
    for pair in PAIRS:
        lengths = _mean(errors[pair], "length")
        marked = [i for i, n in enumerate(lengths) if n in TICKS]
        style = {"color": pair.color, "marker": pair.marker, "markevery": marked}
        place = axes["wide" if pair.into == "float32" else "narrow"]
        error = {unit: _mean(errors[pair], f"{unit}_error") for unit in ("exsdotp", "exfma")}
        place.loglog(lengths, error["exsdotp"], **style)
        place.loglog(lengths, error["exfma"], **style, linestyle="--", markerfacecolor="white")
        axes["ratio"].semilogx(lengths, _mean(errors[pair], "ratio"), label=pair.label, **style)
    for name, title in (("narrow", "8-bit factors"), ("wide", "16-bit factors")):
        log_axes(axes[name])
        low, high = np.log10(axes[name].get_ylim())
        axes[name].set_ylim(10 ** np.floor(low), 10 ** np.ceil(high))
        axes[name].set(ylabel="RMS error / RMS sum", title=title)
        solid, dashed = (axes[name].plot([], [], color="black", ls=ls)[0] for ls in ("-", "--"))
        axes[name].legend([solid, dashed], ["ExSdotp", "two ExFMAs"])
    _finish_ratio(axes["ratio"], lengths[0])
    for place in axes.values():
        place.set_xlabel("products in a sum n")
        ticks = [n for n in TICKS if n <= lengths[-1]]
        place.set_xticks(ticks, [str(n) for n in ticks])
        place.minorticks_off()
    figure.suptitle(
        f"Sums of Gaussian products against float64 (means over {len(SEEDS)} seeds)"
    )
    figure.legend(
        *axes["ratio"].get_legend_handles_labels(), loc="outside lower center", ncols=5
    )
    return {"figure": figure}


def _finish_ratio(axes, shortest):
    axes.axhline(HALF_AS_MANY, color="black", linewidth=1, linestyle=":")
    axes.text(shortest, HALF_AS_MANY - 0.004, r"$1/\sqrt{2}$", va="top")
    axes.set(title="ratio of the errors", ylim=(0.65, 1))
    axes.set_ylabel("RMS error of ExSdotp / of two ExFMAs")
    axes.grid(True, color="0.88", linewidth=0.8)


def _mean(by_seed, name):
    return np.mean([metrics[name] for metrics in by_seed.values()], axis=0)


def check(errors: Errors, size: str) -> list[Verdict]:
    """The bands, the explanation, and what of the paper's table holds over many sums."""
    most = int(errors[E5M2][SEEDS[0]]["length"][-1])
    verdicts = [_better(errors, most), _explained(errors, most, tiny=size == "tiny")]
    if size == "tiny":  # short sums of few trials: most of them are exact in both units
        return verdicts
    return [
        *(_banded(pair, errors[pair]) for pair in PAIRS),
        *verdicts,
        _half_as_many(errors),
        _fewer_bits(errors),
        _growth(errors),
        *_published(errors),
    ]


def _better(errors, most):
    worst = {s: max(errors[p][s]["ratio"][-1] for p in PAIRS) for s in SEEDS}
    return judge(
        f"at n = {most} ExSdotp has the smaller RMS error in every pair of formats",
        {s: ratio < 1 for s, ratio in worst.items()},
        measured=f"largest ratio to ExFMA: {in_words(worst.values())}",
        expected="< 1",
        paper="smaller or equal in each of the six rows that give both",
    )


def _banded(pair, by_seed):
    ratio = _at(by_seed, "ratio", 2000)
    error = _at(by_seed, "exsdotp_error", 2000)
    fits = {
        s: abs(ratio[s] - pair.ratio) <= pair.within
        and abs(error[s] / pair.error - 1) <= ERROR_WITHIN
        for s in by_seed
    }
    return judge(
        f"{pair.label}, n = 2000: error of ExSdotp, and its ratio to ExFMA's",
        fits,
        measured=f"{in_words(error.values())}; {in_words(ratio.values())}",
        expected=f"{pair.error:.2g} within {ERROR_WITHIN:.0%}; "
        f"{pair.ratio:.2f} within {pair.within:.2f}",
    )


def _explained(errors, most, *, tiny):
    """Errors of uncorrelated roundings, over those measured: all pairs, both units."""
    shares = {
        s: [
            errors[p][s][f"{unit}_random_walk"][-1] / errors[p][s][f"{unit}_error"][-1]
            for p in PAIRS
            for unit in ("exsdotp", "exfma")
        ]
        for s in SEEDS
    }
    within = 0.15 if tiny else 0.05  # fewer sums, a noisier RMS
    return judge(
        f"the roundings of a sum are uncorrelated (n = {most}, all pairs, both units)",
        {s: bool(np.all(np.abs(np.array(share) - 1) < within)) for s, share in shares.items()},
        measured="sqrt(mean(sum of squared roundings)) / RMS error: "
        f"{in_words(np.concatenate(list(shares.values())))}",
        expected=f"1 within {within:.0%}",
    )


def _half_as_many(errors):
    ratio = _at(errors[FLOAT16], "ratio", 2000)
    return judge(
        "where hardly any sum is exact (float16 into float32) half as many roundings make the "
        "error 1/sqrt(2)",
        {s: abs(r - HALF_AS_MANY) < 0.03 for s, r in ratio.items()},
        measured=f"ratio at n = 2000: {in_words(ratio.values())}",
        expected=f"{HALF_AS_MANY:.3f} within 0.03",
    )


def _fewer_bits(errors):
    gains = [_at(errors[pair], "ratio", 2000) for pair in (FLOAT16, BFLOAT16)]
    narrow = [_at(errors[pair], "ratio", 2000) for pair in (E4M3, E5M2)]
    return judge(
        "products of fewer bits gain less: bfloat16 less than float16, e5m2 less than e4m3",
        {s: all(few[s] > many[s] for many, few in (gains, narrow)) for s in SEEDS},
        measured=f"ratio to ExFMA's error: {in_words(gains[1].values())} against "
        f"{in_words(gains[0].values())}, and {in_words(narrow[1].values())} against "
        f"{in_words(narrow[0].values())}",
        expected="greater in each seed",
    )


def _growth(errors):
    powers = {
        s: [
            np.log(errors[p][s]["exsdotp_error"][-1] / errors[p][s]["exsdotp_error"][0])
            / np.log(errors[p][s]["length"][-1] / errors[p][s]["length"][0])
            for p in PAIRS
        ]
        for s in SEEDS
    }
    return judge(
        "errors relative to the sum grow like sqrt(n) from n = 100 to 2000",
        {s: all(0.4 <= power <= 0.6 for power in found) for s, found in powers.items()},
        measured=f"power of n, all pairs: {in_words(np.concatenate(list(powers.values())))}",
        expected="0.4 to 0.6",
    )


def _published(errors):
    """The paper's table, as far as numbers of single sums can be judged."""
    gains = {
        s: [1 / _at(errors[E5M2], "ratio", n)[s] for n in (1000, 2000)] for s in errors[E5M2]
    }
    far = {
        s: [_at(errors[E5M2], "three_times", n)[s] for n in (1000, 2000)] for s in errors[E5M2]
    }
    good = {s: [errors[p][s]["at_least_as_good"][-1] for p in PAIRS] for s in SEEDS}
    units = ("exsdotp_error", "exfma_error")
    sizes = {
        s: [
            single / _at(errors[pair], unit, 2000)[s]
            for pair, both in PUBLISHED.items()
            for single, unit in zip(both, units)
        ]
        for s in SEEDS
    }
    return [
        judge(
            "the paper: FP8 into FP16, n = 1000 and 2000, ExSdotp is three times as exact",
            {s: min(gain) >= 3 for s, gain in gains.items()},
            measured=f"RMS error of ExFMA / of ExSdotp: {in_words(_all(gains))}",
            expected=">= 3",
            paper="8.2e-3 / 2.7e-3 = 3.0 at n = 1000, 1.2e-2 / 3.9e-3 = 3.1 at 2000",
        ),
        judge(
            "but a single sum that is three times as exact is nothing unusual",
            {s: min(share) > 0.1 for s, share in far.items()},
            measured=f"share of such sums: {in_words(_all(far))}",
            expected="> 0.1",
        ),
        judge(
            "the paper's errors at n = 2000 are of the size of the RMS errors",
            {s: all(1 / 3 < share < 3 for share in found) for s, found in sizes.items()},
            measured=f"paper's / RMS, two pairs, both units: {in_words(_all(sizes))}",
            expected="1/3 to 3",
            paper="ExSdotp, ExFMA: 5.4e-7, 9.9e-7 (FP16 into FP32); 3.9e-3, 1.2e-2 (FP8 into "
            "FP16)",
        ),
        judge(
            "in a single sum ExSdotp may well be further off: it is at least as good in most",
            {s: all(0.5 < share < 0.8 for share in found) for s, found in good.items()},
            measured=f"share of sums at n = 2000, all pairs: {in_words(_all(good))}",
            expected="0.5 to 0.8",
        ),
    ]


def _all(by_seed):
    return np.concatenate(list(by_seed.values()))


def _at(by_seed, name, length):
    """A metric at one length, by seed."""
    return {
        s: float(metrics[name][list(metrics["length"]).index(length)])
        for s, metrics in by_seed.items()
    }
